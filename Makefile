# make demo: install everything into .venv, score the shipped rollouts, then train a small model with a reward (some minutes).
# make demo-score: the first half alone, which needs no torch.
#   TORCH_INDEX=https://download.pytorch.org/whl/cpu takes the small build of torch, for machines without a GPU.
# make test: install everything and run all checks and tests.
# make test-vllm: install vLLM for CPUs into an environment of its own (it pins other versions) and run its tests.
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
WORK := examples/train/work
PIP := $(BIN)/python -m pip --disable-pip-version-check
VLLM_VENV ?= .venv-vllm
VLLM_PIP := $(VLLM_VENV)/bin/python -m pip --disable-pip-version-check

.PHONY: demo demo-score test lint typecheck pytest test-vllm clean help

help:
	@sed -n 's/^# //p' Makefile

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "rewardkit needs Python 3.11 or newer; set PYTHON=…"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: $(BIN)/python pyproject.toml constraints.txt $(SANDBOX) $(PLUGINS)
	$(PIP) install -q -c constraints.txt -e . $(LIGHT)
	@touch $@

$(VENV)/installed-train: $(VENV)/installed
	$(PIP) install -q -c constraints.txt $(addprefix --index-url ,$(TORCH_INDEX)) torch
	$(PIP) install -q -c constraints.txt -e '.[train]'
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed-train
	$(PIP) install -q -c constraints.txt -e '.[dev,peers,ray,train]' $(subst ./sandbox,'./sandbox[test]',$(EDITABLE))
	@touch $@

demo-score: $(VENV)/installed
	@mkdir -p demo-out
	$(BIN)/rewardkit plugins
	$(BIN)/rewardkit check examples/demo/reward.yaml --data examples/demo/rollouts.jsonl
	$(BIN)/rewardkit score examples/demo/rollouts.jsonl --reward examples/demo/reward.yaml --out demo-out/scored.parquet --fresh
	@echo
	@echo "The scored rows are in demo-out/scored.parquet. Next: change a weight in examples/demo/reward.yaml and run make demo-score again."
	@echo

demo: demo-score $(VENV)/installed-train $(WORK)/base
	$(BIN)/rewardkit train examples/train/sft.yaml
	$(BIN)/rewardkit train examples/train/grpo_math.yaml
	@echo "A model of 0.8 million parameters has learned to add, from a reward. Next: README.md."

# What was learned from another model or other data can't be gone on with.
$(WORK)/base: examples/train/build.py | $(VENV)/installed-train
	rm -rf $(WORK)/sft $(WORK)/grpo_math
	$(BIN)/python examples/train/build.py $(WORK)
	@touch $@

lint: $(VENV)/installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

typecheck: $(VENV)/installed-dev
	$(BIN)/mypy $(PACKAGES)

pytest: $(VENV)/installed-dev
	$(BIN)/python -m pytest $(PYTEST_ARGS)

test: lint typecheck pytest

$(VLLM_VENV)/installed: pyproject.toml constraints.txt requirements-vllm.txt
	$(PYTHON) -m venv $(VLLM_VENV)
	$(VLLM_PIP) install -q -c constraints.txt $(addprefix --index-url ,$(TORCH_INDEX)) torch
	$(VLLM_PIP) install -q --no-deps -r requirements-vllm.txt
	$(VLLM_PIP) install -q --no-deps --no-build-isolation -e . -e plugins/format -e plugins/length -e plugins/math
	@touch $@

test-vllm: $(VLLM_VENV)/installed
	$(VLLM_VENV)/bin/python -m pytest tests/train/rollout/engines $(PYTEST_ARGS)

clean:
	rm -rf $(VENV) $(VLLM_VENV) demo-out $(WORK) .pytest_cache .mypy_cache .ruff_cache
