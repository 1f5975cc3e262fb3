"""Clusters for the acceptance tests, and their logs beside a failure."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import pytest

from tests.acceptance import boxes
from tests.acceptance.api import Api
from tests.acceptance.cluster import Cluster, MakeCluster, Settings
from tests.kernel_zfs import KERNEL
from tests.postgres import Postgres, serving
from tests.wires import Wires, opened
from transfer.storage.private_zfs import PrivateZfs

_running: list[Cluster] = []
_numbers = count(1)


@pytest.fixture(
    scope="module",
    params=["dir", pytest.param("zfs", marks=[pytest.mark.zfs, pytest.mark.postgres])],
)
def backend(request: pytest.FixtureRequest) -> str:
    """Both kinds of storage, one after the other."""
    return str(request.param)


@pytest.fixture(scope="session")
def cluster_type() -> type[Cluster]:
    """What `make_cluster` makes."""
    return Cluster


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A running server."""
    with serving() as server:
        yield server


@pytest.fixture(scope="module")
def new_catalogue(
    request: pytest.FixtureRequest, backend: str
) -> Callable[[], str] | Callable[[], None]:
    """Makes the address of an empty catalogue for a cluster: beside zfs in PostgreSQL, beside dir
    a SQLite file of its own, which is None. Storage and catalogue know nothing of each other, so
    each test runs on both of either. The machine of tests/openzfs has no PostgreSQL."""
    if backend == "dir" or KERNEL:
        return lambda: None
    server: Postgres = request.getfixturevalue("postgres")

    def make() -> str:
        name = f"catalogue{next(_numbers)}"
        server.create(name)
        return server.url(name)

    return make


@pytest.fixture(scope="module")
def make_cluster(
    request: pytest.FixtureRequest,
    backend: str,
    cluster_type: type[Cluster],
    new_catalogue: Callable[[], str | None],
) -> Iterator[MakeCluster]:
    """Starts clusters of the backend that live as long as the module's tests with it."""
    zfs: PrivateZfs | None = request.getfixturevalue("zfs_daemon") if backend == "zfs" else None
    with ExitStack() as stack:

        def make(servers: int = 2, settings: Settings | None = None) -> Cluster:
            name = stack.enter_context(tempfile.TemporaryDirectory(prefix="hoody-"))
            cluster = cluster_type(
                Path(name),
                backend,
                servers,
                zfs=zfs,
                settings=settings,
                database_url=new_catalogue(),
            )
            _running.append(cluster)
            stack.callback(_running.remove, cluster)
            return stack.enter_context(cluster)

        yield make


@pytest.fixture(scope="module")
def wires() -> Iterator[Wires]:
    """A network of the tests' own, in which clusters are that are made after it."""
    yield from opened()


@pytest.fixture(scope="module")
def cluster(make_cluster: MakeCluster) -> Cluster:
    """Two servers, a and b."""
    return make_cluster(2)


@pytest.fixture(scope="module")
def running(wires: Wires, make_cluster: MakeCluster) -> Iterator[Cluster]:
    """Two servers, a and b, of one machine, which run what is in their containers."""
    yield from boxes.running(wires, make_cluster, 2, {})


@pytest.fixture
async def api(cluster: Cluster) -> AsyncIterator[Api]:
    """What the module's first server is asked with."""
    async with cluster.api() as asked:
        yield asked


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        for cluster in _running:
            report.sections += cluster.logs()
    return report
