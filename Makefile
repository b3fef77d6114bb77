# Two commands: `make demo` sets everything up and runs the main job on the samples; `make test` runs the checks. `make docs` builds the pages.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PREFECT_SERVER_ANALYTICS_ENABLED = false
export DO_NOT_TRACK = 1
export NO_MKDOCS_2_WARNING = 1

.PHONY: demo test check docs serve samples sbom clean

demo: $(VENV)/ready
	$(BIN)/python -m flows.demo

# One process more than there are cores, 4 at most: tests of servers mostly wait, and another works meanwhile.
test: $(VENV)/ready check docs
	$(BIN)/python -m pytest --dist loadfile --no-loadscope-reorder \
	  --numprocesses $$($(BIN)/python -c 'import os; print(min(4, len(os.sched_getaffinity(0)) + 1 if hasattr(os, "sched_getaffinity") else 2))')

check: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/docs-ready
	$(BIN)/mkdocs build --quiet --strict
	@echo "open out/site/index.html"

serve: $(VENV)/ready
	$(BIN)/python -m flows.serve

samples: $(VENV)/ready
	$(BIN)/python -m anomaly.data.samples.synthetic data_samples

# What is installed here, with versions, licences and hashes, as CycloneDX; images bring theirs (deploy/*.Dockerfile).
sbom: $(VENV)/ready
	mkdir -p out
	$(BIN)/cyclonedx-py environment --output-reproducible --output-file out/sbom.cdx.json $(BIN)/python
	@echo "out/sbom.cdx.json"

$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[train,flows,alerts,mqtt,kafka,opcua,camera,registry,page,dev]'
	touch $@

$(VENV)/docs-ready: $(VENV)/ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[docs]'
	touch $@

clean:
	rm -rf $(VENV) out .anomaly
