# Every target makes what it needs, the virtual environment included.
#
#   PYTHON  the Python, 3.10 or later, that makes the environment
#   VENV    where the environment is; an existing one is added to
#   EXTRAS  what is installed beside roar_tf: cpu, cuda or tpu, and test
#   ARGS    more arguments for quickstart, test, slow, peers and preflight,
#           for example make quickstart ARGS=--workspace=/data/roar
#           make test ARGS='tests/ranking_test.py -k ties'
#   PEERS_VENV  where the environment of `make peers` is
#   PREFLIGHT_VENV  where that of `make preflight` is
#   DOCS_VENV  where that of `make docs` is

PYTHON ?= python3
VENV ?= .venv
EXTRAS ?= cpu,test
ARGS ?=
PEERS_VENV ?= .venv-peers
PREFLIGHT_VENV ?= .venv-preflight
DOCS_VENV ?= .venv-docs

BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed-$(EXTRAS)
# setuptools warns of every editable install that a folder may hide the package.
PIP_INSTALL := PYTHONWARNINGS='ignore:Editable installation' \
  $(BIN)/python -m pip install --quiet --disable-pip-version-check
PYTEST := $(BIN)/python -m pytest --durations=10
# Files side by side in two processes: most tests keep one core busy.
IN_PARALLEL := -n 2 --dist loadfile

.DELETE_ON_ERROR:
.PHONY: help quickstart test slow peers preflight docs lint format wheel clean

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-11s %s\n", $$1, $$2}' \
	  Makefile

quickstart: $(INSTALLED)  ## Run a small study, every stage of it, into ./workspace
	$(BIN)/roar_study --study=quickstart $(ARGS)

test: lint  ## Check style and run the tests, without the slow ones
	$(PYTEST) $(IN_PARALLEL) $(ARGS)

slow: test  ## The same, and then the tests that take longer
	$(PYTEST) -m slow $(ARGS)

# xplique wants one version of TensorFlow, captum wants PyTorch: neither belongs
# into the environment that everything else uses.
peers:  ## Compare estimators with captum and xplique (8 GB in .venv-peers)
	@$(MAKE) --no-print-directory VENV=$(PEERS_VENV) EXTRAS=peers \
	  $(PEERS_VENV)/.installed-peers
	$(PEERS_VENV)/bin/python -m pytest -m peers tests/peers $(ARGS)
	$(PEERS_VENV)/bin/python docs/run_notebook.py \
	  docs/tutorials/captum_and_xplique.ipynb

# The TPU compiler wants one version of everything; no TPU is needed.
preflight:  ## Compile a study for TPUs, and test that (.venv-preflight, 3 GB)
	@$(MAKE) --no-print-directory VENV=$(PREFLIGHT_VENV) EXTRAS=preflight \
	  $(PREFLIGHT_VENV)/.installed-preflight
	$(PREFLIGHT_VENV)/bin/python -m pytest -m preflight tests/preflight
	$(PREFLIGHT_VENV)/bin/roar_preflight --study=quickstart $(ARGS)

# -W: a warning is an error.
docs:  ## Build the documentation into docs/_build/html (.venv-docs)
	@$(MAKE) --no-print-directory VENV=$(DOCS_VENV) EXTRAS=cpu,docs \
	  $(DOCS_VENV)/.installed-cpu,docs
	$(DOCS_VENV)/bin/python -m sphinx -W --keep-going -q $(ARGS) \
	  docs docs/_build/html

lint: $(INSTALLED)  ## Check style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(INSTALLED)  ## Fix what can be fixed of style and formatting
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

wheel: $(INSTALLED)  ## Build dist/roar_tf-<version>-py3-none-any.whl
	rm -rf build
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .
	rm -rf build

clean:  ## Remove all .venv* and everything built; keep ./workspace
	rm -rf .venv .venv-docs .venv-peers .venv-preflight build dist docs/_build roar_tf.egg-info .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# On Python 3.10 an older pip searches for versions for more than ten minutes.
$(INSTALLED): setup.py pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	  echo 'roar_tf needs Python 3.10 or later: install it, or name it with' \
	    '`make PYTHON=<python>`.' >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 \
	  || $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo '$(PYTHON) cannot make virtual environments: install what it' \
	    'lacks (`apt-get install python3-venv` on Debian and Ubuntu).' >&2; \
	  exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 \
	  || $(PYTHON) -m venv $(VENV)
	@echo 'Installing roar_tf[$(EXTRAS)] into $(VENV) (a few minutes, once)'
	@$(PIP_INSTALL) 'pip>=23.3'
	@$(PIP_INSTALL) --editable '.[$(EXTRAS)]'
	@touch $@
