"""The one error that reaches a person as a message."""


class GliedError(Exception):
    """Says in one sentence what was expected, what came instead, and what to do."""


def within(options: object, **limits: tuple[int | float, int | float]) -> None:
    """Raises GliedError for an option outside its limits (lowest, highest)."""
    for name, (low, high) in limits.items():
        if not low <= getattr(options, name) <= high:
            raise GliedError(f"{name} must be between {low} and {high}, got {getattr(options, name)}; change it.")
