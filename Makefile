# Two commands do everything on a machine that has Python 3.11 and make:  make run   make test
PYTHON ?= $(or $(shell command -v python3.11),$(shell command -v python3))
VENV   ?= .venv
BIN    := $(VENV)/bin
ARGS   ?=
WORKERS ?= 2
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes

.PHONY: run demo test lint types contracts unit bench nightly campaign-checkpoints campaign-crash campaign-stateful lock clean help

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

run: $(VENV)/.run ## start aiops for this host (ARGS="--port 9000 --config my.yaml")
	@exec $(BIN)/aiops run $(ARGS)

test: lint types contracts unit ## everything that CI runs

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed"; exit 2; }
	@echo "making an environment in $(VENV) ..." >&2
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.run: requirements/run.lock pyproject.toml | $(VENV)/bin/python
	@echo "installing locked dependencies ..." >&2
	@$(PIP) -r requirements/run.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: requirements/dev.lock pyproject.toml | $(VENV)/bin/python
	@echo "installing locked development dependencies ..." >&2
	@$(PIP) -r requirements/dev.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@ $(VENV)/.run

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy

contracts: $(VENV)/.dev
	$(BIN)/lint-imports

unit: $(VENV)/.dev
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup --cov --cov-report=term:skip-covered --cov-report= $(ARGS)

bench: $(VENV)/.dev ## every benchmark, quick
	@for b in bench/[a-z]*.py; do echo "== $$b"; $(BIN)/python $$b --quick || exit 1; done

campaign-crash: $(VENV)/.dev ## kill -9 the daemon at every failpoint and 1,000 times at random (half an hour; ARGS="--kills 100")
	$(BIN)/python tests/campaign/crash.py $(ARGS)

campaign-checkpoints: $(VENV)/.dev ## 10,000 mutated checkpoints: nobody is stopped without a valid proof (ARGS="--cases 100000")
	$(BIN)/python tests/campaign/checkpoints.py $(ARGS)

campaign-stateful: $(VENV)/.dev ## the decision core on a lying cluster: 2,000 examples of up to 200 steps
	$(BIN)/python tests/campaign/stateful.py $(ARGS)

lock: $(VENV)/.dev ## renew the locks from pyproject.toml (needs uv)
	uv pip compile -q --upgrade --generate-hashes --python-version 3.11 --no-emit-index-url --no-header --no-annotate \
	  --extra postgres --extra kubernetes --extra slurm --extra build -o requirements/run.lock pyproject.toml
	uv pip compile -q --upgrade --generate-hashes --python-version 3.11 --no-emit-index-url --no-header --no-annotate \
	  --extra dev -c requirements/run.lock -o requirements/dev.lock pyproject.toml

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .import_linter_cache .hypothesis
