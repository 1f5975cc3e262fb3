"""What the API is given by who builds it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from daemon.auth import TokenKeys
from daemon.config import Config
from daemon.engine import Abandon
from daemon.metrics import Metrics
from daemon.model import JobType
from daemon.news import News
from daemon.store.database import Database


@dataclass(frozen=True, slots=True)
class Deps:
    """Everything outside the API that its endpoints use.

    `server_id` is the answering server. `news` is told when a job was queued or is to be
    cancelled, and tells that something may have changed. `health` names this server's parts, each
    with what is wrong with it, or None; the database is asked by the API itself. `abandon` says
    by job type what becomes of the container whose job ends without success.
    """

    db: Database
    config: Config
    server_id: str
    token_keys: TokenKeys
    sealing_key: bytes = field(repr=False)
    metrics: Metrics
    news: News
    health: Callable[[], Mapping[str, str | None]]
    abandon: Mapping[JobType, Abandon]
