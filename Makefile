PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
FAST := -m "not process and not slow and not soak"

.DEFAULT_GOAL := help
unexport PYTHONDONTWRITEBYTECODE # without cached bytecode the tests take twice as long
.PHONY: help install demo lint type test test-fast test-versions test-lowest test-newest cover soak bench guide guide-check screenshots check install-skill clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-16s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(READY) ## Create .venv with everything for development (Python 3.11 or newer)

demo: $(READY) ## Show the tool at work against the local sandbox (40 s)
	@PATH="$(CURDIR)/$(BIN):$$PATH" sh examples/demo.sh

lint: $(READY) ## Check style and formatting
	$(BIN)/ruff check app tests examples
	$(BIN)/ruff format --check app tests examples

type: $(READY) ## Check types, strictly
	$(BIN)/mypy

test: $(READY) ## Run the tests (6 minutes on two cores)
	$(BIN)/pytest -n 4 --dist worksteal

test-fast: $(READY) ## Run the tests that start no processes (2 minutes on two cores)
	$(BIN)/pytest -n 4 --dist worksteal $(FAST)

test-versions: test-lowest test-newest ## Run the fast tests with the lowest and the newest packages; to choose a Python: PYTHON=python3.12

test-lowest: CONSTRAINTS = -c build/lowest.txt
test-lowest test-newest:
	@mkdir -p build
	$(PYTHON) tests/tools/lowest.py > build/lowest.txt
	$(PYTHON) -m venv --clear build/$@
	build/$@/bin/python -m pip install --quiet --disable-pip-version-check -e '.[dev]' $(CONSTRAINTS)
	build/$@/bin/pytest -n 4 --dist worksteal $(FAST)

cover: $(READY) ## Run the tests with branch coverage (half as long again)
	$(BIN)/pytest -n 4 --dist worksteal --cov --cov-report=term:skip-covered

soak: $(READY) ## Run the long tests: every kill and I/O fault, and ten minutes of random faults
	$(BIN)/pytest -n 3 -m soak

bench: $(READY) ## Measure against bare SDK scripts; update the performance page and examples/growth.svg
	$(BIN)/python tests/tools/bench.py --plot examples/growth.svg --write examples/guide/performance.md

guide: $(READY) ## Write the tables of the README, the guide and the skill from the code
	PYTHONPATH=tests/support $(BIN)/python tests/tools/guide.py

guide-check: $(READY) ## Check that these tables are up to date
	@PYTHONPATH=tests/support $(BIN)/python tests/tools/guide.py --check

screenshots: $(READY) ## Draw the pictures of human mode again, from real runs against the sandbox
	PYTHONPATH=tests/support $(BIN)/python tests/tools/screenshots.py

check: lint type guide-check test ## Everything that must pass before a commit

install-skill: ## Copy the agent skill into a skills directory: DEST=~/.agents/skills
	@$(PYTHON) examples/skill/install.py "$$DEST"

clean: ## Remove .venv, caches and build files
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage dist build

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; name one: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@echo "Installing oaibg and its development tools into $(VENV): once, about a minute and 400 MB."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $(READY)
