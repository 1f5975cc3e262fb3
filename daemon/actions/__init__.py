"""What jobs do: one verb a file.

context      what an action is given
anchors      the snapshot of the source that a job works from
holds        keeping what a job uses
history      the user snapshots that a copy inherits
ledger       what replication writes down, and its turns
generations  the one primitive: a new generation from a snapshot
identity     the container's own names and keys inside its root filesystem
bring        what copy, sync and create from an image share
images       an image comes to the server that needs it
create, copy, sync, restore, snapshots, power, delete, prespawn   the verbs
collect      the one place that destroys datasets and snapshots
letting_go   what the collector lets go of in the catalogue
look, sizes  what was written to a filesystem, and how much it is
"""

from __future__ import annotations

from collections.abc import Mapping

from daemon.actions import copy, create, delete, power, prespawn, restore, snapshots, sync
from daemon.actions.context import Action
from daemon.model import JobType

_POWER = Action(power.run, power.abandon)

ACTIONS: Mapping[JobType, Action] = {
    JobType.CREATE: Action(create.run, create.abandon),
    JobType.COPY: Action(copy.run, copy.abandon),
    JobType.SYNC: Action(sync.run, sync.abandon),
    JobType.RESTORE: Action(restore.run, restore.abandon),
    JobType.SNAPSHOT: Action(snapshots.take, snapshots.abandon),
    JobType.SNAPSHOT_DELETE: Action(snapshots.delete, snapshots.abandon),
    JobType.EXPIRE: Action(snapshots.expire, snapshots.abandon),
    JobType.START: _POWER,
    JobType.STOP: _POWER,
    JobType.RESTART: _POWER,
    JobType.DELETE: Action(delete.run, delete.abandon),
    JobType.PRESPAWN: Action(prespawn.run, prespawn.abandon),
}
