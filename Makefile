# `make help` lists the targets. The two that matter: `make demo` and `make test`.

SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TRAIN := .tools/train/bin
JOBS ?= 400
FAULTS ?= 30
SEED ?= 1
PROCESSES ?= 4
SCHEDULES ?= 500
IMAGES ?= ingest-api,dispatcher,results,gpu-preprocessor,speech-analysis-server,local
SOURCES := libs services cli examples models tests benchmarks scripts conftest.py
PACKAGES := headrace-common headrace-analysis headrace-local headrace-ingest-api \
	headrace-dispatcher headrace-results headrace-gpu-preprocessor headrace \
	headrace-speech-analysis-server

# Where it is set, every process of every test would compile its modules anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup demo up down test test-servers test-torch outages chaos chaos-planted capacity scaling rolling drill images pods check check-types check-rest format bench reference monitoring monitoring-live alert-drill lock train clean

help: ## Show the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: ## Make the environment: Python packages, and what the local servers need besides
	@PYTHON=$(PYTHON) scripts/setup.sh

demo: setup ## Run the audio path end to end on real servers; ONCE=1 stops when the job is done
	@$(BIN)/headrace demo $(if $(ONCE),--once)

up: setup ## Start the local stack and leave it running
	@$(BIN)/headrace up --detach

down: ## Stop the local stack
	@$(BIN)/headrace down

test: setup ## Run every test on real servers, PROCESSES=4 at a time: most of them wait for something
	@$(MAKE) --no-print-directory --jobs 2 test-servers test-torch

test-servers:
	@$(BIN)/pytest --numprocesses $(PROCESSES) --dist loadfile --no-loadscope-reorder

test-torch: ## Run the tests that need torch, in the training environment
	@PYTHON=$(PYTHON) models/road-damage/setup.sh
	@# Nobody there waits for anybody: `test` runs them in what the others leave of the machine.
	@cd models/road-damage && nice ../../$(TRAIN)/python -m pytest -q
	@cd services/gpu-preprocessor/tests/torchscript && nice ../../../../$(TRAIN)/python -m pytest -q

outages: setup ## Redis loses everything with 1,000 jobs under way; Postgres is away for a minute
	@HEADRACE_OUTAGE_JOBS=1000 HEADRACE_OUTAGE_SECONDS=60 $(BIN)/pytest tests/acceptance/test_outages.py

pods: setup ## Run every role as a process held as its Kubernetes manifest says
	@HEADRACE_POD_ROLES="ingest-api dispatcher scheduler results gpu-preprocessor speech-analysis-server" \
		$(BIN)/pytest -n0 tests/deploy/test_k8s_pods.py

chaos-planted: setup ## Plant every bug there is, and show that the chaos suite catches each
	@PYTHONPATH=tests/chaos $(BIN)/python -m headrace_chaos.planting

check: setup ## Lint, format, types, import rules, dead code, generated files
	@$(MAKE) --no-print-directory --jobs 2 --output-sync=target check-types check-rest

check-types:
	$(BIN)/mypy libs/*/src services/*/src cli/src examples/*/src
	@for tests in conftest.py tests/* libs/*/tests services/*/tests examples/*/tests benchmarks scripts; \
		do echo "mypy $$tests"; $(BIN)/mypy --no-error-summary $$tests || exit 1; done

check-rest:
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/lint-imports
	$(BIN)/vulture
	$(BIN)/cfn-lint deploy/aws/*.yaml
	$(BIN)/hadolint */*/Dockerfile
	$(BIN)/python scripts/export_reference.py --check
	PYTHONPATH=scripts $(BIN)/python -m headrace_monitoring --check
	PYTHONPATH=scripts $(BIN)/python -m headrace_capacity --check

format: setup ## Format, and mend what lint can mend
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

chaos: setup ## Break a running stack and check every job: JOBS=400 FAULTS=30 MINUTES=5 SEED=1
	@PYTHONPATH=tests/chaos $(BIN)/python -m headrace_chaos --jobs $(JOBS) --faults $(FAULTS) \
		--minutes $(or $(MINUTES),5) --seed $(SEED)

scaling: setup ## Have 1, 2 and 4 replicas of each service share work, kill one, stop one; writes the table of docs/how-to/scale.md
	@PYTHONPATH=tests/scaling:tests/chaos:tests/drill $(BIN)/python -m headrace_scaling

rolling: setup ## Replace every replica under load, go back to earlier versions and forth; writes the tables of docs/how-to/upgrade.md
	@PYTHONPATH=tests/scaling:tests/chaos:tests/drill $(BIN)/python -m headrace_rolling

capacity: setup ## Measure what pieces of work cost, prove the model on another mix, write docs/how-to/capacity.md
	@PYTHONPATH=scripts $(BIN)/python benchmarks/capacity.py

drill: setup ## Kill and freeze schedulers and check every firing: MINUTES=10 SCHEDULES=500 SEED=1
	@PYTHONPATH=tests/drill $(BIN)/python -m headrace_drill --schedules $(SCHEDULES) \
		--minutes $(or $(MINUTES),10) --seed $(SEED)

images: setup ## Build every image and run it, without an engine (Debian, root); IMAGES=results,local
	@IMAGES=$(IMAGES) $(BIN)/pytest -n0 -s --timeout 1800 tests/deploy/image_builds.py

bench: setup ## Run the benchmarks, each against a peer or a limit in the same run
	$(BIN)/python benchmarks/upload_throughput.py
	$(BIN)/python benchmarks/background.py
	$(BIN)/python benchmarks/detection.py
	$(BIN)/python benchmarks/hostile_streams.py
	$(BIN)/python benchmarks/preprocess.py
	$(BIN)/python benchmarks/dispatch_throughput.py
	$(BIN)/python benchmarks/schedules.py
	$(BIN)/python benchmarks/tracing.py

reference: setup ## Write the OpenAPI files and the pages of settings and metrics from the code
	$(BIN)/python scripts/export_reference.py

monitoring: setup ## Write the dashboards, recording rules and alerts of k8s/monitoring from scripts/headrace_monitoring
	PYTHONPATH=scripts $(BIN)/python -m headrace_monitoring

monitoring-live: setup ## Let a real Prometheus scrape a stack: every expression has data, dashboards are drawn
	@$(BIN)/pytest -q -n0 -s tests/monitoring/live_monitoring.py

alert-drill: setup ## Make a fault for every alert on a running stack: each fires, and clears once it is mended
	@$(BIN)/pytest -q -n0 -s tests/monitoring/live_alerts.py

lock: setup ## Write the exact versions of all dependencies to constraints.txt
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 \
		--no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock' \
		$(addprefix --no-emit-package ,$(PACKAGES)) requirements.in services/gpu-preprocessor/cuda.in \
		-o constraints.txt

train: ## Train the road-damage detector, or go on where it stopped (Ctrl-C keeps a checkpoint)
	@PYTHON=$(PYTHON) models/road-damage/setup.sh
	@PYTHONPATH=models/road-damage/src nice -n 19 $(TRAIN)/python -m road_damage train

clean: down ## Remove the environment and the local stack with its data
	rm -rf $(VENV) .tools .headrace
