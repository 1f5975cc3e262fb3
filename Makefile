# Every target does its own set-up. The virtual environment is made again only when the lock or
# pyproject.toml has changed.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Tests wait more than they work: for disks, for transaction groups, for daemons to start.
WORKERS ?= 4

# Some images have it set; then each of a thousand processes would compile our modules anew.
unexport PYTHONDONTWRITEBYTECODE

# Where `make install` puts things; DESTDIR, for those who make packages, comes in front. The config
# lies in /etc whatever the prefix is, and systemd looks for units below /usr/local and /usr.
PREFIX ?= /usr/local

.PHONY: demo test test-openzfs lint bench lock clean install uninstall

demo: $(READY)
	$(BIN)/hoodyd demo $(ARGS)

test: $(READY)
	tests/install-parts
	$(MAKE) lint
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --max-worker-restart 0 $(ARGS)

# The zfs tests on the real module, in machines under emulation: OpenZFS 2.1, or 2.3 where
# OPENZFS=backports; then those of two servers whose link and power are cut.
test-openzfs: $(READY)
	tests/install-parts openzfs
	$(BIN)/python -m tests.openzfs $(ARGS)
	$(BIN)/python -m pytest tests/openzfs

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Within a quarter of an hour; ARGS: --quick, --only PART, --gigabytes N, --output DIRECTORY.
bench: $(READY)
	tests/install-parts
	tests/install-parts bench
	$(BIN)/python -m benchmarks $(ARGS)

# Pins anew what CI installs. The versions alone are kept: no index, path or host of this machine.
lock: $(READY)
	$(BIN)/pip-compile --quiet --upgrade --extra dev --strip-extras --allow-unsafe --no-header \
	    --no-annotate --no-emit-index-url --no-emit-find-links --no-emit-trusted-host \
	    --output-file requirements.new pyproject.toml
	echo '# Exact versions that CI installs. Made by `make lock` from pyproject.toml.' > requirements.lock
	grep -v -e '^#' -e '^$$' requirements.new >> requirements.lock
	rm requirements.new

install:
	PYTHON='$(PYTHON)' systemd/install '$(PREFIX)' '$(DESTDIR)'

uninstall:
	systemd/uninstall '$(PREFIX)' '$(DESTDIR)'

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed") if sys.version_info < (3, 11) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $(READY)
