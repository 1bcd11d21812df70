# The habits. `make demo` and `make test` need nothing but Python 3.11.
PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin


.PHONY: demo serve test lint bench lock clean judge-clients judge-dependencies spark judge mutants

$(BIN)/lakemesh: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

demo: $(BIN)/lakemesh
	$(BIN)/lakemesh demo

serve: $(BIN)/lakemesh
	$(BIN)/lakemesh serve

test: $(BIN)/lakemesh
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

# The clients and generators that others wrote, each in an environment of its own, and the tests that have them work.
judge-clients: $(BIN)/lakemesh
	$(BIN)/python -m tests.interop.clients
	$(BIN)/python -m pytest tests/interop/test_*_clients.py

# Apache Spark and a Java to run it, from PyPI alone, in an environment of its own: the second opinion on SQL.
SPARK ?= .cache/spark

$(SPARK)/installed: tests/spark/requirements.txt
	$(PYTHON) -m venv $(SPARK)
	$(SPARK)/bin/pip install --quiet --disable-pip-version-check -r tests/spark/requirements.txt
	@touch $@

spark: $(SPARK)/installed

judge: $(BIN)/lakemesh spark
	LAKEMESH_SPARK=$(abspath $(SPARK)) $(BIN)/python -m pytest tests/spark

lint: $(BIN)/lakemesh
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

judge-dependencies: $(BIN)/lakemesh
	$(BIN)/python -m tests.judges.dependencies

# Do the tests notice when one of the promises that matter most is broken?
mutants: $(BIN)/lakemesh
	$(BIN)/python -m tests.judges.mutants

bench: $(BIN)/lakemesh
	$(BIN)/python -m benchmarks

lock: $(BIN)/lakemesh
	$(BIN)/python -m uv pip compile --quiet --no-header --no-annotate --no-emit-index-url --extra databricks --extra train --extra instrumentation --extra postgres -o requirements.txt pyproject.toml
	$(BIN)/python -m uv pip compile --quiet --no-header --no-annotate --no-emit-index-url --extra dev -o requirements-dev.txt pyproject.toml

clean:
	rm -rf $(VENV) .lakemesh
