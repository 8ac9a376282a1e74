# make demo    run the package on simulated data with known truth; writes demo_output/
# make test    run the tests                    (PYTEST_ARGS="-k thinning" for some of them, "-m slow" for the slow ones)
# make test-cluster  jobs on a SLURM of this machine, on Grid Engine and MPI where they are, and in Snakemake, CWL, dask and others
# make test-lowest   the tests with the lowest versions that pyproject.toml allows
# make test-stacks   model files and results of the lowest versions are read with these, and back
# make test-scverse  tests with SpatialData, MuData and anndata's generated objects
# make lint    ruff and mypy
# make docs    build the documentation, warnings are errors
# make dist    build wheel and sdist in dist/, and check them
# make bench   quality, time and memory beside peers  (BENCH_ARGS="--help" for other parts)
# make clean   remove everything that the commands above made
#
# Every command installs what it needs into $(VENV), once; after a change of pyproject.toml, again.

VENV ?= .venv
PYTEST_ARGS ?=
BENCH_ARGS ?= compare
CLUSTER_SECONDS ?= 600
PY := $(VENV)/bin/python
INSTALL := $(PY) -m pip install -qq --disable-pip-version-check

# PYTHON=... chooses the interpreter; otherwise the first of these that runs and is new enough.
PYTHONS := $(or $(PYTHON),python3 python3.13 python3.12 python3.11 python)
NEW_ENOUGH := import sys; raise SystemExit(sys.version_info < (3, 11))

.DEFAULT_GOAL := help
.PHONY: help demo test test-lowest test-stacks test-scverse test-cluster lint format docs dist bench clean
.DELETE_ON_ERROR:

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

demo: $(VENV)/.ready-base
	@$(VENV)/bin/scdae demo

test: $(VENV)/.ready-test
	@OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(PY) -m pytest -n 2 --dist worksteal $(PYTEST_ARGS)

# On the oldest Python; what old versions warn of has become of others since.
test-lowest:
	@$(MAKE) --no-print-directory VENV=.venv-lowest .venv-lowest/.ready-lowest
	@OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 .venv-lowest/bin/python -m pytest -n 2 --dist worksteal -W default $(PYTEST_ARGS)

$(VENV)/.ready-lowest: pyproject.toml .ci/lowest.py | $(VENV)/.ready-pip
	@$(PY) .ci/lowest.py test > $(VENV)/lowest.txt
	@$(INSTALL) --constraint $(VENV)/lowest.txt --editable . --group test
	@touch $@

test-stacks: $(VENV)/.ready-test
	@$(MAKE) --no-print-directory VENV=.venv-lowest .venv-lowest/.ready-lowest
	@$(PY) .ci/stacks.py .venv-lowest/bin/python $(PY)

test-scverse:
	@$(MAKE) --no-print-directory VENV=.venv-scverse .venv-scverse/.ready-scverse
	@OMP_NUM_THREADS=1 .venv-scverse/bin/python -m pytest tests/test_scverse.py tests/pp/test_generated.py $(PYTEST_ARGS)

# In an environment of its own: these tools bring many packages. Those that cannot be installed are not tried. Whatever hangs is ended.
test-cluster:
	@$(MAKE) --no-print-directory VENV=.venv-cluster .venv-cluster/.ready-cluster || \
	  { echo "Snakemake, cwltool and the others could not be installed: without them."; \
	  $(MAKE) --no-print-directory VENV=.venv-cluster .venv-cluster/.ready-base; }
	@OMP_NUM_THREADS=1 timeout --kill-after=60 $$(($(CLUSTER_SECONDS) + 100)) .venv-cluster/bin/python cluster/trials.py --seconds $(CLUSTER_SECONDS)

lint: $(VENV)/.ready-lint
	@$(PY) -m ruff check
	@$(PY) -m ruff format --check
	@$(PY) -m mypy

format: $(VENV)/.ready-lint
	@$(PY) -m ruff check --fix
	@$(PY) -m ruff format

docs: $(VENV)/.ready-docs
	@$(PY) -m sphinx --builder html --fail-on-warning --keep-going --quiet docs docs/_build/html
	@echo "Documentation: docs/_build/html/index.html"

dist: $(VENV)/.ready-dist
	@rm -rf dist
	@$(PY) -m build
	@$(PY) -m twine check --strict dist/*
	@$(PY) .ci/check_dist.py dist

bench: $(VENV)/.ready-bench
	@$(PY) benchmarks/run.py $(BENCH_ARGS)

clean:
	rm -rf $(VENV) .venv-313 .venv-cluster .venv-lowest .venv-scverse demo_output docs/_build docs/generated docs/tutorials benchmarks/output build dist
	rm -rf .mypy_cache .pytest_cache .ruff_cache .hypothesis

# The environment itself, with a pip that knows dependency groups (25.1).
$(VENV)/.ready-pip:
	@for python in $(PYTHONS); do \
	  if "$$python" -c '$(NEW_ENOUGH)' >/dev/null 2>&1; then found="$$python"; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
	  echo "scdae needs Python 3.11 or newer, and none of these is that: $(PYTHONS)." >&2; \
	  echo "Install one, or name it: make ... PYTHON=/path/to/python3.12" >&2; \
	  exit 1; \
	fi; \
	echo "Making $(VENV) with $$("$$found" --version)"; \
	"$$found" -m venv --clear $(VENV) || { \
	  echo "Python could not make a virtual environment; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@$(INSTALL) "pip>=25.1"
	@touch $@

$(VENV)/.ready-base: pyproject.toml | $(VENV)/.ready-pip
	@echo "Installing scdae into $(VENV) (the first time this takes a few minutes)"
	@$(INSTALL) --editable .
	@touch $@

$(VENV)/.ready-%: pyproject.toml | $(VENV)/.ready-pip
	@echo "Installing scdae and what 'make $*' needs into $(VENV) (the first time this takes a few minutes)"
	@$(INSTALL) --editable . --group $*
	@touch $@
