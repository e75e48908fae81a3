# Velo: `make help` lists what can be made.
PYTHON ?= python3
BIN := .venv/bin
JOBS ?= 3
export HOST PORT WORKERS

# For the checks only: production mode with nothing left to default.
CHECKED := DJANGO_SECRET_KEY=only-for-static-checks-0123456789-abcdefghijklmnopqrstuvwxyz DJANGO_ALLOWED_HOSTS=localhost

OSV := https://api.osv.dev

.PHONY: help run test lint audit format load bench chaos clean
.DEFAULT_GOAL := help

help: ## List what can be made
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-8s %s\n", $$1, $$2}'

run: .venv/run.stamp ## Run everything on this machine (PORT=8877, WORKERS=1)
	@$(BIN)/python manage.py serve

test: .venv/dev.stamp .venv/browser.stamp .venv/clients.stamp ## Run the tests in random order, JOBS=3 at a time (TESTS=tests/...: only these; COVERAGE=1)
	@$(BIN)/python -m pytest $(or $(TESTS),-n $(JOBS) --dist loadgroup) $(if $(COVERAGE),--cov)

lint: .venv/dev.stamp ## Run every static check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	$(BIN)/python -m tests.words
	$(CHECKED) $(BIN)/mypy .
	$(BIN)/bandit --configfile pyproject.toml --quiet --recursive .
	$(BIN)/djlint --check --lint --quiet templates
	$(CHECKED) $(BIN)/python manage.py makemigrations --check --dry-run
	$(CHECKED) $(BIN)/python manage.py spectacular --validate --fail-on-warn --file /dev/null
	$(CHECKED) $(BIN)/python manage.py check --deploy --fail-level WARNING

audit: .venv/dev.stamp ## Look for known vulnerabilities in what Velo installs (needs api.osv.dev)
	@$(BIN)/python -c 'import requests; requests.head("$(OSV)", timeout=10)' 2>/dev/null || { \
	  echo "$(OSV), which knows the vulnerabilities, can't be reached from here: nothing was checked." >&2; exit 1; }
	$(BIN)/pip-audit --vulnerability-service osv --strict --progress-spinner off --requirement requirements.txt

format: .venv/dev.stamp ## Put the code into its standard form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/djlint --reformat --quiet templates

load: .venv/dev.stamp ## Load a running Velo; locust's page is http://localhost:8989
	@$(BIN)/locust

bench: .venv/dev.stamp ## Measure (BENCH=queue, serve, curve, fair, liveness, flood, memory or versions: only that; BENCH=many, keys, wire, database or peers: more)
	@for part in $(or $(BENCH),queue serve curve fair liveness flood memory versions); do $(BIN)/python -m benchmarks.$$part || exit 1; done

chaos: .venv/dev.stamp ## Ten minutes of load with random faults (SECONDS=600 SEED=…); then how soon jobs are rescued
	$(BIN)/python -m benchmarks.chaos $(or $(SECONDS),600) $(SEED)
	$(BIN)/python -m benchmarks.rescue

clean: ## Remove the virtual environment and all state of this machine's Velo
	rm -rf .venv var

.venv/run.stamp: requirements.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Velo needs Python 3.11 or newer: make $(MAKECMDGOALS) PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

.venv/dev.stamp: requirements-dev.txt .venv/run.stamp
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

# Foreign clients, apart from Velo's own libraries; npm's only where Node.js is and npm's registry answers.
.venv/clients.stamp: requirements-clients.txt .venv/run.stamp
	$(PYTHON) -m venv .venv/clients
	.venv/clients/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-clients.txt
	@! command -v npm >/dev/null \
	  || npm install --silent --no-audit --no-fund --fetch-retries 1 --fetch-timeout 30000 --prefix .venv/clients openai@6.49.0 \
	  || echo "npm's registry doesn't answer: the tests leave out OpenAI's client for JavaScript." >&2
	@touch $@

# The tests drive a real browser: the system's Chromium, or a Chromium that Playwright or apt installs. They
# set clocks wrong with libfaketime.
.venv/browser.stamp: .venv/dev.stamp
	@names=; \
	command -v chromium >/dev/null || command -v chromium-browser >/dev/null \
	  || command -v google-chrome >/dev/null || names=chromium; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  command -v faketime >/dev/null || names="$$names faketime"; \
	  [ -z "$$names" ] || { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $$names; }; \
	elif [ -n "$$names" ]; then $(BIN)/playwright install --with-deps chromium; fi
	@ls /usr/lib*/*/faketime/libfaketimeMT.so.1 >/dev/null 2>&1 || { \
	  echo "The tests need libfaketime. Install it: apt-get install faketime (dnf: libfaketime)." >&2; exit 1; }
	@touch $@
