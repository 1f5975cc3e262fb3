"""Which verb works on a container in which state: API.md's table *State and verb*, as a table.

Everything about it stands in this file: the columns (`Situation`), the rows (`Verb`), the cells
(`ALLOWED`). A cell that is not there is a conflict.
"""

from __future__ import annotations

from enum import StrEnum

from daemon.model import Container, Status


class Situation(StrEnum):
    """A container's state as far as verbs are concerned: its status, and for `copying` whether
    it has a live generation already."""

    CREATING = "creating"
    FIRST_COPY = "copying, first"
    SYNCING = "copying, sync"
    RESTORING = "restoring"
    RUNNING = "running"
    STOPPED = "stopped"
    ERROR = "error"
    DELETING = "deleting"


class Verb(StrEnum):
    """What can be asked of a container."""

    COPY_FROM = "copy from it"
    SYNC = "sync"
    SNAPSHOT = "snapshot create, restore"
    LIST = "snapshot list, alias, delete"
    START = "start"
    STOP = "stop"
    RESTART = "restart"
    EDIT = "PATCH, PUT rules"
    DELETE = "DELETE"
    GET = "GET"


_ALWAYS = frozenset({Verb.LIST, Verb.EDIT, Verb.DELETE, Verb.GET})
_SETTLED = _ALWAYS | {Verb.COPY_FROM, Verb.SYNC, Verb.SNAPSHOT}

ALLOWED: dict[Situation, frozenset[Verb]] = {
    Situation.CREATING: _ALWAYS,
    Situation.FIRST_COPY: _ALWAYS,
    Situation.SYNCING: _ALWAYS | {Verb.COPY_FROM},
    Situation.RESTORING: _ALWAYS | {Verb.COPY_FROM},
    Situation.RUNNING: _SETTLED | {Verb.STOP, Verb.RESTART},
    Situation.STOPPED: _SETTLED | {Verb.START},
    Situation.ERROR: _ALWAYS | {Verb.SYNC},  # sync of a failed first copy does it again
    Situation.DELETING: frozenset({Verb.GET}),
}


def situation(container: Container) -> Situation:
    """The column of the table that this container stands in."""
    if container.status is Status.COPYING:
        first = container.generation_id is None
        return Situation.FIRST_COPY if first else Situation.SYNCING
    return Situation(container.status.value)


def allows(container: Container, verb: Verb) -> bool:
    """Whether the verb works on the container now."""
    return verb in ALLOWED[situation(container)]
