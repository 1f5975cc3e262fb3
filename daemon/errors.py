"""What can go wrong in the service, outside the data path.

DaemonError
├── ConfigError       a key of the config is wrong; exit 2, one line that names it
├── StartError        the daemon cannot run here and now; exit 2, one line and the next command
│   └── StartLater    nobody needs to mend that; it is worth another try: exit 75
├── IllegalTransition a job was asked to make a move that the table does not have
├── LeaseLost         the job is no longer ours: another attempt runs, or it has ended
├── JobError          a job's failure with its code and evidence
├── TokenError        a bearer token is not valid
│   └── TokenExpired  it was, until its `exp`
└── CatalogueError    the database refused or is gone
    ├── Conflict      a unique rule was hit; `rule` says which
    └── SchemaUnknown it has the schema of another version
"""

from __future__ import annotations


class DaemonError(Exception):
    """The root of the tree; never raised itself."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class ConfigError(DaemonError):
    """A key of the config is wrong or missing."""


class StartError(DaemonError):
    """The daemon cannot run here and now."""


class StartLater(StartError):
    """The daemon cannot run now, but may when it is started again, with nothing changed here."""


class IllegalTransition(DaemonError):
    """The state table has no such arrow."""


class LeaseLost(DaemonError):
    """The job's row no longer names this attempt as the running one."""


class JobError(DaemonError):
    """A job's failure that is not the data path's."""

    def __init__(
        self, code: str, message: str, *, retryable: bool = False, **evidence: object
    ) -> None:
        super().__init__(message)
        self.code = code
        self.retryable = retryable
        self.evidence = evidence


class TokenError(DaemonError):
    """A bearer token that is not valid here."""


class TokenExpired(TokenError):
    """A bearer token past its `exp`."""


class CatalogueError(DaemonError):
    """The database refused, or is gone."""


class Conflict(CatalogueError):
    """A unique rule was hit: `rule` is `container_name`, `snapshot_name`, `ssh_key`, … or `job`."""

    def __init__(self, rule: str) -> None:
        super().__init__(f"the catalogue has one already: {rule}")
        self.rule = rule


class SchemaUnknown(CatalogueError):
    """The catalogue has another version's schema, or none."""
