"""Storage is shared: ten copies of one source on one server take the space of one, and a sync of
all ten takes the space and the wire bytes of one increment.

On zfs the space is the root's `used`. On dir a live tree is a copy (`du` counts it so where the
filesystem has reflinks, too), but the snapshots that it is made from are stored once.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from tests.acceptance.album import Album, write_file
from tests.acceptance.cluster import Cluster, MakeCluster
from tests.acceptance.space import MIB, doctors_are_content, falls_below, used_bytes

COPIES = 10
TREE_BYTES = 12 * MIB
MORE_BYTES = 8 * MIB
MESSAGE_BYTES = 64 << 10  # what a job that ships nothing may cost on the wire
EACH_BYTES = 2 * MIB  # what a generation may take beside its data; zfs-fuse's blocks and identity
SOME_BYTES = 2 * MIB

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def cluster(make_cluster: MakeCluster) -> Cluster:
    """Two servers, each with room for several jobs at once."""
    return make_cluster(2, {"transfer": {"max_concurrent": 4}})
