# Each target sets up what it needs: a virtual environment in .venv, and the weights of others in the user's cache.
#   make demo MINUTES=1     a minute of training instead of what suits the machine (5 on a CPU, 2 on a GPU)
#   make demo PYTHON=python3.12

PYTHON  ?= python3
MINUTES ?=
OUT     ?= demo
BIN     := .venv/bin
PIP     := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
# One thread a test process; as many processes as there are cores.
PYTEST  := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto

.PHONY: setup demo test check bench clean

setup: .venv/developing .venv/weights

demo: .venv/weights
	$(BIN)/understudy demo $(OUT) $(if $(MINUTES),--minutes $(MINUTES))

test: .venv/developing .venv/weights
	$(PYTEST)

check: .venv/developing .venv/weights
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python tools/audit.py
	$(PYTEST) -m "not slow"

bench: .venv/installed
	$(BIN)/python benchmarks/speed.py bench.json

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache

.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Understudy needs Python 3.11 or newer; name one: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || \
	  { echo "No virtual environment could be made; on Debian and Ubuntu: apt install python3-venv"; rm -rf .venv; exit 1; }
	@echo "Installing into .venv; torch is large, so the first time takes a few minutes"
	@$(PIP) -e .
	@touch $@

.venv/developing: .venv/installed
	@$(PIP) -e '.[dev]'
	@touch $@

.venv/weights: .venv/installed src/understudy/perception/weights.py src/understudy/trust/gate.py
	@$(BIN)/understudy doctor --fetch
	@touch $@
