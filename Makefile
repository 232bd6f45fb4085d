# make test                    the checks, then the tests, in .venv
# make test PYTHON=python3.12  the same with another interpreter, in .venv-3.12
# make help                    the rest

PYTHON ?= python3
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')

ifeq ($(origin PYTHON),file)
VENV ?= .venv
else
VENV ?= .venv-$(VERSION)
endif

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install -qq

# Tests at a time: most of them wait more than they work.
JOBS ?= $(shell expr $$(nproc) \* 3 / 2)

# A stamp names the interpreter's version: with another one the environment is made anew.
MADE := $(VENV)/.made-$(VERSION)
RUN := $(VENV)/.run-$(VERSION)
DEV := $(VENV)/.dev-$(VERSION)

# Pools start faster from byte code; pip has compiled what it installed.
COMPILE := $(BIN)/python -m compileall -q xoscar_sc

# Run a tool of the environment; what it says is shown if it fails.
quietly = @echo '$(1)'; mkdir -p build; $(BIN)/$(1) >build/log 2>&1 || { cat build/log; exit 1; }

# The theme has news of its own about future releases of mkdocs.
export NO_MKDOCS_2_WARNING := 1

.PHONY: help demo test check format bench docs changelog clean
.DELETE_ON_ERROR:

help:
	@echo 'make demo        run examples/code_index.py'
	@echo 'make test        check, then run the tests'
	@echo 'make check       style, types, floors, documentation, changelog'
	@echo 'make format      let ruff put the style right'
	@echo 'make bench       run the benchmarks'
	@echo 'make docs        build the documentation into build/docs'
	@echo 'make changelog   show what the next release would say'
	@echo 'make clean       remove all that make has made'

$(MADE):
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("xoscar-sc needs Python 3.11 or later: make PYTHON=...")'
	@echo 'making $(VENV) with Python $(VERSION)'
	@$(PYTHON) -m venv --clear $(VENV)
	@touch $@

$(RUN): pyproject.toml $(MADE)
	@echo 'installing what the examples need'
	@$(PIP) -e '.[examples]'
	@touch $@

$(DEV): pyproject.toml $(MADE)
	@echo 'installing what the tests and the checks need'
	@$(PIP) -e '.[dev,test,examples]'
	@touch $(RUN) $@

demo: $(RUN)
	@$(COMPILE)
	@$(BIN)/python examples/code_index.py

test: check
	@$(COMPILE)
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal

check: $(DEV)
	$(call quietly,ruff check)
	$(call quietly,ruff format --check)
	$(call quietly,mypy)
	$(call quietly,basedpyright --pythonpath $(BIN)/python)
	$(call quietly,lint-imports --no-logo --cache-dir build/import-linter)
	$(call quietly,mkdocs build --strict)
	$(call quietly,towncrier build --draft --version next)

format: $(DEV)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(DEV)
	@$(COMPILE)
	@$(BIN)/python -m benchmarks

docs: $(DEV)
	$(call quietly,mkdocs build --strict)
	@echo 'open build/docs/index.html'

changelog: $(DEV)
	@$(BIN)/towncrier build --draft --version next 2>/dev/null

clean:
	rm -rf .venv .venv-* build dist .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
