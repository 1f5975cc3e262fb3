"""Catalogues without rows. To migrate one takes longer than most tests, so tests copy one."""

from __future__ import annotations

import asyncio
from pathlib import Path

from daemon.store.database import Database
from daemon.store.migrate import migrate


def make_migrated(folder: Path) -> Path:
    """A file of SQLite with the newest schema, in this directory."""
    path = folder / "catalogue.db"

    async def make() -> None:
        db = Database(f"sqlite:///{path}")
        await migrate(db)
        await db.close()

    asyncio.run(make())
    return path
