"""What jobs do: one verb a file.

context      what an action is given
anchors      the snapshot of the source that a job works from
ledger       what replication writes down, and its turns
generations  the one primitive: a new generation from a snapshot
identity     the container's own names and keys inside its root filesystem
create, copy, sync, power, delete   the verbs
collect      the one place that destroys datasets and snapshots
"""

from __future__ import annotations

from collections.abc import Mapping

from daemon.actions import copy, create, delete, power, sync
from daemon.actions.context import Action
from daemon.model import JobType

_POWER = Action(power.run, power.abandon)

ACTIONS: Mapping[JobType, Action] = {
    JobType.CREATE: Action(create.run, create.abandon),
    JobType.COPY: Action(copy.run, copy.abandon),
    JobType.SYNC: Action(sync.run, sync.abandon),
    JobType.START: _POWER,
    JobType.STOP: _POWER,
    JobType.RESTART: _POWER,
    JobType.DELETE: Action(delete.run, delete.abandon),
}
