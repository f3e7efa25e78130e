# Two commands: `make demo` runs the whole pipeline on the embedded world, `make test` the checks. Both set up .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WORLD ?= config/world.yaml
PYTEST := $(BIN)/python -m pytest -n 2 --dist worksteal
# Re-installed only when one of these changes; the name of the stamp holds their hash.
STAMP := $(VENV)/.installed-$(shell cat pyproject.toml requirements.lock | cksum | cut -d' ' -f1)

.PHONY: help env demo test long quick browser cluster lint format docs site world lock disturbed clean clean-results

help:
	@echo "make demo    install into $(VENV), then run the workflow on the embedded demo world"
	@echo "make test    install into $(VENV), then run the linters and the tests (10 minutes on 2 cores)"
	@echo "make quick   the same without the slow tests (2 minutes)"
	@echo "make long    the tests that take whole datasets through the workflow or kill many runs (10 minutes)"
	@echo "make world   the generated benchmark world-1, from rendering to the table of all methods (hours on 2 cores; WORLD=config/world-noisy.yaml)"
	@echo "make disturbed kill, end and starve whole runs at random moments (PRVR_KILLS=100 PRVR_SIGNALS=50 PRVR_DISKS=20: hours)"
	@echo "make browser the search page and the report in Debian's Chromium, which it installs (Debian, root)"
	@echo "make cluster run the workflow on a real one-node Slurm (Debian, root)"
	@echo "make docs    regenerate the configuration reference and schema"
	@echo "make site    the documentation as a site in site/, every link checked"
	@echo "make clean   remove caches; make clean-results removes what was computed too, and asks first"

env: $(STAMP)

$(STAMP): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(not ((3, 11) <= sys.version_info[:2] <= (3, 13)))' \
	  || { echo "prvr needs Python 3.11 to 3.13; $(PYTHON) is $$($(PYTHON) --version). Try: make PYTHON=python3.12 ..."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV) (about 7 GB with torch's CUDA libraries, a few minutes, once) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@rm -f $(VENV)/.installed-* && touch $(STAMP)

demo: env
	$(BIN)/snakemake --cores all --resources gpu=1
	@$(BIN)/prvr summary

test: lint
	$(PYTEST) -m "not long and not cluster and not browser and not disturbed"

long: env
	$(PYTEST) -m long

quick: lint
	$(PYTEST) -m "not slow and not cluster and not browser and not disturbed"

disturbed: env
	$(BIN)/python -m pytest -s -m disturbed tests/workflow

# Where Chromium cannot be installed the tests say that they are skipped.
browser: env
	@command -v chromium chromedriver >/dev/null || apt-get install --yes --no-install-recommends chromium chromium-driver >/dev/null \
	  || { apt-get update >/dev/null && apt-get install --yes --no-install-recommends chromium chromium-driver >/dev/null; } \
	  || echo "Chromium could not be installed"
	$(BIN)/python -m pytest -m browser -rs tests/search tests/report

# Installs Debian's Slurm and starts a one-node cluster, so it is asked for by name.
cluster: env
	$(BIN)/python -m pytest tests/cluster

lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/snakemake --lint

format: env
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/snakefmt Snakefile workflow

docs: env
	$(BIN)/prvr config docs

site: env
	$(BIN)/python -m mkdocs build
	@echo "site/index.html opens it; its search box needs a server: $(BIN)/python -m http.server --directory site --bind 127.0.0.1"

# A generated benchmark (docs/world.md): renders, extracts, trains, compares all methods and the paper's ablation, measures. Many hours on two cores.
world: env
	$(BIN)/snakemake --configfile $(WORLD) --cores all --resources gpu=1
	$(BIN)/snakemake compare --configfile $(WORLD) --cores all --resources gpu=1
	$(BIN)/snakemake ablation --configfile $(WORLD) --cores all --resources gpu=1
	$(BIN)/python -m benchmarks.world_checksums --configfile $(WORLD)
	$(BIN)/python -m benchmarks.world --configfile $(WORLD) --statistics
	$(BIN)/python -m benchmarks.world_rows save measure table --configfile $(WORLD)
	$(BIN)/python -m benchmarks.world_queries --configfile $(WORLD)

# After constraints.txt or the dependencies change. uv is needed for this alone: it asks the index for the files of every platform.
lock:
	@head -2 requirements.lock > requirements.new
	@uv pip compile pyproject.toml --extra dev --extra transformers --constraint constraints.txt --universal --python-version 3.11 \
	  --generate-hashes --no-header --no-annotate >> requirements.new
	@mv requirements.new requirements.lock

# What comes back by itself. Not .snakemake, which knows what results/ was made with.
clean:
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis build site *.egg-info
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +

clean-results:
	@test -d results || { echo "no results/ here: nothing to remove"; exit 0; }; \
	echo "This removes everything computed here, hours of work perhaps:"; du -sh results/* .snakemake 2>/dev/null; \
	if [ -n "$(YES)" ]; then answer=yes; \
	elif [ -t 0 ]; then printf "Type yes to remove it: "; read -r answer; \
	else echo "Nobody to ask. To remove it all the same: make clean-results YES=1"; exit 1; fi; \
	[ "$$answer" = yes ] || { echo "Nothing was removed."; exit 1; }; \
	rm -rf results .snakemake
