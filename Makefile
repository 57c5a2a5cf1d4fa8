# Everything runs in .venv, made on first use with the python3 of the path (or PYTHON=...).
PYTHON ?= python3
BIN := .venv/bin
QUICKLY_COMPILED := --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1

.PHONY: tune test pytest lint bench clean

tune: .venv/ready
	$(BIN)/gausstune tune --network resnet-18 --layer rb1-conv1 --trials 64 --log out/tune/resnet-18.jsonl

test: .venv/test
	$(MAKE) --jobs 2 lint pytest

# Tests compile more than they compute.
pytest: .venv/test
	JAX_DISABLE_MOST_OPTIMIZATIONS=true XLA_FLAGS="$(QUICKLY_COMPILED)" $(BIN)/python -m pytest --numprocesses auto --dist loadfile

lint: .venv/test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

bench: .venv/test
	$(BIN)/python -m pytest tests/benchmarks --benchmark-only

clean:
	rm -rf .venv out

$(BIN)/python:
	$(PYTHON) -m venv .venv

.venv/ready: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

.venv/test: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable ".[test]"
	@touch $@
