# Two commands do everything, from nothing but Python 3.10+, a C++ compiler and a package registry:
#   make run     install into .venv and open the playground
#   make test    install what the tests need and run them
# Another Python:  make run PYTHON=python3.12

PYTHON ?= python3
VENV_PYTHON = .venv/bin/python

.PHONY: run test

run:
	@$(PYTHON) scripts/set_up.py starter
	@$(VENV_PYTHON) -m playground serve

test:
	@$(PYTHON) scripts/set_up.py starter test
	$(VENV_PYTHON) -m ruff check .
	$(VENV_PYTHON) -m ruff format --check .
	$(VENV_PYTHON) -m mypy
	@$(VENV_PYTHON) scripts/run_tests.py
