# Needs Python 3.11 or later and GNU make 3.81 or later; everything is installed into .venv in this folder.
# A stamp in .venv says what is installed there, so that only a change of pyproject.toml installs again.

PYTHON ?= python3
PYTEST_ARGS ?=
WORKERS ?= 3
CASES ?= 1000000
BENCH_ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
EMBEDDED := $(VENV)/.installed-embedded
DEV := $(VENV)/.installed-dev
FAULTS := $(CURDIR)/$(VENV)/faults.jsonl
PIP := $(BIN)/python -m pip --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help demo test check fmt bench differential faults endurance windows wheel
.DELETE_ON_ERROR:

help: ## list these verbs
	@awk 'BEGIN { FS = ":.*## " } /^[a-z]+:.*## / { printf "make %-12s  %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(EMBEDDED) ## run the demonstration: nothing else to install or start
	$(BIN)/usageaudit demo

# Each worker starts servers of its own, and runs whole files: what a file shares is set up once. In the order of folders
# the small ones, tests/unit, come last, so that the workers end together.
# Brokers live for minutes at most, and are not worth the second compiler of Java.
test: export JDK_JAVA_OPTIONS ?= -XX:TieredStopAtLevel=1
test: $(DEV) ## run the tests (PYTEST_ARGS="-k kafka", WORKERS=2); real servers are downloaded once
	$(BIN)/python -m pytest --numprocesses=$(WORKERS) --dist=loadfile --no-loadscope-reorder $(PYTEST_ARGS)

check: $(DEV) ## lint, check the format, the types and the layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pyright
	$(BIN)/lint-imports

fmt: $(DEV) ## format the code and fix what can be fixed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

faults: $(DEV) ## kill and pause everything at every point, the long form, and write docs/faults.md (an hour)
	rm -f $(FAULTS)
	USAGEAUDIT_TEST_FAULTS=long USAGEAUDIT_TEST_FAULT_REPORT=$(FAULTS) USAGEAUDIT_TEST_FAULT_EVENTS=200000 \
		$(BIN)/pytest tests/faults tests/integration/test_replicated_takeover.py tests/integration/test_replicated_faults.py \
		--timeout=3600 $(PYTEST_ARGS); \
	failed=$$?; $(BIN)/python -m tests.faults.report $(FAULTS) && exit $$failed

endurance: $(DEV) ## servers away for minutes, full disks, a soak, the long form (two hours; PYTEST_ARGS="-k soak")
	rm -f $(VENV)/endurance.jsonl
	USAGEAUDIT_TEST_ENDURANCE=$${USAGEAUDIT_TEST_ENDURANCE:-1} USAGEAUDIT_TEST_ENDURANCE_FIGURES=$(VENV)/endurance.jsonl \
		$(BIN)/python -m pytest tests/endurance -o tmp_path_retention_policy=failed $(PYTEST_ARGS)
	$(BIN)/python -m tests.endurance.report $(VENV)/endurance.jsonl

windows: $(DEV) ## hold windowed policies against a plain reference, and kill scheduler and dispatcher, the long form (two hours)
	USAGEAUDIT_TEST_WINDOW_STREAMS=10000 USAGEAUDIT_TEST_SCHEDULER_KILLS=300 USAGEAUDIT_TEST_ALERT_KILLS=200 \
		USAGEAUDIT_TEST_DISPATCH_HISTORIES=200 $(BIN)/pytest tests/integration/windows tests/integration/alerts/test_dispatch_crashes.py \
		tests/integration/alerts/test_dispatch_kills.py --timeout=14400 $(PYTEST_ARGS)

differential: $(DEV) ## hold the back ends of the policy language against each other, the long form (CASES=5000000)
	USAGEAUDIT_TEST_DIFFERENTIAL_CASES=$(CASES) $(BIN)/pytest tests/differential --timeout=7200 $(PYTEST_ARGS)

bench: $(DEV) ## run the benchmarks (BENCH_ARGS="--help")
	$(BIN)/python -m tests.benchmarks $(BENCH_ARGS)

wheel: $(DEV) ## build the wheel into dist/
	$(BIN)/python -m build --wheel

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "usageaudit needs Python 3.11 or later, and '$(PYTHON)' is $$($(PYTHON) --version 2>/dev/null || echo not found): name another one, as in make PYTHON=python3.12" >&2; \
		exit 1; }
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(EMBEDDED): pyproject.toml | $(BIN)/python
	$(PIP) install --quiet --editable '.[embedded]'
	@touch $@

# The group is an option of pip since 25.1.
$(DEV): pyproject.toml | $(BIN)/python
	$(PIP) install --quiet --upgrade 'pip>=25.1'
	$(PIP) install --quiet --editable '.[all]' --group dev
	@touch $(EMBEDDED) $@
