# make run PORT=8000 DATA=.data GATEWAYS=2 (default: one a core) · make test · make check · make lock
# Everything is installed into .venv/ and tests/node_modules/ from the locks; nothing outside this folder changes.

PORT ?= 8000
DATA ?= .data
GATEWAYS ?=
WORKERS ?= 1
TESTS ?= tests

# The first Python between 3.11 and 3.13 that works (a shim on PATH may name one that is not installed).
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
# An instance is half a dozen Python processes: without bytecode each of them compiles all libraries at every start.
unexport PYTHONDONTWRITEBYTECODE
# The lock is complete, so nothing is left to resolve; bytecode is written when a module is first imported.
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --require-hashes --no-deps --no-compile

.PHONY: run test check format lock clean

run: .venv/run.stamp
	@exec $(BIN)/python manage.py up --port $(PORT) --data $(DATA) $(if $(GATEWAYS),--gateways $(GATEWAYS)) --workers $(WORKERS)

test: .venv/dev.stamp tests/node_modules/.stamp
	@$(BIN)/python -m pytest -n auto --durations 10 $(TESTS)

check: .venv/dev.stamp tests/node_modules/.stamp
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@tests/node_modules/.bin/tsc -p tests/jsconfig.json

format: .venv/dev.stamp
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

# Versions and hashes of every dependency; the lock names no host and no path of this machine.
lock: .venv/dev.stamp
	@$(BIN)/python -m pip --disable-pip-version-check install --quiet uv
	@UV="$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --upgrade \
		--no-header --no-annotate --no-config" && \
	$$UV pyproject.toml -o requirements/run.txt && \
	$$UV pyproject.toml --group dev -c requirements/run.txt -o requirements/dev.txt
	@cd tests && npm install --package-lock-only --ignore-scripts

clean:
	rm -rf .venv tests/node_modules

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "A Python from 3.11 to 3.13 is needed on PATH (or: make PYTHON=/path/to/python3.11)"; exit 1; }
	@$(PYTHON) -m venv .venv

.venv/run.stamp: requirements/run.txt | .venv/bin/python
	@echo "Installing what the server needs into .venv (once) ..."
	@$(PIP) -r $<
	@touch $@

.venv/dev.stamp: requirements/dev.txt requirements/run.txt | .venv/bin/python
	@echo "Installing what the tests need into .venv (once) ..."
	@$(PIP) -r $<
	@touch $@ .venv/run.stamp

tests/node_modules/.stamp: tests/package-lock.json
	@echo "Installing the npm packages of the tests (once) ..."
	@cd tests && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@
