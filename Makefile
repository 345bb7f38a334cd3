# `make` alone lists the targets.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
READY := $(VENV)/.ready
LESSONS := $(VENV)/.lessons
LIVE := $(VENV)/.live
NODE := site/node_modules/.package-lock.json
# pip options for torch, which is installed with its dependencies, because a GPU build has libraries of its own
TORCH ?=

# The training's large, short-lived tensors want huge pages and an allocator that keeps its memory.
FAST := GLIBC_TUNABLES=glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=8589934592:glibc.malloc.trim_threshold=17179869184

# stored with each lesson, beside the times of its cells
PROCESSOR := import json, ldm.helpers.machine as m; print(json.dumps({"processor": m.processor()}))

.DEFAULT_GOAL := help
.PHONY: help setup demo gallery lessons notebooks exercises docs test test-full test-machines test-notebooks test-live site live equations mutants benchmark bench judge busy lint format train-stickers contact-sheet clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

setup: $(READY) ## install everything into .venv, at the versions of requirements.lock

$(READY): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check --constraint requirements.lock torch $(TORCH)
	$(RUN) -m pip install --quiet --disable-pip-version-check --no-deps -r requirements.lock
	$(RUN) -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

demo: $(READY) ## an image, the same seed with one word changed, and the Prompt-to-Prompt edit: out/demo.png
	$(RUN) -m p2p.cli.demo

gallery: $(READY) ## every kind of edit, and ten edits of one source: docs/gallery.png, docs/targets.png
	$(RUN) -m p2p.cli.gallery

$(LESSONS): requirements-lessons.lock $(READY)
	$(RUN) -m pip install --quiet --disable-pip-version-check --no-deps -r requirements-lessons.lock
	@touch $@

lessons: $(LESSONS) ## open the lessons in Jupyter
	$(RUN) -m jupyter lab notebooks

notebooks: $(LESSONS) ## execute the lessons and store them with their outputs
	TQDM_DISABLE=1 $(RUN) -m jupytext --quiet --to ipynb --update-metadata "$$($(RUN) -c '$(PROCESSOR)')" --execute notebooks/[0-9]*.py
	$(RUN) -m p2p.equations.instructors

exercises: $(LESSONS) ## write the lessons without solutions, for students: out/exercises
	$(RUN) -m notebooks.strip out/exercises

docs: $(LESSONS) ## build the site of lessons, formulas, guides and API, with the page of `make site` if built: out/site
	NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build --strict -f docs/site/mkdocs.yml

$(LIVE): requirements-live.lock $(READY)
	$(RUN) -m pip install --quiet --disable-pip-version-check --no-deps -r requirements-live.lock
	@touch $@

$(NODE): site/package.json site/package-lock.json
	@node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)' || { echo "Node.js 20 or newer is needed, with npm"; exit 1; }
	cd site && npm ci --ignore-scripts --no-progress --loglevel=error

site: $(LIVE) $(NODE) ## build the page that edits in the browser, for any static host: site/dist
	$(RUN) -m p2p.live.build
	cd site && npm run --silent build

site/dist/index.html:
	$(MAKE) site

live: site/dist/index.html ## edit in the browser: serve that page from this machine and open it
	$(RUN) -m p2p.live.serve

/usr/bin/chromium:
	apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium

test-live: site /usr/bin/chromium ## check the page (types, its method against Python's, in Chromium) and the links of the site of lessons
	cd site && npm run --silent types && npm run --silent test
	$(MAKE) docs
	$(RUN) -m pytest -m live tests/live
	cd site && PYTHON=$(CURDIR)/$(RUN) npm run --silent e2e

test: $(READY) ## run the tests, a file on each core at a time
	OMP_NUM_THREADS=1 $(RUN) -m pytest --numprocesses auto --dist loadfile

test-full: $(READY) ## run the tests at the full sizes of public models, which `test` skips (minutes, 12 GB of memory)
	$(RUN) -m pytest -m full

test-notebooks: $(LESSONS) ## execute every lesson in a fresh kernel, in a folder of its own, one on each core at a time
	OMP_NUM_THREADS=1 $(RUN) -m pytest -m notebooks --numprocesses auto --dist worksteal

test-machines: $(READY) ## run the bit-for-bit tests on emulated processors, and measure how much an edit differs there
	$(RUN) tests/machines.py

equations: $(READY) ## write EQUATIONS.md, every formula with its functions and tests, and the tables of docs/instructors.md
	$(RUN) -m p2p.equations.index
	$(RUN) -m p2p.equations.instructors

mutants: $(READY) ## mutation tests: break every formula in many ways, run its tests (minutes), and write EQUATIONS.md
	OMP_NUM_THREADS=1 $(RUN) tests/mutants.py
	$(RUN) -m p2p.equations.index

benchmark: $(READY) ## measure edits whose right answer is known (an hour, resumes; QUICK=1: minutes): docs/benchmark.md
	OMP_NUM_THREADS=1 $(RUN) -m torch.distributed.run --nproc-per-node $$($(RUN) -c 'import os; print(os.cpu_count())') -m p2p.benchmark.run $(if $(QUICK),--quick)

bench: $(LIVE) ## measure the speed of an edit beside others (half an hour, quiet; QUICK=1: minutes; GPU=1): docs/speed.md
	$(RUN) -m p2p.speed.run $(if $(QUICK),--quick) $(if $(GPU),--gpu)

judge: $(READY) ## print the sticker fit of every noun, and how many held-out captions the small CLIP finds (minutes)
	$(RUN) -m weights.training.sticker_fit

busy: $(READY) ## time an edit alone and beside another program, for each way that threads can wait (minutes)
	$(RUN) tests/busy.py

lint: $(READY) ## check style
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

format: $(READY) ## fix style
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

train-stickers: $(READY) ## train the included model from scratch (hours; resumes where it stopped)
	$(FAST) $(RUN) -m weights.training.train autoencoder
	$(FAST) $(RUN) -m weights.training.train diffusion
	$(FAST) $(RUN) -m weights.training.train decoder
	$(FAST) $(RUN) -m weights.training.train vq
	$(RUN) -m weights.training.train export
	$(FAST) $(RUN) -m weights.training.train clip
	$(FAST) $(RUN) -m weights.training.train classes

contact-sheet: $(READY) ## 100 held-out prompts and ten edits by the included model: weights/stickers/contact_sheet.png
	$(RUN) -m p2p.experiments.contact_sheet

clean: ## remove everything that make created (not the training runs, which are in the user's cache)
	rm -rf $(VENV) site/node_modules site/model site/dist out build *.egg-info .pytest_cache .ruff_cache
