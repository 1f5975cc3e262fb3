"""When a schedule has a sync begin: pure. cronsim reads the cron text, in UTC and as Debian's cron
does; a jitter keeps what many schedules name (2 in the morning) from beginning all at once."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta

from cronsim import CronSim, CronSimError

JITTER = timedelta(seconds=60)
"""A sync begins less than this after its due time; so the next due time, which is a minute later
at the soonest, is never mistaken for it."""

_FIELDS = 5
_MILLISECOND = timedelta(milliseconds=1)


def check(text: str, at: datetime) -> None:
    """Raises ValueError, with the sentence to say, for what is no cron text of five fields
    (minute, hour, day, month, weekday) or names no time after `at`."""
    if len(text.split()) != _FIELDS:  # cronsim takes seconds, too
        raise ValueError("must be cron text of five fields")
    try:
        next(CronSim(text, at))
    except CronSimError as error:
        raise ValueError(f"has a {str(error).lower()}") from None
    except StopIteration:
        raise ValueError("names a time that never comes") from None


def next_sync(text: str, container_id: str, since: datetime, at: datetime) -> datetime | None:
    """When a container's sync begins for the first due time after `since` for which that is later
    than `at`, the earlier ones being missed. None where there is none, as for a text that is not
    cron's."""
    due = max(since, at - JITTER)
    try:
        times = CronSim(text, due)
        return next(begins for due in times if (begins := _begins_at(container_id, due)) > at)
    except (CronSimError, StopIteration):
        return None


def _begins_at(container_id: str, due: datetime) -> datetime:
    """The same on every server, and after every restart: the jitter is derived, not drawn."""
    digest = hashlib.sha256(f"{container_id} {due.isoformat()}".encode()).digest()
    return due + int.from_bytes(digest[:8], "big") % (JITTER // _MILLISECOND) * _MILLISECOND
