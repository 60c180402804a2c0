# `make help` lists what there is to type.
.DEFAULT_GOAL := help
.PHONY: help setup demo test lint check pythons api docs preview bench fresh dist clean

PYTHON ?= python3
# the environment; `make setup VENV=another` makes a second one
VENV = .venv
BIN = "$(VENV)/bin"
SETUP = @$(PYTHON) scripts/setup.py --venv "$(VENV)"
# Sampling and R are memory- and processor-hungry: two test processes at most.
WORKERS ?= $(shell n=$$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2); [ $$n -gt 2 ] && n=2; echo $$n)

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## make .venv with all engines; install R and its packages where they are missing
	$(SETUP)

demo: setup ## fit real data with every engine, compare them, draw the picture
	@$(BIN)/python examples/demo.py

# Small matrices, two processes: threads of the linear algebra would only wait for each other.
test pythons: export OPENBLAS_NUM_THREADS ?= 1
test pythons: export OMP_NUM_THREADS ?= 1
test pythons: export MKL_NUM_THREADS ?= 1

test: setup ## run the tests on all installed engines
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup tests

lint: setup ## formatting, lint, types, layers, spelling and prose, without the tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell
	$(BIN)/python scripts/prose.py

check: lint test ## everything that must pass: lint and tests

pythons: ## the tests without R, PyMC and Dask on each further Python, and those of the other PyMC
	$(SETUP)
	@$(PYTHON) scripts/further_pythons.py --workers $(WORKERS) --beside "$(VENV)"

api: ## store the public names and signatures anew, after a change that is meant
	@$(BIN)/python scripts/public_api.py --write

docs: ## build the documentation into site/; pages are run again only if something that they use has changed
	$(SETUP) docs
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

preview: ## build the documentation without running pages that have changed
	$(SETUP) docs
	@NO_MKDOCS_2_WARNING=1 UNIMIX_DOCS_PREVIEW=1 $(BIN)/mkdocs build --strict

bench: ## measure against the bare engines and against bambi; half an hour, into benchmarks/results/
	$(SETUP) bench
	@$(BIN)/python -m benchmarks --json benchmarks/results/table.json --markdown benchmarks/results/table.md
	@$(BIN)/python -m benchmarks.growth --json benchmarks/results/growth.json --picture benchmarks/results/growth.png

fresh: ## try the README's commands on bare Debian machines (root and debootstrap; an hour)
	@bash scripts/fresh_machine.sh $(RELEASES)

dist: ## build sdist and wheel, try them out in an empty environment, put them into dist/
	@$(PYTHON) -B scripts/dist.py

clean: ## remove the environment, caches and built files
	rm -rf .venv .cache site dist build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -type d -name __pycache__ -prune -exec rm -rf {} +
