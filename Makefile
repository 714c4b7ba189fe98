# `make` prints the targets. `make demo` and `make test` need nothing but Python 3.11 or newer.
#
# PyPI's torch for Linux brings CUDA's packages (gigabytes). For a CPU build, install it first from PyTorch's CPU
# index, as pytorch.org shows, into a virtual environment of your own, and name that: make demo VENV=path/to/venv

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
# Options for pip, as --index-url
PIP_OPTIONS ?=
COMPILER = $(if $(shell command -v c++),,CXX=$(abspath $(BIN)/zig-c++))

.DEFAULT_GOAL = help
.PHONY: help demo web test test-slow lint results format clean

help: ## print the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

# The core is compiled by the system's compiler, or where there is none by that of the package ziglang.
$(BIN)/.rdcodec: pyproject.toml constraints.txt $(wildcard native/*)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	command -v c++ >/dev/null || test -x $(BIN)/zig-c++ || ./native/zig.sh $(BIN) $(PIP_OPTIONS)
	$(COMPILER) $(BIN)/python -m pip install --quiet $(PIP_OPTIONS) --constraint constraints.txt --editable .
	touch $@

$(BIN)/.rdcodec-dev: $(BIN)/.rdcodec
	$(COMPILER) $(BIN)/python -m pip install --quiet $(PIP_OPTIONS) --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: $(BIN)/.rdcodec ## compress and decode a photo beside JPEG and WebP, and draw the three side by side
	$(BIN)/rdc demo -o demo --force

web: $(BIN)/.rdcodec-dev ## build what pages run into src/rdcodec/web: the core as WebAssembly, and with npm TypeScript
	./native/wasm.sh $(BIN)/python src/rdcodec/web/rdc.wasm
	cd web && npm install --no-audit --no-fund --silent && npx tsc

test: $(BIN)/.rdcodec-dev lint ## lint, types, import rules and tests; six minutes on two idle cores
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadgroup

test-slow: $(BIN)/.rdcodec-dev ## the tests that take minutes each
	$(BIN)/python -m pytest -m slow

lint: $(BIN)/.rdcodec-dev ## ruff, mypy strict, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

RESULTS = docs/results
MEASURED = $(wildcard $(foreach set,kodak clic,$(addprefix $(RESULTS)/$(set)-,I.json J.json H.json G.json))) \
	$(wildcard $(RESULTS)/kodak-?-effort4.json $(RESULTS)/eye-*.json $(RESULTS)/speed-*.json) \
	$(wildcard $(RESULTS)/clic-[a-z]*.json $(RESULTS)/kodak-[a-z]*.json) $(wildcard $(RESULTS)/bench-*.json) \
	$(addprefix $(RESULTS)/,bench.json models.json light.json families.json)

results: $(BIN)/.rdcodec-dev ## write the pages, tables and figures of docs and README anew from docs/results/*.json
	$(BIN)/rdc report $(MEASURED) --output $(RESULTS) --readme README.md --force
	$(BIN)/python scripts/models_page.py

format: $(BIN)/.rdcodec-dev ## rewrite the sources as ruff likes them
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove what make made
	rm -rf $(VENV) demo dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
