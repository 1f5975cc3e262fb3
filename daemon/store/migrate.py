"""Brings a catalogue to this program's schema, by alembic."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from daemon.store.database import Database, revision_of


async def migrate(db: Database) -> None:
    """Create the schema or bring it up to date, in one transaction; may run twice, or from two
    processes at once. Raises CatalogueError."""
    async with db.write() as tx:
        await tx.run_sync(_upgrade)


async def current(db: Database) -> str | None:
    """The schema that the catalogue has; None for an empty database."""
    async with db.read() as tx:
        return await revision_of(tx)


def head() -> str:
    """The newest schema that this program has a revision for."""
    return str(ScriptDirectory.from_config(_config()).get_current_head())


def _upgrade(connection: Connection) -> None:
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config
