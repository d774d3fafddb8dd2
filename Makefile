# Two commands do everything on a fresh machine: `make demo` and `make test`. Needs Python >= 3.11 and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
PYTEST_ARGS ?=
JOBS ?= 2
# Tests start hundreds of processes; where Python may not keep bytecode, each of them compiles everything again.
export PYTHONDONTWRITEBYTECODE :=

# A stamp says which extras are installed; it is remade when what an installation depends on changes.
INPUTS := pyproject.toml blazing_nb/__init__.py
DEMO_STAMP := $(VENV)/.stamp-demo
TEST_STAMP := $(VENV)/.stamp-test
DOCS_STAMP := $(VENV)/.stamp-docs

.PHONY: demo test test-fast check audit release-check versions docs bench flat soak soak-long failover cluster-failover network matrix cuts simulate lab clean
.DEFAULT_GOAL := demo

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "blazing_nb needs Python >= 3.11; name one: make PYTHON=python3.11 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV) \
		|| { rm -rf $(VENV); echo "no venv module (Debian, Ubuntu: apt-get install python3-venv)" >&2; exit 1; }

$(DEMO_STAMP): $(INPUTS) | $(BIN)/python
	$(PIP) --editable .
	@touch $@

$(TEST_STAMP): $(INPUTS) | $(BIN)/python
	$(PIP) --editable '.[test,dev]'
	@touch $@ $(DEMO_STAMP)

$(DOCS_STAMP): $(INPUTS) | $(BIN)/python
	$(PIP) --editable '.[docs]'
	@touch $@

demo: $(DEMO_STAMP)
	$(BIN)/blazing-nb demo

# What is measured in a page needs the machine for itself: the browser comes after the rest.
test: $(TEST_STAMP)
	$(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile -m 'not browser' $(PYTEST_ARGS)
	$(BIN)/python -m pytest -m browser $(PYTEST_ARGS)

test-fast: $(TEST_STAMP)
	$(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile -m 'not slow and not browser' $(PYTEST_ARGS)

check: $(TEST_STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/bandit --quiet --recursive --configfile pyproject.toml blazing_nb
	$(BIN)/python .ci/audit.py

# Known weaknesses of what is installed. In check it says NOT AUDITED where no service answers; here it fails.
audit: $(TEST_STAMP)
	$(BIN)/python .ci/audit.py --required

# Wheel and sdist, each installed in an empty environment and used. Then the audit, which a release does not go without.
release-check: $(TEST_STAMP)
	.ci/release-check $(BIN)/python
	$(BIN)/python .ci/audit.py --required

# The fast tests on each supported Python that is here; says which are not.
versions:
	.ci/versions $(PYTEST_ARGS)

# Warnings are errors: a page outside of the tree, a broken link, an anchor that is not there.
docs: $(DOCS_STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

bench: $(DEMO_STAMP)
	$(BIN)/python -m benchmarks.throughput --ops 20000 --json
	$(BIN)/python -m benchmarks.engine --json
	$(BIN)/python -m benchmarks.recovery --json
	$(BIN)/python -m benchmarks.peers --peers celery,dramatiq,huey,rq --ops 5000 --json

flat: $(DEMO_STAMP)
	$(BIN)/python -m benchmarks.engine --sections flat --json

soak: $(TEST_STAMP)
	$(BIN)/python -m tests.fault.soak --ops 20000 --faults 120 --json
	$(BIN)/python -m tests.fault.zombie --commits 10000 --json

failover: $(TEST_STAMP)
	$(BIN)/python -m tests.fault.failover --trials 100 --json

# Each trial takes some ten seconds.
cluster-failover: $(TEST_STAMP)
	$(BIN)/python -m tests.fault.cluster_failover --trials 50 --json

# A real network that loses packets, in namespaces of its own.
network: $(TEST_STAMP)
	unshare --user --map-root-user --net $(BIN)/python -m tests.fault.network --json

matrix: $(TEST_STAMP)
	for server in valkey sentinel cluster; do \
		$(BIN)/python -m pytest -q --server $$server tests/store tests/client tests/worker $(PYTEST_ARGS) || exit 1; done

soak-long: $(TEST_STAMP)
	$(BIN)/python -m tests.fault.soak --ops 1000000 --faults 3800 --seed 7 --pace 1000 --nap 0.004 --json

cuts: $(TEST_STAMP)
	$(BIN)/python -m tests.fault.soak --ops 20000 --cuts 1000 --json

simulate: $(TEST_STAMP)
	$(BIN)/python -m tests.fault.simulate --seeds 2000

lab: $(TEST_STAMP)
	$(BIN)/jupyter lab notebooks/

clean:
	rm -rf $(VENV) .venv-3.* dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis test-artefacts demo.html
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
