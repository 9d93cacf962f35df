# Every workflow is a target here; CI calls only these. `make` alone explains them.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
DEMO_FLAGS ?=
PYTEST_FLAGS ?=
LOCK := $(UV) pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --quiet \
	--no-emit-index-url --no-header --no-annotate --prerelease=if-necessary-or-explicit

.PHONY: help
help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

# Hashed locks, installed by uv; pip is the way out where uv does not reach the machine's own index.
# Compiled once: build steps write no bytecode, and TensorFlow's import from source takes more than twice as long.
define install
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if v >= (3, 11) else f"Edgeloop needs Python 3.11 or later; $(PYTHON) is {v.major}.{v.minor}. Next: make setup PYTHON=python3.11")'
	@echo "setting up $(VENV): about 2.4 GB of packages, some minutes on a slow line" >&2
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bootstrap.txt
	@VIRTUAL_ENV=$(abspath $(VENV)) $(UV) pip install --quiet --compile-bytecode --require-hashes -r $(1) \
		|| $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(1)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@
endef

$(VENV)/.all: requirements/all.txt requirements/bootstrap.txt pyproject.toml
	$(call install,requirements/all.txt)

$(VENV)/.dev: requirements/dev.txt requirements/bootstrap.txt pyproject.toml
	$(call install,requirements/dev.txt)
	@touch $(VENV)/.all

.PHONY: setup
setup: $(VENV)/.dev ## Make the virtual environment with everything, tools included

.PHONY: demo
demo: $(VENV)/.all ## Run the whole loop: push, build, validate, lab, rollout, drift, retrain, rollout
	@$(BIN)/edgeloop demo $(DEMO_FLAGS)

.PHONY: up
up: $(VENV)/.all ## Start the whole stack on this machine
	$(BIN)/edgeloop up

.PHONY: test
test: $(VENV)/.dev ## Run every test
	$(BIN)/pytest $(PYTEST_FLAGS)

.PHONY: sandbox-image
sandbox-image: ## Make an image for the container sandbox, without a registry of images (root, debootstrap, Docker)
	@deploy/sandbox-image.sh edgeloop-sandbox

.PHONY: check
check: $(VENV)/.dev ## Lint, types, import rules, generated files, contract compatibility
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/mypy
	$(BIN)/mypy tests benchmarks
	cd examples/exercise-recognition && $(abspath $(BIN))/mypy --config-file $(CURDIR)/pyproject.toml .
	$(BIN)/python -m edgeloop.contracts check

.PHONY: fmt
fmt: $(VENV)/.dev ## Format the code and mend what ruff can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.PHONY: schemas
schemas: $(VENV)/.dev ## Write proto/ and the generated tables from the code
	$(BIN)/python -m edgeloop.contracts write

.PHONY: bench
bench: $(VENV)/.dev ## Run the benchmarks, both sides in one run
	$(BIN)/python benchmarks/bus.py
	$(BIN)/python benchmarks/demo.py
	$(BIN)/python benchmarks/build.py
	$(BIN)/python benchmarks/kernels.py
	$(BIN)/python benchmarks/lab_runs.py
	$(BIN)/python benchmarks/lab.py
	$(BIN)/python benchmarks/lab_faults.py

.PHONY: lock
lock: $(VENV)/.dev ## Renew the hashed lock files
	$(LOCK) --extra dev --output-file requirements/dev.txt
	$(LOCK) --extra all --constraint requirements/dev.txt --output-file requirements/all.txt
	$(LOCK) --extra gateway --constraint requirements/dev.txt --output-file requirements/gateway.txt

.PHONY: clean
clean: ## Remove caches and the virtual environment
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
