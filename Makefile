# Few verbs. Everything they need they install into .venv; nothing calls another package manager than pip.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
DATA   ?= ../shared/data
BENCH  ?= ../shared/bench
PEERS  ?=
ONLY   ?=
ROWS   ?=
export OMP_NUM_THREADS ?= 2
unexport PYTHONDONTWRITEBYTECODE  # the tests start many processes, each of which would compile palate anew

.PHONY: help demo test check bench faults docs clean

help:
	@echo "make demo    environment, MovieLens-100K, train the funnel, evaluate, serve, ask; exits 0"
	@echo "make test    environment, checks, tests"
	@echo "make check   ruff, types, import floors, banned calls; sizes"
	@echo "make faults  the long fault loops"
	@echo "make bench   speed and quality, as JSON under bench/results/ and docs/board.md (PEERS=path runs the peers beside ours;"
	@echo "             ONLY=ctr one part of it, ROWS=din-ml1m some rows of that; what ctr, collaborative, sequences have is not run again)"

$(VENV)/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("palate needs Python 3.11 or newer, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	@echo "making $(VENV) and installing palate (about 1.3 GB with the CPU build of torch)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(VENV)/.ready
	@$(BIN)/palate demo

test: check
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -m 'not faults' tests

check: $(VENV)/.ready
	@$(BIN)/ruff check palate tests bench examples
	@$(BIN)/ruff format --check palate tests bench examples
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python bench/sizes.py

faults: $(VENV)/.ready
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m faults tests

bench: $(VENV)/.ready
	@OMP_NUM_THREADS=1 $(BIN)/python -m bench.run --data-dir $(DATA) --bench-dir $(BENCH) $(if $(PEERS),--peers $(PEERS)) $(if $(ONLY),--only $(ONLY)) $(if $(ROWS),--rows $(ROWS))

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache runs
