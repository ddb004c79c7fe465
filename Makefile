# `make demo` and `make test` do all the set-up on a fresh machine; both rerun quickly.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

# Of `make soak`.
SIAMTRACK_SOAK_FRAMES ?= 1000000
SIAMTRACK_SOAK_EXAMPLES ?= 20000

# The lock does not run past this one.
LOCKED_TORCH := torch==2.13.0

.PHONY: help demo test lint docs format wheel wheel-check runtime-check readers-check soak lock clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(INSTALLED): requirements.lock pyproject.toml siamtrack/_version.py
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else f"Python {v[0]}.{v[1]} is too old, siamtrack needs 3.11 or newer; run: make PYTHON=python3.11 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

demo: $(INSTALLED)  ## set up, make a clip, track it, write the result to siamtrack-demo/
	$(BIN)/siamtrack demo

test: $(INSTALLED)  ## set up, run all tests with coverage
	$(BIN)/python -m pytest -n auto --cov --cov-report=term

lint: $(INSTALLED)  ## style, types, and which package imports which
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy siamtrack $(wildcard tools/*.py)
	$(BIN)/lint-imports

docs: $(INSTALLED)  ## build the documentation into build/site; a dead link fails
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

format: $(INSTALLED)  ## rewrite the sources in the house's layout
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

wheel: $(INSTALLED)  ## build dist/siamtrack-*.whl, weights inside
	rm -rf dist
	$(BIN)/python -m build --no-isolation --wheel --outdir dist

wheel-check: wheel  ## install the wheel in an empty environment elsewhere and run it there
	rm -rf build/wheel-check && mkdir -p build/wheel-check/elsewhere
	$(PYTHON) -m venv build/wheel-check/venv
	build/wheel-check/venv/bin/python -m pip install --quiet --disable-pip-version-check \
		--constraint requirements.lock dist/*.whl
	cd build/wheel-check/elsewhere && ../venv/bin/siamtrack --version && ../venv/bin/siamtrack demo

runtime-check:  ## install the wheel without torch in an empty environment, use it there, print its size
	$(PYTHON) tests/runtime_check.py build/runtime-check

build/readers/.installed: $(INSTALLED) requirements-readers.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-compile --upgrade \
		--target build/readers -r requirements-readers.txt
	touch $@

readers-check: build/readers/.installed  ## read each format that convert writes with the programs it is for, print the errors
	PYTHONPATH=build/readers $(BIN)/python -m pytest -rP tests/data/test_track_readers.py

soak: $(INSTALLED)  ## robustness for hours: long runs, more fuzzing; figures into build/soak
	SIAMTRACK_SOAK=1 SIAMTRACK_SOAK_FRAMES=$(SIAMTRACK_SOAK_FRAMES) SIAMTRACK_SOAK_EXAMPLES=$(SIAMTRACK_SOAK_EXAMPLES) \
		$(BIN)/python -m pytest tests/robustness --timeout=0 -p no:cacheprovider

# pip brings what torch's build for the machine at hand needs, so none of that is locked.
lock: $(INSTALLED)  ## write requirements.lock anew, newest versions (torch stays)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check pip-tools
	$(BIN)/pip-compile --quiet --all-extras --allow-unsafe --strip-extras --upgrade \
		--upgrade-package '$(LOCKED_TORCH)' --no-header --no-annotate --no-emit-options \
		--output-file requirements.lock pyproject.toml
	sed -i -E -e 's/\+cpu$$//' -e '/^(#|-|nvidia-|cuda-|triton==|$$)/d' requirements.lock
	mkdir -p build && awk -F== 'NR == FNR {new[$$1] = $$2; next} ($$1 in new) && $$1 != "onnxruntime" {sub(/==[^;]*/, "==" new[$$1])} 1' \
		requirements.lock requirements-runtime.txt > build/runtime.txt && mv build/runtime.txt requirements-runtime.txt

clean:  ## remove everything the other targets made
	rm -rf $(VENV) build dist siamtrack-demo .coverage .pytest_cache .mypy_cache .ruff_cache .hypothesis
