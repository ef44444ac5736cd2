# Every target that needs Python first makes .venv from constraints.txt, once; after that nothing needs the network.
MAKEFLAGS += --no-builtin-rules --warn-undefined-variables
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= python3
PORT ?= 3000
ARGS ?=
# Of tests: two that mostly wait for processes, and one that computes.
WORKERS ?= 3
EXTRAS := dev,notebook,avro,redis

BIN := .venv/bin
VENV := .venv/.installed

.PHONY: help demo demo-kafka ui notebook test quick check static fmt fmt-check lint types arch coverage bench constraints clean

help: ## Show this list
	@grep -E '^[a-z-]+:.*## ' $(firstword $(MAKEFILE_LIST)) | sed -E 's/^([a-z-]+):[^#]*## /\1\t/' | while IFS=$$'\t' read -r name text; do printf '  %-12s %s\n' "$$name" "$$text"; done

demo: $(VENV) ## Generate a month of shop events, build it through Dagster, stream live ones, show all
	$(BIN)/sequence-platform demo $(ARGS)

demo-kafka: $(VENV) ## The same, its live events through a Kafka that is started for it
	$(BIN)/sequence-platform demo --kafka $(ARGS)

ui: $(VENV) ## Open the Dagster UI on what was built (PORT=3000)
	@home="$${SEQUENCE_PLATFORM_HOME:-.sequence_platform}/dagster"; mkdir -p "$$home"; \
	[ -e "$$home/dagster.yaml" ] || cp dagster.yaml "$$home/"; \
	export DAGSTER_HOME="$$(cd "$$home" && pwd)" PATH="$(CURDIR)/$(BIN):$$PATH"; \
	export PYTHONWARNINGS='ignore:Function `dev_command` is superseded'; \
	echo "Dagster UI: http://127.0.0.1:$(PORT)   (Ctrl-C ends it)"; \
	exec dagster dev -w workspace.yaml -h 127.0.0.1 -p $(PORT)

notebook: $(VENV) ## Open the notebooks
	$(BIN)/jupyter lab notebooks

test: $(VENV) ## Run every test this machine can run (WORKERS=3; 0 runs them in one process)
	$(BIN)/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

quick: $(VENV) ## Run the tests that need no other process and little time
	$(BIN)/pytest -m "not integration and not slow and not kafka" $(ARGS)

check: static test ## Run all gates: format, lint, types, architecture, tests

static: fmt-check lint types arch # what can be judged without running it

fmt: $(VENV) ## Format the code and mend what lint can mend by itself
	$(BIN)/ruff check --fix-only --quiet
	$(BIN)/ruff format

fmt-check: $(VENV)
	$(BIN)/ruff format --check

lint: $(VENV) ## Lint with ruff
	$(BIN)/ruff check

types: $(VENV) ## Check types with mypy --strict
	$(BIN)/mypy

arch: $(VENV) ## Check the import contracts of setup.cfg
	$(BIN)/lint-imports --no-logo --no-cache

coverage: $(VENV) ## Run the quick tests and report the lines and branches they miss
	$(BIN)/pytest -m "not integration and not slow and not kafka" --cov --cov-report=term-missing $(ARGS)

bench: $(VENV) ## Run the benchmarks and print their ratios
	for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python "$$script" $(ARGS); done

constraints: ## Write constraints.txt anew: the newest versions that setup.cfg allows
	scratch=$$(mktemp -d); trap 'rm -rf "$$scratch"' EXIT; \
	$(PYTHON) -m venv "$$scratch"; \
	"$$scratch/bin/pip" install --quiet --disable-pip-version-check -e ".[$(EXTRAS),s3]"; \
	{ echo "# Exact versions of what setup.cfg asks for, all extras. Written by 'make constraints'; the tests ran with these."; \
	  "$$scratch/bin/pip" list --format=freeze --disable-pip-version-check \
	    --exclude pip --exclude setuptools --exclude wheel --exclude sequence-platform; } > "$$scratch/new"; \
	cp "$$scratch/new" constraints.txt

clean: ## Remove the environment, caches and everything that was built
	rm -rf .venv .sequence_platform build dist *.egg-info .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV): setup.cfg pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(v < (3, 11) and f"Python {v[0]}.{v[1]} found, 3.11 or newer expected. Next: make PYTHON=/path/to/python3.11 ...")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -e ".[$(EXTRAS)]" -c constraints.txt
	touch $@
