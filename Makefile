# Python 3.11 or newer and make are all that has to be there; everything else goes into $(VENV).

PYTHON ?= python3
VENV ?= .venv
TORCH ?= torch==2.13.0
WORKERS ?= 2
MUTANTS ?= 40
COVERAGE ?= auto
FLOOR := 97
PY := $(VENV)/bin/python

.PHONY: help demo test coverage lint mutants zoo trained clean

help:
	@echo "make demo     install, then shrink a sample model and export it"
	@echo "make test     install, then ruff, mypy and all tests"
	@echo "make coverage the same, and fail if less than $(FLOOR) % of the lines are run; make test does so from Python 3.12 on"
	@echo "make lint     install, then ruff and mypy"
	@echo "make mutants  install, then put faults into the library and see which the tests notice (docs/testing.md)"
	@echo "make zoo      install, then measure every model of the zoo (docs/coverage.md)"
	@echo "make trained  install, then run trained public models through the four commands (docs/trained.md):"
	@echo "              make trained REPOSITORIES=DIR AUDIO=DIR"
	@echo "make clean    remove $(VENV), caches and build outputs"

demo: $(VENV)/.demo
	$(PY) -m sample_models.demo

# coverage.py watches lines for next to nothing from Python 3.12 on (sys.monitoring); before, the tests take half as long again.
test: lint
	@if test "$(COVERAGE)" = yes || { test "$(COVERAGE)" = auto && $(PY) -c 'import sys; sys.exit(sys.version_info < (3, 12))'; }; then \
		COVERAGE_CORE=$$($(PY) -c 'import sys; print("sysmon" if sys.version_info >= (3, 12) else "ctrace")') \
			$(PY) -m pytest -n $(WORKERS) --cov=shrinkspeech --cov=shrinkspeech_cli --cov-report= --cov-fail-under=$(FLOOR); \
	else \
		echo "Lines are not counted before Python 3.12: make coverage does it"; \
		$(PY) -m pytest -n $(WORKERS); \
	fi

coverage:
	$(MAKE) test COVERAGE=yes

lint: $(VENV)/.dev
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

mutants: $(VENV)/.dev
	$(PY) -m tests.mutants.run --number $(MUTANTS) --workers $(WORKERS)

zoo: $(VENV)/.zoo
	$(PY) -m tests.zoo.run

trained: $(VENV)/.dev
	$(PY) -m benchmarks.trained --repositories "$(REPOSITORIES)" --audio "$(AUDIO)"

clean:
	rm -rf $(VENV) .trained build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Error: $(PYTHON) is older than Python 3.11: name a newer one, as in 'make PYTHON=python3.12'" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

# The torch of the default index may come with gigabytes of CUDA: one that fits and is there already is left alone.
$(VENV)/.torch: | $(VENV)/bin/python
	$(PY) -c 'import importlib.metadata as m; v = tuple(map(int, m.version("torch").split(".")[:2])); \
		assert (2, 12) <= v < (2, 14)' 2>/dev/null || $(PY) -m pip install --quiet "$(TORCH)"
	@touch $@

$(VENV)/.demo $(VENV)/.dev: $(VENV)/.%: pyproject.toml | $(VENV)/.torch
	$(PY) -m pip install --quiet -e ".[$*]"
	@touch $@

# speechbrain asks for torchaudio, which the models measured do not use and which would bring another torch.
$(VENV)/.zoo: $(VENV)/.dev
	$(PY) -m pip install --quiet -e ".[zoo]"
	$(PY) -m pip install --quiet --no-deps speechbrain
	@touch $@
