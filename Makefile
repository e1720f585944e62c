# Two commands matter: `make demo` and `make test`. Everything they need beyond Python and make they install in .venv.
PYTHON ?= python3
PORT ?= 4000
BIN := .venv/bin

.PHONY: setup demo test test-model foreign check bench tables prices lock format clean

setup: .venv/ready

.venv/ready: pyproject.toml requirements.lock
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	$(BIN)/python -m compileall -q hub agents mcp_bridge llm registry
	touch $@

demo: setup
	$(BIN)/python -m examples.demo --port $(PORT) $(if $(ONCE),--once)

test: setup
	$(BIN)/python -m pytest

foreign: setup # the environments of HUBBUB_FOREIGN=1: other SDKs, other frameworks, Node
	$(BIN)/python -m tests.foreign.environments

test-model: setup # a real small model behind a server of llama.cpp's, which takes some minutes to build
	HUBBUB_MODEL=1 $(BIN)/python -m pytest -n 0 tests/model

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/vulture
	$(BIN)/codespell
	$(MAKE) test

bench: setup
	$(BIN)/python -m tests.bench

tables: setup
	$(BIN)/python -m tests.tables

prices: setup # after `pip install --upgrade genai-prices`: the table of prices that ships with the hub
	$(BIN)/python -m tests.known_prices

lock: # after a change of dependencies; needs pip-tools
	pip-compile --quiet --upgrade --extra demo --extra dev --generate-hashes --strip-extras --allow-unsafe --no-header \
	  --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --output-file requirements.lock pyproject.toml

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv build dist .foreign
