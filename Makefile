# make demo   set everything up and run the main job; the results are in demo/
# make test   set everything up and run the tests
# make browser   install Chromium on Debian, as root, for the tests of the report page, which are skipped without
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test browser check clean

demo: $(READY)
	$(BIN)/python samples/demo.py

test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile

browser:
	command -v chromium || { apt-get update -qq && apt-get install -qq --no-install-recommends chromium; }

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(READY): pyproject.toml constraints.txt samples/packages/starbucks-minilm-l6/pyproject.toml samples/starbucks-minilm-l6/manifest.json
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[all,dev]" ./samples/packages/starbucks-minilm-l6
	touch $(READY)

clean:
	rm -rf $(VENV) demo
