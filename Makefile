# Every target makes the environment first if it is missing or out of date; nothing needs activation.
# Paths stay relative, so that a folder with spaces in its name works.

PROFILE ?= laptop
COHORT  ?= embedded
NB      ?= all
SEED    ?= 7
DEVICE  ?= auto
N_JOBS  ?=
OUT     ?= results
MODEL   ?=
WEIGHTS ?=
AT_ONCE ?=
TO      ?= site
CASES   ?= 100000

# a Python this project runs on: the default one, else the first newer one that answers
IS_NEW := -c 'import sys; sys.exit(sys.version_info < (3, 11))'
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.14; do \
	"$$p" $(IS_NEW) 2>/dev/null && echo "$$p" && break; done)
UV     ?= $(shell command -v uv 2>/dev/null)
CONDA  ?= $(shell command -v micromamba 2>/dev/null || command -v mamba 2>/dev/null || command -v conda 2>/dev/null)

VENV  := .venv
PY    := $(VENV)/bin/python
STAMP := $(VENV)/.installed
NBKIT := $(PY) -m nbkit.cli
LOCK  := --constraint requirements.lock
# for `make bench` only, past the resolver: antspyx declares numpy < 2.4 and runs with 2.4
PEERS := antspyx==0.6.3 webcolors==25.10.0 picsl-greedy==1.4.0.3
# for its weights alone, past the resolver: it declares a window (customtkinter) and LGPL helpers that nothing here runs
DEEPBET := deepbet==1.0.2
PIP   := $(if $(UV),"$(UV)" pip install --python $(PY),$(PY) -m pip install --disable-pip-version-check)

# glibc keeps what is freed: training faults its pages in once, not at every step
export MALLOC_TRIM_THRESHOLD_ ?= 4294967296
export MALLOC_MMAP_THRESHOLD_ ?= 33554432
export MALLOC_ARENA_MAX ?= 1

.DEFAULT_GOAL := help
.PHONY: help env reproduce train site test fuzz verify lab data doctor bench gpu clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo "  PROFILE=smoke|laptop|overnight|paper  COHORT=embedded|open|dlbs|/path/to/table.csv|/path/to/bids  NB=all|00,01  SEED=7"
	@echo "  DEVICE=auto|cpu|cuda|mps  N_JOBS=2  AT_ONCE=1  OUT=results  MODEL=my_model.py:MyModel  WEIGHTS=shipped|train  TO=site  USE_CONDA=1  PYTHON=python3.12"

env: $(STAMP)  ## make the environment (.venv): with uv if present, else python -m venv; USE_CONDA=1 for conda

reproduce: $(STAMP)  ## run the notebooks, judge the claims, write OUT/PROFILE-COHORT/index.html
	@# exec: the shell is gone, so what ends make ends the run, which writes its report
	exec $(NBKIT) run --nb "$(NB)" --profile "$(PROFILE)" --cohort "$(COHORT)" --seed "$(SEED)" --device "$(DEVICE)" \
		--out "$(OUT)" $(if $(N_JOBS),--n-jobs "$(N_JOBS)") $(if $(MODEL),--model "$(MODEL)") $(if $(WEIGHTS),--parameter "weights=$(WEIGHTS)") \
		$(if $(AT_ONCE),--at-once "$(AT_ONCE)")

train: $(STAMP)  ## make the weights again that come with the project: make train NB=05; on several GPUs: DEVICES=4
	$(if $(DEVICES),$(PY) -m torch.distributed.run --standalone --nproc-per-node "$(DEVICES)" -m nbkit.cli,$(NBKIT)) train --nb "$(NB)" --profile "$(PROFILE)" --cohort "$(COHORT)" $(if $(N_JOBS),--n-jobs "$(N_JOBS)")

site: $(STAMP)  ## the pages that people read, from a finished run: TO/index.html, for any static host or none
	$(NBKIT) site "$(OUT)/$(PROFILE)-$(COHORT)" --to "$(TO)"

test: $(STAMP)  ## all tests, the smoke run of every notebook included; FAST=1: without notebooks and what takes seconds
	$(PY) -m pytest --numprocesses 2 --dist loadscope --no-loadscope-reorder $(if $(filter 1,$(FAST)),-m "not notebook and not slow")

fuzz: $(STAMP)  ## CASES=100000 damaged files at every door, kills and full disks at many places: an hour
	NBKIT_FUZZ="$(CASES)" $(PY) -m pytest --numprocesses 2 tests/fuzz tests/attacks

verify: $(STAMP)  ## compare a finished run with the committed reference values
	$(NBKIT) verify --profile "$(PROFILE)" --cohort "$(COHORT)" --out "$(OUT)"

lab: $(STAMP)  ## JupyterLab on the notebooks
	cd notebooks && ../$(PY) -m jupyterlab

data: $(STAMP)  ## download and verify a cohort: make data COHORT=open, or COHORT=dlbs PEOPLE=20 (ALL=1: everybody)
	$(NBKIT) data fetch "$(COHORT)" $(if $(PEOPLE),--people "$(PEOPLE)") $(if $(filter 1,$(ALL)),--all)

doctor: $(STAMP)  ## what is installed, what is missing, and how to fix it
	$(NBKIT) doctor

bench: $(STAMP)  ## speed beside peers, timed in one run; KEEP=1 commits the ratios of what has no peer
	$(PIP) --quiet $(LOCK) --editable ".[test,bench]"
	$(PIP) --quiet --no-deps $(PEERS)
	KEEP=$(KEEP) $(PY) -m pytest tests/benchmarks

gpu: $(STAMP)  ## on a machine with a GPU: time every system, run NB=05,08 at PROFILE=overnight within MINUTES; all into TO
	$(PY) -m tests.benchmarks.gpu --profile "$(PROFILE)" --device "$(if $(filter auto,$(DEVICE)),cuda,$(DEVICE))" \
		$(if $(filter-out all,$(NB)),--nb "$(NB)") $(if $(MINUTES),--minutes "$(MINUTES)") --to "$(if $(filter-out site,$(TO)),$(TO),gpu-run)"

clean:  ## remove the environment and test leftovers; results and downloads stay
	rm -rf $(VENV) .pytest_cache .hypothesis .benchmarks build dist
	find nbkit tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): pyproject.toml requirements.lock environment.yml
	@test -x $(PY) && $(PY) $(IS_NEW) || $(MAKE) --no-print-directory $(if $(filter 1,$(USE_CONDA)),.conda,.python)
	$(PIP) --quiet $(LOCK) --editable ".[test]"
	$(PIP) --quiet --no-deps $(DEEPBET) || echo "note: without $(DEEPBET) brains are found less well; make doctor says how to add it"
	@touch $@

.PHONY: .conda .python
.conda:
	@test -n "$(CONDA)" || { echo "USE_CONDA=1 needs micromamba, mamba or conda on the PATH: install one, or leave USE_CONDA out."; exit 1; }
	rm -rf $(VENV)
	"$(CONDA)" env create --yes --prefix ./$(VENV) --file environment.yml

ifneq ($(UV),)
.python:
	"$(UV)" venv --quiet --clear --python ">=3.11" $(VENV)
else
.python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed and none was found: install one, or name it with PYTHON=/path/to/python3."; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip' 2>/dev/null || { echo "$(PYTHON) cannot make environments: install python3-venv (Debian, Ubuntu: apt install python3-venv) or uv."; exit 1; }
	"$(PYTHON)" -m venv --clear $(VENV)
endif

# raise the versions: a fresh environment from pyproject.toml alone, written down; papermill needs aiohttp on Python 3.12
.PHONY: lock
lock:
	rm -rf build/lock && "$(PYTHON)" -m venv build/lock
	build/lock/bin/python -m pip install --quiet --editable ".[test,bench,viewer]" aiohttp
	@{ echo "# Every package at the version the tests ran with; made by \`make lock\`, used as constraints by \`make env\`."; \
	   echo "# torch brings its own CUDA packages where there is a GPU build; they are not pinned here."; \
	   build/lock/bin/python -m pip freeze --all --exclude-editable --exclude pip \
	     | sed -E 's/\+[a-z0-9.]+$$//' | grep -vE '^(nvidia|triton|cuda)'; } > requirements.lock
	@echo "requirements.lock written: bring environment.yml to the same versions, then make test"
