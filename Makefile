# make app    set up and open GLIED Studio (PORT=8501, IMAGES=folder of your own photographs, HOST=127.0.0.1)
# make wheel  build dist/glied_studio-VERSION-py3-none-any.whl: the command glied, with the app and the checkpoints
# make test   set up and run the tests (AT_ONCE=2 files of them at a time)
# make check  set up, then format, lint, types and tests
# make stress  set up, then mutated files, kills, full disks, many visitors and a corpus: hours, runs/stress.md
# make detectron2-test  set up and run the tests of Bottom-Up Attention on detectron2
# make audit  set up, then report what is known of weaknesses of the packages; it never fails
SHELL := /bin/bash
PYTHON ?= python3
PORT ?= 8501
HOST ?= 127.0.0.1
IMAGES ?=
AT_ONCE ?= 2
BIN := .venv/bin
D2 := .venv-detectron2
AUDIT := .venv-audit
# Not compiled: Python compiles those modules that the app imports, once. For the tests all are, as what Python warns of
# while it compiles would be an error there.
INSTALL := python -m pip install --quiet --disable-pip-version-check --no-compile -c requirements.txt
PACKAGES := -c 'import sysconfig; print(sysconfig.get_path("purelib"))'

.PHONY: app wheel test check stress audit detectron2-test clean

app: .venv/app.done
	$(BIN)/glied app --port $(PORT) --host $(HOST) $(if $(IMAGES),--images "$(IMAGES)")

wheel: .venv/app.done
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .

test: .venv/test.done
	$(BIN)/python -m pytest -n $(AT_ONCE) --dist loadfile

check: .venv/test.done
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/oxfmt --check 'app/components/*.js'
	$(BIN)/oxlint --deny-warnings app
	$(BIN)/mypy
	$(BIN)/python -m pytest -n $(AT_ONCE) --dist loadfile

stress: .venv/test.done
	PYTHONPATH=tests $(BIN)/python -m stress

detectron2-test: $(D2)/test.done
	$(D2)/bin/python -m pytest tests/with_detectron2

# pip-audit asks PyPI's database of known weaknesses about every installed package.
audit: .venv/test.done
	@$(PYTHON) -m venv $(AUDIT) && \
	$(AUDIT)/bin/python -m pip install --quiet --disable-pip-version-check pip-audit==2.10.1 && \
	$(AUDIT)/bin/pip-audit --skip-editable --progress-spinner off --timeout 15 \
		--path "$$($(BIN)/python $(PACKAGES))" || \
		echo "Reported only: packages above have known weaknesses, or the audit could not be made."

clean:
	rm -rf dist .venv $(D2) $(AUDIT)

# A virtual environment counts as made only when its last command has succeeded.
.venv/app.done: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "GLIED Studio needs Python 3.11 or newer; name one with PYTHON=python3.11"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/$(INSTALL) -e .
	@touch $@

.venv/test.done: .venv/app.done
	$(BIN)/$(INSTALL) -e '.[evaluate,test]'
	-$(BIN)/python -W ignore -m compileall -qq -j 0 "$$($(BIN)/python $(PACKAGES))"
	@touch $@

# detectron2's own Python, out of its source package on PyPI, in an environment that also sees the packages of .venv:
# so it runs where neither its compiled part nor torchvision can be had. Users install it as its project says.
$(D2)/test.done: .venv/test.done
	$(BIN)/python -m venv --clear $(D2)
	$(BIN)/python $(PACKAGES) > "$$($(D2)/bin/python $(PACKAGES))/core.pth"
	$(D2)/bin/python -m pip install --quiet --disable-pip-version-check \
		'setuptools<81' wheel fvcore==0.1.5.post20221221 iopath==0.1.9 omegaconf==2.4.0 cloudpickle==3.1.2
	$(D2)/bin/python -m pip download --quiet --disable-pip-version-check --no-deps --no-binary :all: \
		--no-build-isolation --dest $(D2) pb1-detectron2==0.6
	tar -xzf $(D2)/pb1-detectron2-0.6.tar.gz -C "$$($(D2)/bin/python $(PACKAGES))" --strip-components=1 \
		pb1-detectron2-0.6/detectron2
	@touch $@
