# Two commands do everything: `make run` starts the app, `make test` proves that it works.
# While working on the code, `make check` says within two minutes whether it still holds. Before a
# release, `make test-all` tries everything, in three quarters of an hour on two cores.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Threads that wait sleep, so that processes beside each other do not slow down one another.
export OMP_WAIT_POLICY := PASSIVE
CHROMIUM := $(shell command -v chromium || command -v chromium-browser || command -v google-chrome)

.PHONY: run train-tools test test-all check lint types layers fast tests thorough-tests bench examples pictures browser clean

run: $(VENV)/.app
	$(BIN)/python app.py

train-tools: $(VENV)/.dev

test: lint types layers tests

test-all: test thorough-tests

check: lint types layers fast

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/pyright

layers: $(VENV)/.dev
	$(BIN)/lint-imports

# The units alone, without those that draw much.
fast: $(VENV)/.dev
	$(BIN)/python -m pytest tests/unit -m "not slow"

# Two workers of one thread draw more in a minute than one of two threads. Beside tests that measure
# seconds or show a page, nothing runs.
TWO_WORKERS := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile
ONE_WORKER := $(BIN)/python -m pytest

tests: $(VENV)/.dev browser
	$(TWO_WORKERS) -m "not alone and not thorough"
	$(ONE_WORKER) -m "alone and not thorough"

thorough-tests: $(VENV)/.dev browser
	$(TWO_WORKERS) -m "thorough and not alone"
	$(ONE_WORKER) -m "thorough and alone"

bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks.startup
	$(BIN)/python -m benchmarks.digits
	$(BIN)/python -m benchmarks.color
	$(BIN)/python -m benchmarks.text
	$(BIN)/python -m benchmarks.clip
	$(BIN)/python -m benchmarks.emoji
	$(BIN)/python -m benchmarks.exact
	$(BIN)/python -m benchmarks.edit
	$(BIN)/python -m benchmarks.edit --lesson --restyle --published --speed
	$(BIN)/python -m benchmarks.exact_edit
	$(BIN)/python -m benchmarks.finetuning
	$(BIN)/python -m benchmarks.recipes
	$(BIN)/python -m benchmarks.recipes --image-size 64 --mixed-precision bf16 \
	  --only "base, predicts, no loss, patches, narrower, wider"
	$(BIN)/python -m benchmarks.steps
	$(BIN)/python -m benchmarks.few_steps
	$(BIN)/python -m benchmarks.batches --quick
	$(BIN)/python -m benchmarks.speed

# Draws the examples that the app answers with at once.
examples: $(VENV)/.dev
	$(BIN)/python -m benchmarks.examples

# Takes the pictures of the README in a real browser.
pictures: $(VENV)/.dev browser
	mkdir -p assets/screenshots
	STUDIO_SCREENSHOTS=assets/screenshots $(BIN)/python -m pytest tests/browser/test_browser.py -k readme

# The browser tests need a Chromium; Playwright's own is fetched where the system has none.
browser: $(VENV)/.dev
ifeq ($(CHROMIUM),)
	$(BIN)/playwright install --with-deps chromium
endif

$(VENV)/.app: requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -r requirements.txt
	touch $@

$(VENV)/.dev: requirements.txt requirements-dev.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -r requirements-dev.txt
	touch $(VENV)/.app $@

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache
