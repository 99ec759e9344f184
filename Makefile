# Everything sets itself up: `make run`, `make test`, `make check` and `make bench` need Python 3.11+ and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/python -m uv
COMPILE := $(UV) pip compile -q --universal --no-header --no-annotate --generate-hashes
export UV_PYTHON_DOWNLOADS := never
AUDIT := .venv-audit

.DEFAULT_GOAL := help
.PHONY: help run test coverage test-faults soak check bench screenshots format requirements sbom audit clean

help: ## Show what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1|\2/' | column -t -s '|'

run: $(VENV)/.run ## Set up and start the service on http://127.0.0.1:8080 (ARGS="--port 9000" and so on)
	@exec $(BIN)/keywright serve $(ARGS)

test: $(VENV)/.dev ## Set up and run every test (ARGS="-k expiry" for some of them)
	@$(BIN)/python tests/run.py $(ARGS)

coverage: $(VENV)/.dev ## Run every test with coverage, and hold it against the least (needs Python 3.12+)
	@$(BIN)/python tests/run.py --coverage

test-faults: $(VENV)/.dev ## Kill, stop, cut and fill what runs, 200 times over (ARGS="--seed 123 --schedules 1" for one again)
	@$(BIN)/python tests/faults/run.py $(ARGS)

soak: $(VENV)/.dev ## Load an origin and an edge for two hours: does anything grow, is any answer wrong (ARGS="--minutes 20")
	@$(BIN)/python tests/soak/run.py $(ARGS)

check: $(VENV)/.dev ## Lint, types, import rules
	$(BIN)/ruff format --check src tests
	$(BIN)/ruff check src tests
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: $(VENV)/.dev ## Let ruff lay out the code
	$(BIN)/ruff format src tests
	$(BIN)/ruff check --fix-only src tests

bench: $(VENV)/.bench ## Measure: throughput, latency, memory, start-up (a few minutes)
	@$(BIN)/python tests/benchmarks/run.py $(ARGS)

screenshots: $(VENV)/.dev ## Take a picture of every page into screenshots/ (needs Chromium; ARGS=readme for those in the docs)
	@$(BIN)/python tests/browser/screenshots.py $(ARGS)

requirements: $(VENV)/.uv ## Pin the dependencies anew, by name, version and hash
	echo uv | $(COMPILE) - -o requirements/uv.txt $(ARGS)
	$(COMPILE) --group build -o requirements/build.txt $(ARGS)
	$(COMPILE) pyproject.toml --all-extras -o requirements/extras.txt $(ARGS)
	$(COMPILE) pyproject.toml -c requirements/extras.txt -o requirements/run.txt $(ARGS)
	$(COMPILE) pyproject.toml --all-extras --group dev -c requirements/extras.txt -o requirements/dev.txt $(ARGS)
	$(COMPILE) --group bench -c requirements/dev.txt -o requirements/bench.txt $(ARGS)
	$(COMPILE) --group audit -o requirements/audit.txt $(ARGS)

sbom: $(AUDIT)/.tools ## Write dist/keywright.cdx.json: all that a deployment may install, with hashes (CycloneDX)
	@mkdir -p dist
	@$(AUDIT)/bin/cyclonedx-py requirements requirements/extras.txt --pyproject pyproject.toml --output-reproducible --of JSON -o dist/keywright.cdx.json
	@echo "dist/keywright.cdx.json is written."

audit: $(AUDIT)/.tools ## Look up known vulnerabilities of all that is pinned (needs a network, and says so without one)
	@$(AUDIT)/bin/python requirements/audit.py

clean: ## Remove the virtual environment and every cache
	rm -rf $(VENV) $(AUDIT) .coverage* .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist

$(VENV)/.uv: requirements/uv.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Keywright needs Python 3.11 or newer: make PYTHON=python3.12 run")'
	@echo "Setting up $(VENV) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements/uv.txt
	@touch $@

$(VENV)/.run: $(VENV)/.uv requirements/run.txt requirements/build.txt pyproject.toml
	@$(UV) pip install -q --compile-bytecode --python $(BIN)/python --require-hashes -r requirements/run.txt
	@$(UV) pip install -q --python $(BIN)/python --require-hashes -r requirements/build.txt
	@$(UV) pip install -q --python $(BIN)/python --no-deps --no-build-isolation -e .
	@$(BIN)/python -m compileall -q src
	@touch $@

$(VENV)/.dev: $(VENV)/.run requirements/dev.txt
	@$(UV) pip install -q --compile-bytecode --python $(BIN)/python --require-hashes -r requirements/dev.txt
	@touch $@

$(AUDIT)/.tools: $(VENV)/.uv requirements/audit.txt
	@$(PYTHON) -m venv $(AUDIT)
	@$(UV) pip install -q --python $(AUDIT)/bin/python --require-hashes -r requirements/audit.txt
	@touch $@

$(VENV)/.bench: $(VENV)/.dev requirements/bench.txt
	@$(UV) pip install -q --python $(BIN)/python --require-hashes -r requirements/bench.txt
	@touch $@
