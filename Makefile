# The six verbs of this checkout. `make setup` makes .venv with everything; the others use .venv, or .venv-test where
# the README's command has made that one, or PYTHON=...
PYTHON ?= $(firstword $(wildcard .venv/bin/python .venv-test/bin/python) .venv/bin/python)

.PHONY: setup fix check test test-slow docs

setup:
	python3 -m venv .venv
	.venv/bin/pip install -q -e '.[dev]'

fix:
	$(PYTHON) -m ruff check -q --fix .
	$(PYTHON) -m ruff format -q .

check:
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy

test:
	$(PYTHON) -m pytest -q

test-slow:
	$(PYTHON) -m pytest -q -m slow

docs:
	$(PYTHON) -m leptond.docs_build.reference .
