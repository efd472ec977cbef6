# Everything that a newcomer, a developer and CI run. `make` alone prints this list.
SHELL := /bin/bash
.DEFAULT_GOAL := help
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# The first of these that runs and is 3.11 or 3.12 (a shim that only exists does not count).
PYTHON ?= $(shell for p in python3.12 python3.11 python3 python; do \
  $$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' >/dev/null 2>&1 && { echo $$p; break; }; done)
ARGS ?=
# The machine's own certificates: a company's proxy is trusted like a browser trusts it.
export UV_SYSTEM_CERTS ?= 1
# Compiled once here, instead of by each process at its first start: the bytecode of what the stack imports, and the
# loops of `models` (numba).
WARM := import bytewax, confluent_kafka, faiss, fastapi, httptools, numba, onnxruntime, polars, prometheus_client, \
  pyarrow.parquet, pydantic_settings, redis.asyncio, rich.live, sklearn.utils.extmath, structlog, typer, uvicorn, uvloop

.PHONY: help setup demo up check test bench docs lock clean

help:  ## show this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

setup: $(READY)  ## create .venv with the `kairos` command from the locked, hashed packages

$(READY): requirements.lock requirements-uv.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "kairos needs Python 3.11 or 3.12 on the PATH (or: make PYTHON=/path/to/python3.11)"; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@test -x $(BIN)/uv || $(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements-uv.lock
	@VIRTUAL_ENV=$(VENV) $(BIN)/uv pip sync -q --require-hashes requirements.lock requirements-uv.lock
	@VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install -q --no-deps --no-build-isolation -e .
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -c "$(WARM)" & $(BIN)/python -c "import models; models.warm()"; wait
	@touch $(READY)

demo: $(READY)  ## the whole engine on this machine, with live shop traffic (ARGS="--for 20s --json")
	@exec $(BIN)/kairos demo $(ARGS)

up: $(READY)  ## the embedded stack in the foreground (ARGS="--port 8000 …")
	@exec $(BIN)/kairos up $(ARGS)

check: $(READY)  ## ruff, the strict type checker and the import arrows
	@$(BIN)/ruff check -q .
	@$(BIN)/ruff format -q --check .
	@$(BIN)/mypy
	@$(BIN)/pytest -q tests/unit/test_arrows.py

test: $(READY)  ## all tests, real servers included (ARGS="-k name")
	@$(BIN)/pytest $(ARGS)

bench: $(READY)  ## the three benchmarks, each with its floor in the same run
	@$(BIN)/kairos bench ingest --json && $(BIN)/kairos bench freshness --json && $(BIN)/kairos bench serving --json

docs: $(READY)  ## write the tables of docs/ anew from the code
	@$(BIN)/python -m feature_store docs/features.md
	@$(BIN)/python -m cli.docs

lock: $(READY)  ## resolve the dependencies anew into the universal, hashed lock
	@$(BIN)/uv pip compile -q --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --all-extras -o requirements.lock pyproject.toml
	@$(BIN)/uv pip compile -q --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header -o requirements-uv.lock requirements-uv.in

clean:  ## remove the environment and what the demo left
	@rm -rf $(VENV) .kairos .mypy_cache .pytest_cache .ruff_cache
