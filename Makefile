# `make demo` and `make test` are all that a newcomer needs; both make `.venv` first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PYTEST_ARGS ?=
CHECKOV := 3.3.30
INFRA := .venv-infra

.PHONY: demo test test-slow test-all test-emulator emulator-host check check-infra format bench clean

# One stamp per set of extras, so that a changed pyproject.toml installs again and nothing else does.
$(VENV)/.demo: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "lro-aio needs Python 3.11 or newer; name one: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[fastapi,cli]'
	@touch $@

$(VENV)/.dev: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "lro-aio needs Python 3.11 or newer; name one: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@# Its engine runs the workflow in tests. It pins a FastAPI that is too old for us and that its engine does not need.
	$(BIN)/python -m pip install --quiet --no-deps workflows-emulator==1.10.0
	$(BIN)/python -m pip install --quiet addict cryptography google-re2 jsonschema pyyaml requests typeguard
	@touch $@ $(VENV)/.demo

demo: $(VENV)/.demo  ## the main job: index a directory, lose the server half way, lose nothing
	$(BIN)/lro demo

test: $(VENV)/.dev  ## the fast lane, with the coverage gate
	$(BIN)/python -m coverage erase
	$(BIN)/python -m coverage run -m pytest -n 2 --dist loadfile -m "not slow and not alone" $(PYTEST_ARGS)
	$(BIN)/python -m coverage run -m pytest -m alone
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report

test-slow: $(VENV)/.dev  ## crash campaigns and what else takes minutes
	$(BIN)/python -m pytest -m slow --timeout=900 $(PYTEST_ARGS)

test-all: test test-slow

test-emulator: emulator-host $(VENV)/.dev  ## the Spanner tests against the official emulator
	$(BIN)/python -m pytest tests/spanner $(PYTEST_ARGS)

emulator-host:
	@test -n "$$SPANNER_EMULATOR_HOST" || { echo "set SPANNER_EMULATOR_HOST to the emulator's HOST:PORT; infra/compose.yaml starts one at 127.0.0.1:9010" >&2; exit 2; }

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

bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks.bench_lifecycle
	$(BIN)/python -m benchmarks.bench_spanner

clean:
	rm -rf $(VENV) $(INFRA) .ruff_cache .mypy_cache .coverage .coverage.* dist
