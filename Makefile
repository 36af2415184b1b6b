# From nothing but Python 3.10+ and a package registry; where there is no prebuilt llama.cpp, a C++ compiler as well:
#   make run         install into .venv and open the playground
#   make test        install what the tests need; lint, check types, run every test
#   make test-fast   the tests that need neither a model, a playground nor a browser: some minutes on 2 cores
#   make lint        what `make test` checks before the tests
#   make fix         format, and write the files that are generated
#   make space-check prove what can be proven of a Hugging Face Space without one
#   make gpu-check   on a computer with a GPU: the tests of devices and the benchmarks there, some ten minutes
#   make docker-check run what the Dockerfile does where there is no Docker: needs root and debootstrap, some minutes
# `make test` installs nothing outside of .venv, except with INSTALL=1 a Chromium for the browser tests.
# Another Python:            make run PYTHON=python3.12
# llama.cpp built here:      make run BUILD=source
# For another kind of GPU:   make run BACKEND=cpu|metal|cuda|rocm|vulkan

PYTHON ?= python3
VENV_PYTHON = .venv/bin/python

.PHONY: run test test-fast lint fix space-check docker-check gpu-check set-up

run:
	@$(PYTHON) scripts/set_up.py starter
	@$(VENV_PYTHON) -m playground serve

test: lint
	@$(VENV_PYTHON) scripts/run_tests.py

test-fast: set-up
	$(VENV_PYTHON) -m pytest -m fast -n logical

lint: set-up
	$(VENV_PYTHON) -m ruff check .
	$(VENV_PYTHON) -m ruff format --check .
	$(VENV_PYTHON) -m mypy

fix: set-up
	$(VENV_PYTHON) -m ruff check --fix .
	$(VENV_PYTHON) -m ruff format .
	$(VENV_PYTHON) -m scripts.requirements
	$(VENV_PYTHON) -m scripts.settings_table
	$(VENV_PYTHON) scripts/draw_imports.py

space-check: set-up
	@$(VENV_PYTHON) scripts/space_check.py

docker-check:
	@$(PYTHON) scripts/docker_check.py $(DOCKER_CHECK)

gpu-check: set-up
	$(VENV_PYTHON) -m benchmarks.gpu_report

set-up:
	@$(PYTHON) scripts/set_up.py starter test
	@$(VENV_PYTHON) scripts/device_library.py
