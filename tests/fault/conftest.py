"""The acceptance tests' clusters, for faults."""

from __future__ import annotations

from tests.acceptance.conftest import (
    backend,
    cluster,
    make_cluster,
    new_catalogue,
    pytest_runtest_makereport,
)

__all__ = ["backend", "cluster", "make_cluster", "new_catalogue", "pytest_runtest_makereport"]
