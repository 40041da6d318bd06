# make app    set up and open GLIED Studio (PORT=8501, IMAGES=folder of your own photographs)
# make test   set up and run the tests
# make check  set up, then format, lint, types and tests
SHELL := /bin/bash
PYTHON ?= python3
PORT ?= 8501
IMAGES ?=
BIN := .venv/bin
# idle threads must not spin on a shared machine; must be set before torch is imported
export OMP_WAIT_POLICY ?= passive

.PHONY: app test check clean

app: .venv/app.done
	GLIED_IMAGES="$(IMAGES)" $(BIN)/streamlit run app/main.py --server.port $(PORT)

test: .venv/test.done
	$(BIN)/python -m pytest

check: .venv/test.done
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest

clean:
	rm -rf .venv

# A virtual environment counts as made only when its last command has succeeded.
.venv/app.done: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "GLIED Studio needs Python 3.11 or newer; name one with PYTHON=python3.11"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

.venv/test.done: .venv/app.done
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test]'
	@touch $@
