"""How the project bears what real machines do to it: `make stress`. Not part of the tests; see docs/reliability.md."""
