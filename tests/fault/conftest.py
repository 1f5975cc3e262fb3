"""The acceptance tests' clusters, for faults: workers and streams stop where a test wants it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.acceptance.conftest import (
    backend,
    cluster,
    make_cluster,
    pytest_runtest_makereport,
)
from tests.fault.boundaries import ForkingCluster

__all__ = ["backend", "cluster", "make_cluster", "pytest_runtest_makereport"]


@pytest.fixture(scope="module")
def new_catalogue() -> Callable[[], None]:
    """A SQLite file of its own for each cluster."""
    return lambda: None


@pytest.fixture(scope="session")
def cluster_type() -> type[ForkingCluster]:
    """What `make_cluster` makes."""
    return ForkingCluster
