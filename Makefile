# Every target that a person calls has a description after ##; `make help` prints them.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PLUGINS := $(sort $(wildcard plugins/*/pyproject.toml))
SANDBOX := $(wildcard sandbox/pyproject.toml)
DISTRIBUTIONS := . $(patsubst %/pyproject.toml,%,$(SANDBOX) $(PLUGINS))
EDITABLE := $(foreach folder,$(filter-out .,$(DISTRIBUTIONS)),-e ./$(folder))
# What scores needs no torch; what trains does.
LIGHT := $(foreach folder,$(filter-out . plugins/reward_model,$(DISTRIBUTIONS)),-e ./$(folder))
PACKAGES := rewardkit rwk $(patsubst %/__init__.py,%,$(wildcard sandbox/rewardkit_*/__init__.py plugins/*/rewardkit_*/__init__.py))
WORK := examples/train/work
PIP := $(BIN)/python -m pip --disable-pip-version-check
VLLM_VENV ?= .venv-vllm
VLLM_PIP := $(VLLM_VENV)/bin/python -m pip --disable-pip-version-check

# Each of these wants versions that others refuse: verl wants an earlier transformers than ours.
PEERS_VENV ?= .venv-peers
VERL_VENV ?= .venv-verl
OPENRLHF ?= 0.11.2
VERIFIERS_LEGACY ?= 0.3.1

.DEFAULT_GOAL := help
.PHONY: ui help install demo demo-score test test-fast lint typecheck pytest docs test-vllm test-integrations truth-table diff-release record-release clean

help:  ## Show this list.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))
	@echo
	@echo "  TORCH_INDEX=https://download.pytorch.org/whl/cpu  the small build of torch, for machines without a GPU"
	@echo "  PYTHON=python3.12  another interpreter     PYTEST_ARGS='-k name'  arguments for pytest"

install: $(VENV)/installed-dev  ## Install everything into .venv, editable, with tools for development.

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
	$(PIP) install -q -c constraints.txt -e '.[dev,docs,peers,ray,train]' $(subst ./sandbox,'./sandbox[test]',$(EDITABLE))
	@touch $@

demo-score: $(VENV)/installed  ## Score 240 shipped rollouts. Needs no torch.
	@mkdir -p demo-out
	$(BIN)/rewardkit plugins
	$(BIN)/rewardkit check examples/demo/reward.yaml --data examples/demo/rollouts.jsonl
	$(BIN)/rewardkit score examples/demo/rollouts.jsonl --reward examples/demo/reward.yaml --out demo-out/scored.parquet --fresh
	@echo
	@echo "The scored rows are in demo-out/scored.parquet. Next: change a weight in examples/demo/reward.yaml and run make demo-score again."
	@echo

demo: demo-score $(VENV)/installed-train $(WORK)/base  ## Score, then train a small model with a reward; about four minutes.
	$(BIN)/rewardkit train examples/train/sft.yaml
	$(BIN)/rewardkit train examples/train/grpo_math.yaml
	@echo "A model of 0.8 million parameters has learned to add, from a reward. Next: README.md."

# What was learned from another model or other data can't be gone on with.
$(WORK)/base: examples/train/build.py | $(VENV)/installed-train
	rm -rf $(WORK)/sft $(WORK)/grpo_math
	$(BIN)/python examples/train/build.py $(WORK)
	@touch $@

lint: $(VENV)/installed-dev  ## Check formatting and style with ruff.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

typecheck: $(VENV)/installed-dev  ## Check types with mypy.
	$(BIN)/mypy $(PACKAGES)

# Test files are spread over processes; more than four would only compete for the sandbox.
WORKERS ?= $(shell n=$$(nproc); [ $$n -gt 4 ] && echo 4 || echo $$n)
pytest: $(VENV)/installed-dev  ## Run all tests.
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(PYTEST_ARGS)

test: $(VENV)/installed-dev  ## Run every check: lint, types, docs and all tests.
	$(MAKE) --jobs=2 --output-sync=target lint typecheck docs
	$(MAKE) pytest

# No processes, no training, no sandbox: what a change to the core or to a verifier should be tried with first.
# Left out as slow: contracts (hostile texts of megabytes), whole runs over every format, and the comparison with TRL, which takes long to import.
FAST := tests/config tests/composite/test_cache.py tests/composite/test_combine.py tests/composite/test_plugin_calls.py \
        $(addprefix tests/process_pool/test_,fork_server.py frames.py tasks.py worker.py) \
        $(filter-out %/test_kinds.py,$(wildcard tests/scoring/formats/test_*.py)) tests/scoring/test_summary.py tests/insight \
        $(filter-out %/test_against_trl.py,$(wildcard tests/train/losses/test_*.py)) tests/train/config \
        tests/test_authoring.py tests/test_errors.py tests/test_files.py tests/test_registry.py tests/test_types.py \
        $(filter-out %/test_contract.py,$(wildcard plugins/format/tests/test_*.py plugins/length/tests/test_*.py)) \
        $(addprefix plugins/math/tests/test_,cases.py parsing.py extraction.py comparison.py numeric.py verify.py)
test-fast: $(VENV)/installed-dev  ## Run the tests without processes, training or sandbox; under two minutes.
	$(BIN)/python -m pytest -q -n 2 -m "not slow" $(FAST) $(PYTEST_ARGS)

ui/node_modules: ui/package-lock.json
	npm ci --prefix ui --no-audit --no-fund
	@touch $@

ui: ui/node_modules  ## Build the page of `rewardkit view` after a change in ui/. Needs Node 20.19 or newer.
	npm run build --prefix ui

docs: $(VENV)/installed-dev  ## Build the documentation into docs/_build/html, with strict links.
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html

$(VLLM_VENV)/installed: pyproject.toml constraints.txt requirements-vllm.txt
	$(PYTHON) -m venv $(VLLM_VENV)
	$(VLLM_PIP) install -q -c constraints.txt $(addprefix --index-url ,$(TORCH_INDEX)) torch
	$(VLLM_PIP) install -q --no-deps -r requirements-vllm.txt
	$(VLLM_PIP) install -q --no-deps --no-build-isolation -e . -e plugins/format -e plugins/length -e plugins/math
	@touch $@

test-vllm: $(VLLM_VENV)/installed  ## Run the tests of engine: vllm, in an environment of their own.
	$(VLLM_VENV)/bin/python -m pytest tests/train/rollout/engines $(PYTEST_ARGS)

$(PEERS_VENV)/installed: pyproject.toml $(PLUGINS)
	$(PYTHON) -m venv $(PEERS_VENV)
	$(PEERS_VENV)/bin/python -m pip install -q 'inspect_ai>=0.3.285,<0.4' 'lm_eval>=0.4.13,<0.5' 'skyrl-gym>=0.4,<0.5' 'verifiers>=0.4,<0.5' \
		hypothesis psutil pytest
	$(PEERS_VENV)/bin/python -m pip install -q -e '.[serve]' -e plugins/format -e plugins/length -e plugins/math
	$(PEERS_VENV)/bin/python -m pip download -q --no-deps -d $(PEERS_VENV)/legacy verifiers==$(VERIFIERS_LEGACY)
	$(PEERS_VENV)/bin/python -m zipfile -e $(PEERS_VENV)/legacy/verifiers-$(VERIFIERS_LEGACY)-*.whl $(PEERS_VENV)/legacy
	@touch $@

# OpenRLHF's own code runs from its unpacked wheel: the package needs flash-attn, which needs a GPU's compiler.
$(VERL_VENV)/installed: pyproject.toml $(PLUGINS)
	$(PYTHON) -m venv $(VERL_VENV)
	$(VERL_VENV)/bin/python -m pip install -q $(addprefix --index-url ,$(TORCH_INDEX)) torch
	$(VERL_VENV)/bin/python -m pip install -q 'verl>=0.9,<0.10' 'transformers<5.11' aiohttp hypothesis psutil pytest
	$(VERL_VENV)/bin/python -m pip install -q -e '.[serve]' -e plugins/format -e plugins/length -e plugins/math
	$(VERL_VENV)/bin/python -m pip download -q --no-deps -d $(VERL_VENV)/openrlhf openrlhf==$(OPENRLHF)
	$(VERL_VENV)/bin/python -m zipfile -e $(VERL_VENV)/openrlhf/openrlhf-$(OPENRLHF)-*.whl $(VERL_VENV)/openrlhf
	@touch $@

INTEGRATIONS := -q -W ignore -p no:cacheprovider tests/integrations $(PYTEST_ARGS)
test-integrations: $(PEERS_VENV)/installed $(VERL_VENV)/installed $(VENV)/installed-dev  ## Run the adapters' tests against the trainers and evaluators themselves.
	$(BIN)/python -m pytest $(INTEGRATIONS)
	VERIFIERS_LEGACY=$(abspath $(PEERS_VENV))/legacy $(PEERS_VENV)/bin/python -m pytest $(INTEGRATIONS)
	OPENRLHF_SOURCE=$(abspath $(VERL_VENV))/openrlhf/openrlhf-$(OPENRLHF).data/purelib/openrlhf $(VERL_VENV)/bin/python -m pytest $(INTEGRATIONS)

truth-table:  ## Run them, and write what became of failures into docs/integrations/index.md.
	REWARDKIT_WRITE_TRUTH=1 $(MAKE) test-integrations

# The corpus is scored with the present plugins, and compared with its scores at the last release.
CORPUS := benchmarks/release_corpus
build/release/%.jsonl: $(VENV)/installed-dev FORCE
	@mkdir -p $(@D)
	$(BIN)/rewardkit score $(CORPUS)/$*.jsonl --reward $(CORPUS)/$*.yaml --out $@ --no-cache --fresh

diff-release: build/release/math.jsonl build/release/code.jsonl  ## Show which scores of a fixed corpus differ from the last release's. Needs a sandbox.
	$(BIN)/rewardkit diff $(CORPUS)/math.release.jsonl build/release/math.jsonl --out build/release/math.html --fail-above 0.02
	$(BIN)/rewardkit diff $(CORPUS)/code.release.jsonl build/release/code.jsonl --out build/release/code.html --fail-above 0.02

record-release: build/release/math.jsonl build/release/code.jsonl  ## Record the corpus' scores as those of a release.
	cp build/release/math.jsonl $(CORPUS)/math.release.jsonl
	cp build/release/code.jsonl $(CORPUS)/code.release.jsonl

.PHONY: FORCE
FORCE:

clean:  ## Remove environments, caches and what the demo wrote.
	rm -rf $(VENV) $(VLLM_VENV) $(PEERS_VENV) $(VERL_VENV) demo-out $(WORK) .pytest_cache .mypy_cache .ruff_cache docs/_build
