# Every target has a `##` help line; `make` prints them.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules

export SANDBOX_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/sandbox-operator
UV_HOME := $(SANDBOX_CACHE)/bin/uv
UV := $(UV_HOME)/bin/uv
PYTHON := .venv/bin/python
PYTEST := .venv/bin/pytest
LOCK := $(UV) pip compile --quiet --python-version 3.11 --generate-hashes --no-emit-index-url --custom-compile-command "make lock" $(if $(UPGRADE),--upgrade)
export PATH := $(CURDIR)/.venv/bin:$(UV_HOME)/bin:$(PATH)

.PHONY: help
help: ## Print this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

##@ Use

.PHONY: demo
demo: .venv/.done ## The main job: cluster, images, Helm, the demo experiment, its table (CLUSTER=current: your own cluster)
	@configs/demo/run.sh

.PHONY: demo-clean
demo-clean: ## Remove what the demo made, its namespace with the data included
	@configs/demo/run.sh clean

.PHONY: demo-full demo-full-clean
demo-full: .venv/.done ## Analyse, refine, process, train, infer, evaluate with a tiny text-to-video model, on the cluster
	@configs/demo-full/run.sh

demo-full-clean: ## Remove what demo-full made, its namespace with the data included
	@configs/demo-full/run.sh clean

.PHONY: demo-bench demo-bench-clean
demo-bench: .venv/.done ## The bench experiments at tiny size on the cluster, the leaderboard, its winner on all clips
	@configs/bench/run.sh

demo-bench-clean: ## Remove what demo-bench made, its namespace with the data included
	@configs/bench/run.sh clean

.PHONY: demo-sweep demo-sweep-clean
demo-sweep: .venv/.done ## A search on the cluster: twelve trials of two operators' bounds, judged by a quality classifier
	@configs/hpo/run.sh

demo-sweep-clean: ## Remove what demo-sweep made, its namespace with the data included
	@configs/hpo/run.sh clean

.PHONY: images
images: .venv/.done ## Build the images and push them where the cluster pulls from
	@images/build.sh all

.PHONY: cluster-up cluster-down cluster-status cluster-clean
cluster-up: ## Raise the embedded Kubernetes node (GPUS=8: with fake GPUs)
	@cluster/cluster up
cluster-down: ## End the node; its objects, volumes and images stay for the next time
	@cluster/cluster down
cluster-status: ## Say what runs
	@cluster/cluster status
cluster-clean: ## End the node and drop its objects, volumes and images; binaries stay
	@cluster/cluster clean

##@ Test

.PHONY: test
test: ## All tests: checks, unit, fake API, real API server, real libraries, real node
	@$(MAKE) --no-print-directory verify lint test-unit test-api test-runtime test-node

.PHONY: test-unit
test-unit: .venv/.done tools ## Models, planner, builders, runtime pieces, charts (minutes)
	$(PYTEST) -q -n $$(($$(nproc) + 1)) --dist worksteal tests/unit
	$(PYTEST) -q tests/model

.PHONY: test-api
test-api: .venv/.done tools ## Fake API server with faults, and a real etcd + kube-apiserver
	$(PYTEST) -q -n auto --dist worksteal tests/api

.PHONY: test-runtime
test-runtime: .venvs/data/.done .venvs/easyanimate/.done .venvs/modelscope/.done .venvs/swift/.done .venvs/vbench/.done ## Every hook on the real libraries
	.venvs/data/bin/python -m pytest -q -n auto --dist worksteal tests/runtime
	.venvs/easyanimate/bin/python -m pytest -q -n auto --dist worksteal tests/models/easyanimate
	.venvs/modelscope/bin/python -m pytest -q -n auto --dist worksteal tests/models/modelscope
	.venvs/swift/bin/python -m pytest -q -n auto --dist worksteal tests/models/swift
	.venvs/vbench/bin/python -m pytest -q -n auto --dist worksteal tests/models/vbench

.PHONY: test-node
test-node: .venv/.done tools ## The embedded node: demo, failures, Helm, the node itself
	@$(PYTEST) -q --timeout 900 tests/node

.PHONY: test-deep
test-deep: export SANDBOX_DEEP := 1
test-deep: test ## The same with full counts

.PHONY: bench-road
bench-road: .venv/.done ## Measure the road: demo cold and warm, hand-over, overheads (WARM=1: without the cold one)
	@tests/bench/road.py $(if $(WARM),--warm)

.PHONY: bench-scale
bench-scale: .venv/.done tools ## Measure the operator under load beside bare Jobs, on fake nodes (SMALL=1: a smoke; RESUME=1: go on)
	$(PYTHON) -m tests.bench.scale $(if $(SMALL),--small) $(if $(RESUME),--resume)

.PHONY: bench-progress
bench-progress: .venv/.done tools ## Measure the hand-over while thousands of pods tell how far they are, beside one where none does (PODS=2000)
	$(PYTHON) -m tests.bench.scale.progress $(if $(PODS),--pods $(PODS))

.PHONY: bench-check
bench-check: .venv/.done ## Compare the last bench-scale with the ranges in the repository
	$(PYTHON) -m tests.bench.scale check

.PHONY: bench-evaluate
bench-evaluate: .venvs/data/.done .venvs/easyanimate/.done .venvs/vbench/.done ## Measure evaluators: words a second, what FVD's time goes to, videos a second
	.venvs/data/bin/python -m tests.bench.evaluate
	.venvs/easyanimate/bin/python -m tests.bench.video_metrics
	.venvs/vbench/bin/python -m tests.bench.vbench

.PHONY: bench-models
bench-models: .venvs/easyanimate/.done ## Measure training steps, the cache of latents, writing videos
	.venvs/easyanimate/bin/python -m tests.bench.models

.PHONY: bench-search
bench-search: .venv/.done ## Measure how long a sweep's suggestion takes with a thousand trials
	$(PYTHON) -m tests.bench.search

##@ Develop

.PHONY: setup
setup: .venv/.done .venvs/data/.done .venvs/easyanimate/.done .venvs/modelscope/.done .venvs/swift/.done .venvs/vbench/.done tools ## Make the Python environments, build the tools

.PHONY: tools
tools: ## Build or install what the cluster and the tests need, once
	@cluster/cluster tools

.PHONY: lint
lint: .venv/.done ## Style, types, import contracts
	ruff check .
	ruff format --check .
	mypy
	lint-imports

.PHONY: format
format: .venv/.done ## Format the code
	ruff check --fix .
	ruff format .

.PHONY: generate
generate: .venv/.done .venvs/data/.done .venvs/swift/.done ## Write the generated files: CRDs, chart templates, names of libraries
	@.venvs/data/bin/python -m sandbox_runtime.data_juicer.catalogue > build-catalogue.json && mv build-catalogue.json crds/sandbox_api/data_juicer.json
	@.venvs/swift/bin/python -m sandbox_runtime.swift.catalogue > build-catalogue.json && mv build-catalogue.json crds/sandbox_api/swift.json
	@$(PYTHON) -m sandbox_api.crd crds
	@$(PYTHON) helm/generate.py
	@$(PYTHON) gitops/generate.py
	@$(PYTHON) docs/generate.py

.PHONY: verify
verify: generate ## Regenerate what is generated and fail when it differs from what is committed
	@git diff --exit-code --stat -- crds gitops helm docs/reference || { echo "generated files are stale: run 'make generate' and commit them"; exit 1; }

.PHONY: lock
lock: $(UV) ## Resolve requirements; UPGRADE=1: newest versions
	$(LOCK) --extra operator --extra cli --extra tracking --extra dev pyproject.toml -o requirements/dev.lock
	$(LOCK) images/base/requirements.in -o images/base/requirements.lock
	$(LOCK) --extra operator pyproject.toml -o images/operator/requirements.lock
	$(LOCK) --extra tracking pyproject.toml -o images/tracking/requirements.lock
	$(LOCK) images/torch/requirements.in -o images/torch/requirements.lock
	$(LOCK) --extra data pyproject.toml -o images/data/requirements.lock -c images/torch/requirements.lock
	$(LOCK) --extra easyanimate pyproject.toml -o images/easyanimate/requirements.lock -c images/torch/requirements.lock
	$(LOCK) --extra modelscope pyproject.toml -o images/modelscope/requirements.lock -c images/torch/requirements.lock
	$(LOCK) --extra swift pyproject.toml -o images/swift/requirements.lock -c images/torch/requirements.lock
	$(LOCK) --extra vbench pyproject.toml -o images/vbench/requirements.lock -c images/torch/requirements.lock
	$(LOCK) --extra detectron2 pyproject.toml -o images/vbench/detectron2.lock -c images/vbench/requirements.lock
	$(LOCK) requirements/pytest.in -o requirements/pytest.lock -c images/data/requirements.lock
	$(LOCK) requirements/models.in -o requirements/models.lock -c images/easyanimate/requirements.lock
	$(LOCK) requirements/modelscope.in -o requirements/modelscope.lock -c images/modelscope/requirements.lock
	$(LOCK) requirements/pytest.in -o requirements/swift.lock -c images/swift/requirements.lock
	$(LOCK) requirements/pytest.in -o requirements/vbench.lock -c images/vbench/requirements.lock

.PHONY: clean
clean: ## Remove the environments and build results of this checkout
	rm -rf .venv .venvs build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

# uv itself, from the same lock as the images have it.
$(UV): images/base/requirements.lock
	@python3 -c 'import venv, ensurepip' 2>/dev/null || { apt-get update -qq && apt-get install -y -qq --no-install-recommends python3-venv; }
	@python3 -m venv $(UV_HOME)
	@$(UV_HOME)/bin/pip install --quiet --disable-pip-version-check --require-hashes -r images/base/requirements.lock
	@touch $@

.venv/.done: requirements/dev.lock pyproject.toml | $(UV)
	@echo "environment for development (.venv)"
	@[ -x .venv/bin/python ] || $(UV) venv --quiet --python 3.11 .venv
	@$(UV) pip sync --quiet --python .venv/bin/python --require-hashes requirements/dev.lock
	@$(UV) pip install --quiet --python .venv/bin/python --no-deps --editable .
	@touch $@

# An image's environment, and what its tests need besides.
.venvs/data/.done: requirements/pytest.lock
.venvs/easyanimate/.done: requirements/models.lock
.venvs/modelscope/.done: requirements/modelscope.lock
.venvs/swift/.done: requirements/swift.lock
.venvs/vbench/.done: requirements/vbench.lock
.venvs/data/.done .venvs/easyanimate/.done .venvs/modelscope/.done .venvs/swift/.done .venvs/vbench/.done: .venvs/%/.done: images/%/requirements.lock pyproject.toml | $(UV)
	@echo "environment of the $* image (.venvs/$*, 5 to 6 GB, most of it shared with the others)"
	@[ -x .venvs/$*/bin/python ] || $(UV) venv --quiet --python 3.11 .venvs/$*
	@$(UV) pip sync --quiet --python .venvs/$*/bin/python --require-hashes $(filter %.lock,$^)
	@$(UV) pip install --quiet --python .venvs/$*/bin/python --no-deps --editable .
	@touch $@
