# make run    start pylb with a demo: its own backends, on loopback
# make test   the whole suite; make test J=2 in two processes
# make lint   ruff, mypy, and which way the imports run
# make schema renew etc/lb.schema.json, which editors read
# make bench  what pylb costs beside nginx and HAProxy (bench/README.md); make bench-quick for a first look
# make soak   whether pylb stays as it was while clients and servers do their worst, for five minutes
# make clean  remove all that these make
#
# Needs python3 (3.11 or newer, with venv) and make; make bench says what else it needs. Everything is installed in .venv,
# again when setup.py or pyproject.toml has changed.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: run test lint schema bench bench-quick soak clean
.NOTPARALLEL:

run: $(VENV)/run.installed
	@exec $(BIN)/twistd -n --pidfile= pylb --config etc/demo.yaml --demo

test: $(VENV)/test.installed
	$(BIN)/python -m twisted.trial $(if $(J),-j$(J)) tests

lint: $(VENV)/lint.installed $(VENV)/test.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy pylb bench
	$(BIN)/python -m twisted.trial tests.test_imports

schema: $(VENV)/run.installed
	$(BIN)/pylb schema > etc/lb.schema.json

bench: $(VENV)/test.installed
	@$(BIN)/python -m bench.run

bench-quick: $(VENV)/test.installed
	@$(BIN)/python -m bench.run --pairs 1

soak: $(VENV)/test.installed
	@$(BIN)/python -m bench.soak

$(VENV)/test.installed: EXTRA := [test]
$(VENV)/lint.installed: EXTRA := [lint]

# The compat mode puts this folder itself on the path. Otherwise twistd would not find twisted/plugins in it.
# An installation that was interrupted can leave packages that pip takes for whole: it is done again from the start.
$(VENV)/%.installed: setup.py pyproject.toml | $(VENV)/made
	@[ ! -e $(VENV)/unfinished ] || $(PYTHON) -m venv --clear $(VENV)
	@touch $(VENV)/made $(VENV)/unfinished
	$(BIN)/python -m pip install -q --disable-pip-version-check --config-settings editable_mode=compat -e '.$(EXTRA)'
	@rm $(VENV)/unfinished
	@touch $@

$(VENV)/made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo 'pylb needs Python 3.11 or newer. If it is not "$(PYTHON)": make PYTHON=python3.12 ...' >&2; exit 1; }
	@$(PYTHON) -m venv --clear $(VENV) >/dev/null 2>&1 || \
	  { rm -rf $(VENV); echo '"$(PYTHON) -m venv" does not work here. On Debian and Ubuntu: apt install python3-venv' >&2; exit 1; }
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info _trial_temp* .hypothesis .mypy_cache .ruff_cache .coverage*
	rm -f twisted/plugins/dropin.cache
	find . -name __pycache__ -prune -exec rm -rf {} +
