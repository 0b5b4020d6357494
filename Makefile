# One command a task. The first one that needs it makes a virtual environment in $(VENV).

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
BENCH ?= benchmarks/side_by_side.py

.DEFAULT_GOAL := help
.PHONY: help demo test faults ray lint format bench clean

help: ## show this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1 	\2/p' $(firstword $(MAKEFILE_LIST))

demo: $(VENV)/installed-demo ## separate six seconds of a real song
	$(BIN)/solovox demo

test: $(VENV)/installed-dev ## run the tests
	$(BIN)/python -m pytest

faults: $(VENV)/installed-dev ## break a catalogue in every way, on Ray too, and print what was lost (three minutes)
	$(BIN)/python benchmarks/catalogue_faults.py --ray

ray: $(VENV)/installed-dev ## the same with Ray's workers alone (a minute)
	$(BIN)/python benchmarks/catalogue_faults.py --only ray --songs 8

lint: $(VENV)/installed-dev ## check format, style and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/installed-dev ## format the code, and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/installed-dev $(VENV)/installed-bench $(VENV)/installed-openunmix ## print the table of speed beside other separators (some ten minutes), or others: BENCH='benchmarks/*.py'
	set -e; for benchmark in $(BENCH); do \
		echo; echo "== $$benchmark"; $(BIN)/python $$benchmark; \
	done

clean: ## remove the virtual environment and what tools left behind
	rm -rf $(VENV) .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist

$(VENV)/installed-openunmix: $(VENV)/installed-bench # it asks for torchaudio, and needs none
	$(BIN)/pip install --quiet --constraint constraints.txt --no-deps openunmix
	@touch $@

# What is installed: an empty file for each extra, made anew when the versions change.
$(VENV)/installed-%: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 10) or sys.exit("solovox needs Python 3.10 or later; name one: make PYTHON=python3.12")'
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	@echo "Installing solovox[$*] in $(VENV); torch takes a few minutes."
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[$*]'
	@touch $@
