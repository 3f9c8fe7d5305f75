# `make demo` and `make test` are all that a fresh machine needs: each makes .venv and installs what it uses.
# Variables: PYTHON (the interpreter to build .venv from), VENV (where), WORKERS (test processes), PYTEST_ARGS.

PYTHON ?= python3
VENV ?= .venv
WORKERS ?= 2
PYTEST_ARGS ?=

BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo test test-coreml on-macos lint format wheel clean

help:
	@echo "make demo         the bundled detector to INT8 on this machine, with its accuracy and speed"
	@echo "make test         all tests"
	@echo "make test-coreml  on a Mac: the tests that run Core ML itself"
	@echo "make lint         ruff and mypy"
	@echo "make format       let ruff format the code"
	@echo "make wheel        sdist and wheel into dist/"
	@echo "make clean        remove .venv and everything that was built"

demo: $(VENV)/.installed-demo
	$(BIN)/yolo12edge demo

# One thread a process: test processes that each start a thread per core only wait for one another.
test: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile $(PYTEST_ARGS)

# Here and nowhere else is Core ML itself run; `make test` compares with an evaluator and a false library.
test-coreml: on-macos $(VENV)/.installed-dev
	$(BIN)/python -m pytest -q -m coreml tests/mac $(PYTEST_ARGS)

on-macos:
	@test "$$(uname -s)" = Darwin || { echo "make test-coreml needs a Mac, and this is $$(uname -s)" >&2; exit 1; }

lint: $(VENV)/.installed-dev
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy -p yolo12edge

format: $(VENV)/.installed-dev
	$(BIN)/python -m ruff check --fix .
	$(BIN)/python -m ruff format .

wheel: $(VENV)/.installed-dev
	$(BIN)/python -m build

clean:
	rm -rf $(VENV) build dist demo-output *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp says that an installation went through to its end; it is done again when what it installs changes.
$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "yolo12edge needs Python 3.10 or newer, and \
	$(PYTHON) is " + sys.version.split()[0] + ". Name another one: make PYTHON=python3.12 $(MAKECMDGOALS)")'
	$(PYTHON) -m venv --clear $(VENV)
	$(PIP_INSTALL) "pip>=23.1"
	@touch $@

$(VENV)/.installed-demo: $(VENV)/.created pyproject.toml constraints.txt
	@echo "Installing into $(VENV): a minute or two, more where PyTorch has to be downloaded"
	$(PIP_INSTALL) -e ".[export]"
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.created pyproject.toml constraints.txt
	@echo "Installing into $(VENV): a minute or two, more where PyTorch has to be downloaded"
	$(PIP_INSTALL) -e ".[dev]"
	@touch $@ $(VENV)/.installed-demo
