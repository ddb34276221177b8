# The two commands of the README: `make study` and `make test`. Each sets up its own virtual environment.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt
WHERE ?= results/local/quickstart

.PHONY: study test lint pages default-law archives clean-install gpu-check gpu-wheels clean

study: .venv/bench
	$(BIN)/joulelaw run bench/sweeps/quickstart.yaml --into $(WHERE)
	$(BIN)/joulelaw fit $(WHERE) --out $(WHERE)/law.json
	$(BIN)/joulelaw validate $(WHERE) --out $(WHERE)/validation.json
	$(BIN)/joulelaw export $(WHERE)/law.json --format csv --out $(WHERE)/coefficients.csv
	$(BIN)/joulelaw report $(WHERE) --law $(WHERE)/law.json --validation $(WHERE)/validation.json

test: .venv/test
	$(BIN)/python -m pytest --numprocesses auto --dist loadgroup

lint: .venv/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	mkdir -p build/types/joulelaw
	ln -sfn ../../../model ../../../cluster ../../../bench build/types/joulelaw/
	cp joulelaw.py build/types/joulelaw/__init__.py
	MYPYPATH=build/types $(BIN)/mypy --package joulelaw

# What the program says of itself: docs/commands/*.md and the tables of docs/dataset.md. Tests hold them to it.
pages: .venv/bench
	$(BIN)/python docs/make_commands.py
	$(BIN)/python docs/make_dataset.py

# The law that ships, model/default_law.json, from the committed rows that may make one: see docs/default_law.md.
default-law: .venv/bench
	$(BIN)/python benchmarks/default_law.py

# The source archive and, from it, the wheel, into dist/.
archives: .venv/bench
	rm -rf dist build/lib
	$(PIP) build
	$(BIN)/python -m build

# The wheel in clean environments: the small install on each Python 3.11 to 3.13 that is on the PATH, the whole on 3.11.
clean-install: archives
	$(PYTHON) tests/clean_install.py dist/*.whl
	$(PYTHON) tests/clean_install.py dist/*.whl --whole

# On a machine with an NVIDIA GPU whose Python has torch, transformers, pyarrow and nvidia-ml-py: see docs/gpu_check.md.
GPU_PYTHON ?= python3
MINUTES ?= 9
gpu-check:
	if test -d build/gpu-wheels; then \
	$(GPU_PYTHON) -m pip install --quiet --no-index --no-deps --upgrade --target build/gpu-site build/gpu-wheels/*.whl; fi
	PYTHONPATH="$(CURDIR):$(CURDIR)/build/gpu-site" $(GPU_PYTHON) -m joulelaw.bench.gpu_check --minutes $(MINUTES)

# What such a Python may lack, as wheels to carry there: under 64 MiB. WHEELS names fewer, GPU_PYTHON_VERSION its version.
WHEELS ?= annotated-types pandas pydantic pydantic-core python-dateutil scipy six threadpoolctl typing-extensions typing-inspection
GPU_PYTHON_VERSION ?= 3.12
gpu-wheels:
	rm -rf build/gpu-wheels
	$(PYTHON) -m pip download --quiet --no-deps --only-binary=:all: --implementation cp \
	--python-version $(GPU_PYTHON_VERSION) --dest build/gpu-wheels --constraint constraints.txt \
	$(foreach each,28 27 24 17,--platform manylinux_2_$(each)_x86_64) --platform manylinux2014_x86_64 $(WHEELS)
	du -sh build/gpu-wheels

# Stamps: made anew when what is installed changes.
.venv/bench: pyproject.toml constraints.txt
	test -d .venv || $(PYTHON) -m venv .venv
	$(PIP) --editable '.[bench]'
	touch $@

.venv/test: .venv/bench
	$(PIP) --editable '.[bench,test]'
	touch $@

clean:
	rm -rf .venv build dist *.egg-info
