# Everything installs under the project: a private uv in .local/, the environment in .venv/. Nothing is global.

SHELL := /bin/bash
.DEFAULT_GOAL := help
UV := .local/uv/bin/uv
UV_VERSION := 0.13.9
RUN := $(UV) run --frozen --quiet
PORT ?= 8080
DATA ?=
LIMIT ?=
EPOCHS ?=
ONCE ?=
SIZES ?=
RUNS ?=
# Byte code is written once at install, so that a dozen processes start quickly.
export UV_COMPILE_BYTECODE := 1
export PYTHONDONTWRITEBYTECODE :=
export PYTHONPATH := $(CURDIR)

.PHONY: help demo serve test lint train crossvalidate report preprocess bench bench-inference bench-preprocessing \
	bench-dashboard bench-drift screenshots requirements clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-20s %s\n", $$1, $$2}'

$(UV):
	@python3 -m venv .local/uv
	@.local/uv/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

demo: $(UV) ## Run everything here and drop scans into it: [DATA=folder] [LIMIT=n] [ONCE=1 to stop at the end]
	@$(RUN) --group local python -m local $(if $(DATA),--data "$(DATA)") $(if $(LIMIT),--limit $(LIMIT)) $(if $(ONCE),--once)

serve: $(UV) ## Run the inference service alone with the released model: [PORT=8080]
	@PORT=$(PORT) $(RUN) --group inference python -m services.inference

test: $(UV) ## Run every test
	@$(RUN) --group dev python -m pytest

lint: $(UV) ## Check style, formatting, the direction of imports and types
	@$(RUN) --group dev ruff check .
	@$(RUN) --group dev ruff format --check .
	@$(RUN) --group dev lint-imports --no-cache
	@$(RUN) --group dev mypy

train: $(UV) ## Train, evaluate and export a model: DATA=folder of labelled scans [EPOCHS=n]
	@$(RUN) --group training python -m services.training train --data "$(DATA)" $(if $(EPOCHS),--epochs $(EPOCHS))

crossvalidate: $(UV) ## Train and evaluate on five folds of whole groups: DATA=folder
	@$(RUN) --group training python -m services.training crossvalidate --data "$(DATA)"

report: $(UV) ## Draw the report of the last training run
	@$(RUN) --group training python -m services.training report

preprocess: $(UV) ## Prepare a folder of scans with Spark: DATA=folder [LIMIT=n]
	@$(RUN) --group local python -m local.preprocess --data "$(DATA)" $(if $(LIMIT),--limit $(LIMIT))

bench: $(UV) ## Measure scans a second and latency from the bucket to the prediction: [DATA=folder]
	@$(RUN) --group dev python -m tests.benchmarks.corridor $(if $(DATA),--data "$(DATA)")

bench-inference: $(UV) ## Measure the inference service beside what people write first
	@$(RUN) --group dev --group bench python -m tests.benchmarks.inference

bench-preprocessing: $(UV) ## Measure Spark beside a plain loop and a process pool, for 20 minutes: [SIZES="1000 5000"] [RUNS=n]
	@$(RUN) --group dev python -m tests.benchmarks.preprocessing $(if $(SIZES),--sizes $(SIZES)) $(if $(RUNS),--runs $(RUNS))

bench-dashboard: $(UV) ## Measure the dashboard's pages
	@STREAMLIT_LOGGER_LEVEL=error $(RUN) --group dev python -m tests.benchmarks.dashboard

bench-drift: $(UV) ## Measure what drift is found in replayed streams, and what is taken for it: [DATA=folder]
	@$(RUN) --group dev python -m tests.benchmarks.drift $(if $(DATA),--data "$(DATA)")

screenshots: $(UV) ## Take the README's screenshots of every page in both themes
	@$(RUN) --group dev python -m tests.dashboard.screenshots

requirements: $(UV) ## Write each deployable's requirements.txt from the lock
	@for file in functions/*/requirements.txt services/*/requirements.txt dashboard/requirements.txt; do \
		group=$$(basename $$(dirname $$file) | tr _ -); \
		$(UV) export --quiet --frozen --no-hashes --no-annotate --no-header --only-group $$group --output-file $$file >/dev/null; \
	done

clean: ## Forget the local state: uploads, rows, logs, benchmarks
	@rm -rf .local/state .local/logs .local/bench .local/pids.json
