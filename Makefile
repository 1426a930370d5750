# make demo       map a mock galaxy and compare the maps with its truth
# make demo-real  map a real MUSE cube (60 MB from PyPI)
# make stars      fetch two libraries of stars for `appraise` and `evaluate --suite anomalies` (120 MB from PyPI)
# make spectra    fetch eight real MaNGA spectra for `fit` (120 MB from PyPI, of which 0.5 MB are kept)
# make benchmark  how fast galprote is here: a table, and its figures in benchmarks/speed.json (a quarter of an hour, 9 GB)
# make benchmark-compare   what got slower than the committed benchmarks/speed.json says;  SPEED="--only model": parts
# make docs       the site in build/docs/html (no network; warnings are errors);  make docs-pages: its generated pages anew
# make test       the tests, JOBS=2 files at a time;  make lint: ruff and mypy;  make venv: only install
# make test-slurm, make test-browser   those that need a SLURM, a headless Chromium (skipped where there is none)
# make clean      remove caches and build products;  make distclean: .venv and downloads too
#
# PYTHON      interpreter for .venv; by default the first of these that is Python >= 3.11 and can make environments
# TORCH_INDEX where torch comes from; by default PyTorch's CPU builds, or pip's own index when there is an NVIDIA GPU
#             (PyPI's torch brings several GB of CUDA libraries). Empty: pip's own index.

PYTHON ?= python3 python3.13 python3.12 python3.11
TORCH_INDEX ?= $(if $(shell nvidia-smi -L 2>/dev/null | grep '^GPU'),,https://download.pytorch.org/whl/cpu)

JOBS ?= 2

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
INSTALLED := $(VENV)/.installed
TORCH := $(shell grep '^torch==' constraints.txt)
MPDAF := mpdaf==3.6
MINICUBE := data/a478/minicube.fits
MANGADAP := sdss-mangadap==4.5.0
STARS := data/stars/.fetched
SPECTRA := data/spectra/MaNGA_test_spectra.fits.gz

.DELETE_ON_ERROR:
.PHONY: help venv demo demo-real stars spectra benchmark benchmark-compare test test-slurm test-browser lint docs docs-pages clean distclean

help:
	@sed -n 's/^# \{0,1\}//p; /^$$/q' Makefile

venv: $(INSTALLED)

demo: $(INSTALLED)
	$(BIN)/galprote-pipeline run configs/demo.yaml

demo-real: $(INSTALLED) $(MINICUBE)
	$(BIN)/galprote-pipeline run configs/a478.yaml

stars: $(STARS)

spectra: $(SPECTRA)

benchmark: $(INSTALLED)
	$(BIN)/python -m benchmarks.speed $(SPEED) --json benchmarks/speed.json

# What was committed, not what `make benchmark` has written since.
benchmark-compare: $(INSTALLED)
	@git cat-file -e HEAD:benchmarks/speed.json 2>/dev/null || \
	    { echo "make: no benchmarks/speed.json is committed; 'make benchmark' makes one" >&2; exit 2; }
	@mkdir -p build && git show HEAD:benchmarks/speed.json > build/speed-recorded.json
	$(BIN)/python -m benchmarks.speed compare build/speed-recorded.json $(SPEED)

test: $(INSTALLED)
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile -m "not slow and not gpu and not slurm and not browser"

test-slurm: $(INSTALLED)
	$(BIN)/python -m pytest -m slurm

test-browser: $(INSTALLED)
	$(BIN)/python -m pytest -m browser

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(INSTALLED)
	@rm -rf build/docs
	$(BIN)/sphinx-build -b html -c docs -d build/docs/doctrees -W --keep-going -q . build/docs/html
	@echo "build/docs/html/index.html"

docs-pages: $(INSTALLED)
	$(BIN)/python -m docs.reference

clean:
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name .venv -prune -o -name __pycache__ -type d -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV) $(dir $(MINICUBE)) $(dir $(STARS)) $(dir $(SPECTRA))

$(BIN)/pip:
	@for python in $(PYTHON); do \
	    version=$$($$python -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue; \
	    found="$$found $$python ($$version)"; \
	    $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' || continue; \
	    $$python -c 'import ensurepip, venv' 2>/dev/null || { lacking=python$$version; continue; }; \
	    echo "$$python -m venv $(VENV)"; \
	    $$python -m venv $(VENV) && exit 0; \
	    rm -rf $(VENV); exit 1; \
	done; \
	if [ -n "$$lacking" ]; then \
	    echo "make: $$lacking cannot make virtual environments (no ensurepip). Install it, then type make again:" >&2; \
	    echo "    sudo apt-get install $$lacking-venv" >&2; \
	else \
	    echo "make: galprote needs Python >= 3.11; found:$${found:- none of $(PYTHON)}. Install one, or name it:" >&2; \
	    echo "    make PYTHON=/path/to/python3.12 ..." >&2; \
	fi; exit 1

# torch goes first and alone, so that its CPU index serves nothing else. When that index does not answer, the line below
# it takes torch from pip's own index: larger, but it works.
$(INSTALLED): pyproject.toml constraints.txt | $(BIN)/pip
ifneq ($(TORCH_INDEX),)
	$(PIP) install --no-deps --timeout 20 --retries 2 --index-url $(TORCH_INDEX) '$(TORCH)' \
	    || echo "make: no $(TORCH) at $(TORCH_INDEX): taking it from pip's own index (may bring several GB of CUDA)"
endif
	$(PIP) install -c constraints.txt -e '.[dev,docs,binning,compare]'
	@$(BIN)/python -c 'import torch; print("torch", torch.__version__, "with a GPU" if torch.cuda.is_available() else "on the CPU")'
	@touch $@

# The wheel is taken for its data alone, so any platform's wheel does: this machine may have none of its own.
$(MINICUBE): | $(INSTALLED)
	@mkdir -p $(@D)
	$(PIP) download --no-deps --only-binary=:all: --python-version 3.11 --abi cp311 --platform manylinux2014_x86_64 \
	    --dest $(@D)/wheel '$(MPDAF)'
	$(BIN)/python -c 'import shutil, sys, zipfile; \
	    shutil.copyfileobj(zipfile.ZipFile(sys.argv[1]).open("mpdaf/data/sdetect/minicube.fits"), sys.stdout.buffer)' \
	    $(@D)/wheel/mpdaf-*.whl > $@.part
	@mv $@.part $@ && rm -rf $(@D)/wheel

# MILES (Sanchez-Blazquez et al. 2006; Falcon-Barroso et al. 2011) and STELIB (Le Borgne et al. 2003), as MaNGA's data
# analysis pipeline carries them.
$(STARS): | $(INSTALLED)
	@mkdir -p $(@D)
	$(PIP) download --no-deps --only-binary=:all: --dest $(@D)/wheel '$(MANGADAP)'
	$(BIN)/python -c 'import pathlib, sys, zipfile; \
	    wheel, parts = zipfile.ZipFile(sys.argv[1]), lambda name: name.split("/")[2:]; \
	    wanted = [name for name in wheel.namelist() if name.endswith(".fits") \
	        and parts(name)[:2] in (["spectral_templates", "miles"], ["spectral_templates", "stelib"])]; \
	    files = [(pathlib.Path(sys.argv[2], parts(name)[1], parts(name)[-1]), name) for name in wanted]; \
	    [(path.parent.mkdir(exist_ok=True), path.write_bytes(wheel.read(name))) for path, name in files]' \
	    $(@D)/wheel/*.whl $(@D)
	@rm -rf $(@D)/wheel && touch $@

# Eight spectra with which MaNGA's data analysis pipeline tests itself.
$(SPECTRA): | $(INSTALLED)
	@mkdir -p $(@D)
	$(PIP) download --no-deps --only-binary=:all: --dest $(@D)/wheel '$(MANGADAP)'
	$(BIN)/python -c 'import shutil, sys, zipfile; \
	    shutil.copyfileobj(zipfile.ZipFile(sys.argv[1]).open("mangadap/data/tests/MaNGA_test_spectra.fits.gz"), sys.stdout.buffer)' \
	    $(@D)/wheel/*.whl > $@.part
	@mv $@.part $@ && rm -rf $(@D)/wheel
