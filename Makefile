# "make demo" and "make test" need Python 3.11+, make and a package index, and
# make everything else themselves, in .venv. Run twice, they are fast.

PYTHON ?= python3
PORT ?= 5000
# More words for pytest: make tests ARGS="tests/unit -k retries"; likewise for make bench.
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
GATE := $(BIN)/python tests/gate.py

# Each of these files is touched when its step is complete, and only then, so
# that an interrupted step is done again.
MADE := $(VENV)/.made
RUNS := $(VENV)/.runs
BENCH := $(VENV)/.bench
DEMO := $(VENV)/.demo

export PORT
export PYTHONUNBUFFERED := 1

.NOTPARALLEL:
.PHONY: help demo test env servers browser screenshots lint format types layers docs tests faults bench clean FORCE

help:
	@echo 'make demo    the example app with its worker, at http://127.0.0.1:$(PORT)/ (PORT=...)'
	@echo 'make test    the gate: lint, types, layers, docs and every test'
	@echo 'make lint    one stage of the gate; also: types, layers, docs, tests'
	@echo 'make format  let ruff sort the imports and lay out the code'
	@echo 'make env     the environment in $(VENV), and nothing else'
	@echo 'make servers the servers that tests start, where they can be installed'
	@echo 'make faults  every fault that tests/faults/ knows, for about twelve minutes'
	@echo 'make browser the browser that tests drive, where it can be installed'
	@echo 'make screenshots  the picture in the README'
	@echo 'make bench   what a job costs; ARGS="--url ... --json", see docs/benchmarks.rst'
	@echo 'make clean   remove what make made'

# --- What a user runs ----------------------------------------------------------

# Two things make this recipe longer than its last word.
# "exec" leaves no shell between make and the demo, which would die of a SIGTERM
# that make passes on and leave the demo running.
# A SIGINT for make alone (not Ctrl-C, which the whole group gets) is passed on
# to nobody: make waits for its child. But it first deletes the target that the
# child is making, so the end of that file is the message. The loop ends with the
# demo, too, which has the shell's process id, and tells it when make was killed.
# So the demo may get two signals for one: it takes the second for the first.
demo: $(DEMO)

$(DEMO): $(RUNS) FORCE
	@touch $@; \
	{ while [ -e $@ ] && kill -0 $$PPID && kill -0 $$$$; do sleep 0.2; done; \
	  kill -INT $$$$; } 2>/dev/null & \
	exec $(BIN)/python -m example_app.demo

test: $(BENCH) servers browser
	@exec $(GATE)

# --- What a developer runs -----------------------------------------------------

env: $(BENCH)

# What the tests start for themselves: a redis-server.
servers:
	@sh tests/servers.sh

# What the tests of the example app start for themselves: a Chromium.
browser:
	@sh tests/browser.sh

screenshots: $(BENCH)
	@exec $(BIN)/python -m tests.screenshots

lint types layers docs: $(BENCH)
	@exec $(GATE) $@

tests: $(BENCH)
	@exec $(BIN)/python -m pytest $(ARGS)

# The gate runs a short pass of it among the tests.
faults: $(BENCH)
	@FAULTS=long exec $(BIN)/python -m pytest tests/faults --timeout 900 $(ARGS)

format: $(BENCH)
	@$(BIN)/python -m ruff check --fix .
	@$(BIN)/python -m ruff format .

bench: $(BENCH)
	@exec $(BIN)/python -m benchmarks $(ARGS)

clean:
	rm -rf $(VENV) build dist docs/_build .*_cache .hypothesis .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- The environment -----------------------------------------------------------

$(MADE):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	    echo 'flask_taskq needs Python 3.11 or newer, and "$(PYTHON)" is not.' >&2; \
	    echo 'Name another one: make $(or $(MAKECMDGOALS),demo) PYTHON=python3.12' >&2; exit 1; }
	@$(PYTHON) -m venv --clear $(VENV) || { \
	    echo '"$(PYTHON)" cannot make an environment: it lacks the module venv or ensurepip.' >&2; \
	    echo 'On Debian and Ubuntu these are a package of their own: python3-venv.' >&2; exit 1; }
	@touch $@

# What the demo needs and no more: it should be up within a minute of a clone.
$(RUNS): $(MADE) pyproject.toml
	@echo 'Installing flask_taskq in $(VENV) ...'
	@$(PIP) install --editable '.[gunicorn]'
	@touch $@

# pip reads dependency groups from 25.1 on.
$(BENCH): $(MADE) pyproject.toml
	@echo 'Installing flask_taskq and the tools in $(VENV) ...'
	@$(PIP) install --upgrade 'pip>=25.1'
	@$(PIP) install --editable '.[gunicorn]' --group dev
	@touch $@ $(RUNS)
