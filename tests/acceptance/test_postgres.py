"""The product's spine with its catalogue in PostgreSQL: the same tests as on SQLite, of the main
path. The storage is `dir`: the catalogue knows nothing of it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest

from tests.acceptance.cluster import Cluster
from tests.acceptance.space import doctors_are_content
from tests.acceptance.test_snapshots import (
    album,
    test_an_alias_serves_as_the_name,
    test_expiry_while_the_daemon_was_down,
    test_restore_gives_the_exact_tree_back,
    test_the_five_endpoints,
)
from tests.acceptance.test_spine import (
    api,
    impatient,
    source,
    test_a_peer_that_is_down,
    test_copies_follow_their_source,
    test_deleting_a_source_leaves_its_copies,
    test_many_syncs_at_once,
)
from tests.postgres import Postgres, serving

__all__ = [
    "album",
    "api",
    "impatient",
    "source",
    "test_a_peer_that_is_down",
    "test_an_alias_serves_as_the_name",
    "test_copies_follow_their_source",
    "test_deleting_a_source_leaves_its_copies",
    "test_expiry_while_the_daemon_was_down",
    "test_many_syncs_at_once",
    "test_restore_gives_the_exact_tree_back",
    "test_the_five_endpoints",
]

pytestmark = pytest.mark.postgres


@pytest.fixture(scope="module")
def backend() -> str:
    """The one that needs nothing."""
    return "dir"


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    """A running server."""
    with serving() as server:
        yield server


@pytest.fixture(scope="module")
def new_catalogue(postgres: Postgres) -> Callable[[], str]:
    """Databases of the server, one for each cluster."""
    numbers = itertools.count(1)

    def make() -> str:
        name = f"catalogue{next(numbers)}"
        postgres.create(name)
        return postgres.url(name)

    return make


async def test_the_doctors_are_content(cluster: Cluster) -> None:
    """After all this."""
    await doctors_are_content(cluster)
