# Verbs of the project. It needs `python3` (3.11 to 3.13) and standard tools; everything else it installs here.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed
export PATH := $(CURDIR)/$(BIN):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help install run up down status check test bench lock clean

help:  ## what can be done
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: $(STAMP)  ## set up the environment in .venv

$(STAMP): requirements.txt requirements-dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
		|| { echo "error: Python 3.11 to 3.13 is needed; say which with make PYTHON=python3.12" >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@test -x $(BIN)/uv || { echo "installing uv"; $(BIN)/python -m pip install --quiet --disable-pip-version-check uv; }
	@echo "installing the pinned environment"
	@$(BIN)/uv pip install --system-certs --quiet --python $(BIN)/python -r requirements.txt -r requirements-dev.txt
	@touch $(STAMP)

run: install  ## turn the whole loop once, on the demo, under a real Airflow
	@$(BIN)/python -m local run

up: install  ## start Airflow, MLflow and serving, and leave them running
	@$(BIN)/python -m local up

down: install  ## stop them
	@$(BIN)/python -m local down

status: install  ## what is running
	@$(BIN)/python -m local status

check: install  ## style, types, imports, schemas
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yaml
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema --schemafile deploy/grafana/dashboard.schema.json deploy/grafana/dashboards/*.json

test: install  ## every test
	$(BIN)/python -m pytest -n 2

bench: install  ## speed and memory against peers
	$(BIN)/python -m benchmarks.chain
	$(BIN)/python -m benchmarks.large_tables
	$(BIN)/python -m benchmarks.gate
	$(BIN)/python -m benchmarks.drift
	$(BIN)/python -m benchmarks.estimation
	$(BIN)/python -m benchmarks.busy_log
	$(BIN)/python -m benchmarks.serving

lock: install  ## compile the pinned requirements from the chosen ones
	$(BIN)/uv pip compile requirements.in --universal --python-version 3.11 --no-emit-index-url --no-emit-find-links --quiet --upgrade -o requirements.txt
	$(BIN)/uv pip compile requirements-dev.in --universal --python-version 3.11 --no-emit-index-url --no-emit-find-links --quiet --upgrade -o requirements-dev.txt

clean: down  ## forget all local state: data, runs, models
	rm -rf .evergreen data/demo
