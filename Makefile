# `make demo` and `make test` do all set-up on a fresh machine that has python3 (3.11 or later), make and git.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test lab lint build smoke-wheel bench bench-clocks bench-watch bench-page fit lock clean

PYTHON ?= python3
VENV ?= .venv
OUT ?= out
BIN := $(VENV)/bin
PIP := -m pip --disable-pip-version-check --no-input install --quiet
READY := $(VENV)/.installed
INCIDENT ?= $(firstword $(wildcard sample_logs/*oom*/) $(sort $(wildcard sample_logs/*/)))
INCIDENT := $(patsubst %/,%,$(INCIDENT))
PYTEST_ARGS ?=
SIZE ?= smoke
SEED ?= 1
JOBS ?= 1

help: ## what can be made
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

# Dependencies first, by hash; then the project alone: pip takes no hashes for a folder, so the two do not mix in one command.
$(READY): constraints.txt pyproject.toml
	@if ! test -x $(BIN)/python; then \
	  $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "occorr needs Python 3.11 or later; give one with: make PYTHON=/path/to/python3" >&2; exit 1; }; \
	  $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "No virtual environment can be made; on Debian: apt-get install python3-venv" >&2; exit 1; }; \
	fi
	@echo "Installing what constraints.txt pins into $(VENV) (about a minute, once) …"
	@$(BIN)/python $(PIP) --require-hashes -r constraints.txt
	@$(BIN)/python $(PIP) --no-deps --no-build-isolation -e .
	@touch $@

demo: $(READY) ## analyses a sample incident into out/demo
	@test -n "$(INCIDENT)" || { echo "sample_logs/ holds no incident; give one with: make demo INCIDENT=DIR" >&2; exit 2; }
	$(BIN)/occorr analyze $(INCIDENT) -o $(OUT)/demo
	@echo
	@echo "What happened, line by line:  $(abspath $(OUT)/demo/timeline.html)  (open it in a browser)"
	@echo "For a ticket or a chat:       $(abspath $(OUT)/demo/report.md)"
	@echo "What really happened:         $(INCIDENT)/README.md"

# The page's accessibility is judged by axe; a machine without npm tests the rest.
AXE := $(VENV)/axe/node_modules/axe-core/axe.min.js
$(AXE): | $(READY)
	@if command -v npm >/dev/null; then npm install --prefix $(VENV)/axe --no-save --no-package-lock --ignore-scripts --no-audit --no-fund --silent axe-core@4.14.1 || echo "axe-core could not be installed; its test will be skipped"; fi

test: $(READY) $(AXE) ## runs all tests; those in a browser need Debian's chromium and chromium-driver
	@command -v chromium >/dev/null && command -v chromedriver >/dev/null || echo "The browser tests will be skipped: apt-get install chromium chromium-driver"
	POLARS_MAX_THREADS=1 $(BIN)/python -m pytest -n 2 $(PYTEST_ARGS) # two processes with more threads get in each other's way

lab: $(READY) ## labelled incidents with a real gateway, proxies and engine, into OUT/lab (SIZE=smoke|nightly SEED=1 JOBS=1); root, Debian
	$(BIN)/python -m tests.lab --size $(SIZE) --seed $(SEED) --jobs $(JOBS) --out $(OUT)/lab

lint: $(READY) ## ruff (rules, format), mypy and the layers; says everything before it fails
	@failed=0; \
	echo "ruff check"; $(BIN)/ruff check || failed=1; \
	echo "ruff format"; $(BIN)/ruff format --check --quiet || failed=1; \
	echo "mypy --strict"; $(BIN)/mypy || failed=1; \
	echo "lint-imports"; $(BIN)/lint-imports --no-cache || failed=1; \
	exit $$failed

build: $(READY) ## wheel and sdist into dist/
	@rm -rf dist
	$(BIN)/python -m build --no-isolation --outdir dist .

# The wheel and the sdist as a stranger gets them: outside the checkout, with the dependencies that the wheel itself names. The
# hashes are cut off here, since pip would ask for one of the wheel that was just built; the versions stay pinned.
smoke-wheel: build ## the demo and the smoke tests with the built wheel, outside the checkout
	@place=$$(mktemp -d); trap 'rm -rf "$$place"' EXIT; \
	tar -xzf dist/*.tar.gz -C "$$place" --strip-components=1; \
	rm -r "$$place"/occorr "$$place"/parsers "$$place"/reports; \
	sed -E '/^ *--hash=/d; s/ *\\$$//' constraints.txt > "$$place"/pins.txt; \
	$(PYTHON) -m venv "$$place"/venv; \
	"$$place"/venv/bin/python $(PIP) -c "$$place"/pins.txt dist/*.whl; \
	"$$place"/venv/bin/python -m pip --disable-pip-version-check check; \
	cd "$$place"; \
	if test -n "$(INCIDENT)"; then venv/bin/occorr analyze $(INCIDENT) -o demo && test -s demo/timeline.html; fi; \
	venv/bin/python $(PIP) -c pins.txt "$$(echo $(CURDIR)/dist/*.whl)[dev]"; \
	venv/bin/python -c "import occorr, sys; sys.exit(occorr.__file__.startswith('$(CURDIR)'))"; \
	venv/bin/python -m pytest -m smoke -q

bench: $(READY) ## speed and memory on a large made-up log (MB=50)
	$(BIN)/python .ci/bench.py $(MB)

bench-clocks: $(READY) ## how well simulated clocks are aligned (SEEDS=1000)
	$(BIN)/python .ci/bench_clocks.py $(SEEDS)

bench-watch: $(READY) ## how soon watch tells each fault; memory and losses at 10,000 lines a second; root (MINUTES=10)
	$(BIN)/python .ci/bench_watch.py $(MINUTES)

bench-page: $(READY) ## how fast the timeline page opens and zooms in chromium (EVENTS="10000 100000 1000000")
	$(BIN)/python .ci/bench_page.py $(EVENTS)

fit: $(READY) ## what each rule is worth, from labelled incidents (SETS="BUNDLES TRUTH …"; else the samples)
	$(BIN)/python .ci/fit.py $(SETS)

lock: $(READY) ## writes constraints.txt anew from pyproject.toml
	$(BIN)/python $(PIP) pip-tools
	$(BIN)/pip-compile --quiet --upgrade --generate-hashes --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-emit-options --extra dev --strip-extras --output-file constraints.txt pyproject.toml

clean: ## removes what was built, not the samples
	rm -rf $(VENV) $(OUT) dist build
