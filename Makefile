# One command for people and CI alike; each step says in a line what it does.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WEB := $(shell find web -type f -not -path 'web/node_modules/*' 2>/dev/null)
PAGE := src/noria/server/static/index.html

.PHONY: demo test check bench web clean format
.DEFAULT_GOAL := help

help: ## What can be made
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/'

demo: $(VENV)/.demo $(PAGE) ## Set up what is needed, then show the whole life of a model in about a minute
	@echo "demo: the whole life of a model, on real data"
	@$(BIN)/noria demo

test: $(VENV)/.test $(PAGE) ## Set up what is needed, then run checks and tests
	@$(MAKE) --no-print-directory lint
	@echo "test: run the tests; skipped ones say why at the end"
	@$(BIN)/pytest -n 2 --no-loadscope-reorder

check: $(VENV)/.test $(PAGE) ## Format, lint, types, import contracts
	@$(MAKE) --no-print-directory lint

lint:
	@echo "check: format and lint (ruff)"
	@$(BIN)/ruff format --check --quiet . && $(BIN)/ruff check --quiet .
	@echo "check: types (mypy --strict)"
	@$(BIN)/mypy --no-error-summary
	@echo "check: floors and import contracts (import-linter)"
	@out=$$($(BIN)/lint-imports 2>&1) || { echo "$$out"; exit 1; }

format: $(VENV)/.test ## Format the code
	@$(BIN)/ruff format --quiet . && $(BIN)/ruff check --quiet --fix .

bench: $(VENV)/.bench ## Measure side by side with peers; results go to bench/results
	@for file in log_call.py startup.py "tracking.py --quick"; do echo "bench: $$file"; $(BIN)/python bench/$$file || exit 1; done

web: $(PAGE) ## Build the web page
$(PAGE): $(WEB) | $(VENV)/.demo
	@echo "web: build the page"
	@rm -f $(PAGE)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps -c constraints.txt -e .
	@touch $(PAGE)

$(VENV)/bin/python:
	@echo "set up: make a virtual environment in $(VENV)"
	@$(PYTHON) -c 'import sys; sys.exit("Noria needs Python 3.11 or newer; this is %d.%d. Name another one: make PYTHON=python3.12" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	@$(PYTHON) -m venv $(VENV) 2>/dev/null || { rm -rf $(VENV); uv venv --seed --quiet $(VENV) 2>/dev/null; } || { rm -rf $(VENV); virtualenv --quiet $(VENV) 2>/dev/null; } || \
	 { rm -rf $(VENV); echo "set up: $(PYTHON) cannot make virtual environments. Install one of: the package python3-venv, uv, virtualenv." >&2; exit 1; }

$(VENV)/.demo: pyproject.toml constraints.txt hatch_build.py | $(VENV)/bin/python
	@echo "set up: install Noria and what the demo needs (PyTorch is large: this takes minutes, once)"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[demo]'
	@touch $@

$(VENV)/.test: $(VENV)/.demo
	@echo "set up: install what the tests need"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[test]'
	@touch $@

$(VENV)/.bench: $(VENV)/.test
	@echo "set up: install the peers to measure against"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[bench]'
	@touch $@

clean: ## Remove what was built
	@rm -rf $(VENV) web/node_modules src/noria/server/static bench/results
