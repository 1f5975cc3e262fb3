"""Structured logs to standard error.

Every line carries the ids that are bound to the task that wrote it (`bind`): `server_id`,
`job_id`, `container_id`, `request_id`; an exporter's also `peer_id`. No secret is written: neither
the value of a key that names one, nor what looks like one in a text that somebody else wrote.

Levels: *debug* is for who follows one request; *info* says what was done; *warning* that something
failed, and is tried again or was told to who asked; *error* that this server does not do its work,
and somebody should look.
"""

from __future__ import annotations

import logging
import re
import sys
from contextlib import AbstractContextManager

import structlog
from structlog.contextvars import bound_contextvars
from structlog.stdlib import ProcessorFormatter
from structlog.typing import EventDict, Processor, WrappedLogger

from daemon.config import LogSection

_SECRET_KEYS = frozenset(
    {
        "authorization",
        "token",
        "secret",
        "password",
        "private_key",
        "ssh_private_key",
        "database_url",
    }
)
_SECRETS = re.compile(
    r"""
    (?<=://) [^/\s:@"']* : [^/\s@"']+ (?=@)                # user and password of an address
    | (?<=password=) [^\s&"'\\]+                            # the same as libpq has it
    | eyJ [\w-]+ \. [\w-]+ \. [\w-]+                         # a token
    | -----BEGIN\ [A-Z\ ]*PRIVATE\ KEY----- [^"]*
    """,
    re.VERBOSE | re.IGNORECASE,
)
_REMOVED = "[removed]"
_FOREIGN_IDS = ("peer_id", "job_id")
_QUIET = ("asyncssh", "sqlalchemy.engine", "aiosqlite", "alembic", "aiohttp.access")


def set_up(settings: LogSection, **ids: str) -> None:
    """Sends this process's logs, the libraries' too, to standard error; `ids` are on every line.

    May be called again; the last call holds.
    """
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(allow=_FOREIGN_IDS),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _without_secrets,
    ]
    last: list[Processor] = [ProcessorFormatter.remove_processors_meta]
    if settings.format == "json":
        last += [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    else:
        last += [
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(),
                exception_formatter=structlog.dev.plain_traceback,  # the rich one shows locals
            )
        ]
    last.append(_scrubbed)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(ProcessorFormatter(foreign_pre_chain=shared, processors=last))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(settings.level.upper())
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(**ids)


def get(name: str) -> structlog.stdlib.BoundLogger:
    """The logger of a module: `log = logs.get(__name__)`."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger


def bind(**ids: str) -> AbstractContextManager[None]:
    """Puts these ids on every line that is written inside the `with` block."""
    return bound_contextvars(**ids)


def _without_secrets(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    for key in event.keys() & _SECRET_KEYS:
        event[key] = _REMOVED
    return event


def _scrubbed(_logger: WrappedLogger, _method: str, line: EventDict | str) -> str:
    """The rendered line, without what looks like a secret."""
    return _SECRETS.sub(_REMOVED, str(line))
