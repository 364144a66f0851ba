# make run       install what is needed and start the service in the foreground
# make test      install what is needed and run lint, types and tests
# make torture   kill the service 200 times while it files 5,000 images; TORTURE="--kills 50" less
# make crowd     the same with four services on one inbox and a PostgreSQL server; CROWD="--kills 10" less
# make machine   try the service under a real systemd, in an emulated machine; takes root and half an hour
# make bench     measure how fast it is, with PHOTOS=folder on your own photos
# make install   the set-up alone
# make clean     remove what the above made, except moodsort-data
#
# make install-service   install it as a service of systemd; see systemd/service.mk

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
SAMPLES ?=
TORTURE ?=
CROWD ?=
MACHINE ?=
PHOTOS ?=

SUITABLE = $(PYTHON) -c 'import sys; (3, 11) <= sys.version_info < (3, 14) or sys.exit("moodsort needs Python 3.11, 3.12 or 3.13; this is " + sys.version.split()[0] + ". Name another: make PYTHON=python3.12 ...")'

.PHONY: run test torture crowd machine bench install clean

run: install
ifneq ($(SAMPLES),)
	@$(BIN)/python -m tests.faces moodsort-data/inbox --count 12 --flat
endif
	@exec $(BIN)/moodsort run

test: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest

torture: install
	$(BIN)/python -m tests.crash.torture $(TORTURE)

crowd: install
	$(BIN)/python -m tests.crash.crowd $(CROWD)

machine: install
	$(BIN)/python -m tests.machine $(MACHINE)

bench: install
	$(BIN)/python -m benchmarks $(if $(PHOTOS),--photos $(PHOTOS))

install: $(INSTALLED)

# The stamp makes the second time fast: pip runs again only when the requirements change.
$(INSTALLED): pyproject.toml constraints.txt
	@$(SUITABLE)
	@# Some systems package venv without the means to put pip into it; then pip of the system does.
	@$(PYTHON) -m venv $(VENV) >/dev/null || { $(PYTHON) -m venv --without-pip $(VENV) && \
		$(PYTHON) -m pip --python $(BIN)/python install --quiet pip; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache

include systemd/service.mk
