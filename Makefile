# make demo: install everything into .venv and score the shipped rollouts.
# make test: install everything and run all checks and tests.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PLUGINS := $(sort $(wildcard plugins/*/pyproject.toml))
SANDBOX := $(wildcard sandbox/pyproject.toml)
DISTRIBUTIONS := . $(patsubst %/pyproject.toml,%,$(SANDBOX) $(PLUGINS))
EDITABLE := $(foreach folder,$(filter-out .,$(DISTRIBUTIONS)),-e ./$(folder))
# What scores needs no torch; what trains does.
LIGHT := $(foreach folder,$(filter-out . plugins/reward_model,$(DISTRIBUTIONS)),-e ./$(folder))
PACKAGES := rewardkit $(patsubst %/__init__.py,%,$(wildcard sandbox/rewardkit_*/__init__.py plugins/*/rewardkit_*/__init__.py))
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: demo test lint typecheck pytest clean help

help:
	@sed -n 's/^# //p' Makefile

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "rewardkit needs Python 3.11 or newer; set PYTHON=…"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: $(BIN)/python pyproject.toml constraints.txt $(SANDBOX) $(PLUGINS)
	$(PIP) install -q -c constraints.txt -e . $(LIGHT)
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(PIP) install -q -c constraints.txt torch
	$(PIP) install -q -c constraints.txt -e '.[dev,peers,ray,train]' $(subst ./sandbox,'./sandbox[test]',$(EDITABLE))
	@touch $@

demo: $(VENV)/installed
	@mkdir -p demo-out
	$(BIN)/rewardkit plugins
	$(BIN)/rewardkit check examples/demo/reward.yaml --data examples/demo/rollouts.jsonl
	$(BIN)/rewardkit score examples/demo/rollouts.jsonl --reward examples/demo/reward.yaml --out demo-out/scored.parquet --fresh
	@echo
	@echo "The scored rows are in demo-out/scored.parquet. Next: change a weight in examples/demo/reward.yaml and run make demo again,"
	@echo "or read README.md."

lint: $(VENV)/installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

typecheck: $(VENV)/installed-dev
	$(BIN)/mypy $(PACKAGES)

pytest: $(VENV)/installed-dev
	$(BIN)/python -m pytest $(PYTEST_ARGS)

test: lint typecheck pytest

clean:
	rm -rf $(VENV) demo-out .pytest_cache .mypy_cache .ruff_cache
