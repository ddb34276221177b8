# The two commands of the README: `make study` and `make test`. Each sets up its own virtual environment.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt
WHERE ?= results/local/quickstart

.PHONY: study test lint clean

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
