"""The schema: from nothing, twice, from two sides at once; another one is refused."""

from __future__ import annotations

import asyncio
from dataclasses import fields

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, insert, text

from daemon import model, model_images
from daemon.errors import CatalogueError, Conflict
from daemon.model import JobState, JobType
from daemon.states import Move
from daemon.store import (
    accounts,
    containers,
    datasets,
    events,
    jobs,
    migrate,
    rows,
    schedules,
    schema,
    servers,
    user_snapshots,
)
from daemon.store.database import Database
from tests.contract.store.catalogue import T0, Catalogue

KINDS = {
    "servers": model.Server,
    "users": model.User,
    "projects": model.Project,
    "containers": model.Container,
    "jobs": model.Job,
    "datasets": model.DatasetRow,
    "looks": model.LookRow,
    "schedules": model.ScheduleRow,
    "idempotency": model.KeyedRow,
    "snapshots": model.SnapshotRow,
    "user_snapshots": model.UserSnapshot,
    "bases": model.Base,
    "events": events.Event,
    "images": model_images.Image,
    "icons": model_images.Icon,
    "owned_images": model_images.OwnedImage,
    "ratings": model_images.Rating,
    "proxy_aliases": model.ProxyAlias,
}


@pytest.mark.parametrize("table", KINDS)
def test_a_table_has_the_columns_of_its_dataclass(table: str) -> None:
    columns = {column.name for column in schema.metadata.tables[table].columns}
    assert columns == {field.name for field in fields(KINDS[table])}


def test_the_program_asks_for_its_newest_revision() -> None:
    assert migrate.head() == schema.REVISION


def differences(connection: Connection) -> list[object]:
    context = MigrationContext.configure(connection, opts={"compare_type": True})
    return list(compare_metadata(context, schema.metadata))


async def test_migrations_lead_from_nothing_to_the_schema(empty_url: str) -> None:
    db = Database(empty_url)
    assert await migrate.current(db) is None
    await migrate.migrate(db)
    assert await migrate.current(db) == migrate.head()
    async with db.read() as tx:
        assert await tx.run_sync(differences) == []
    await db.check()
    await db.close()


def at_first_schema(connection: Connection) -> None:
    config = migrate._config()
    config.attributes["connection"] = connection
    command.upgrade(config, "0001")


async def test_a_catalogue_in_use_is_brought_to_this_schema(empty_url: str) -> None:
    """From 0001: every row stays, and jobs that change a list no longer stand in the way of
    others. What is written before is written without the store, which knows newer columns."""
    db = Database(empty_url)
    async with db.write() as tx:
        await tx.run_sync(at_first_schema)
    before = Catalogue(db)
    old_user = rows.dump(before.user)
    assert old_user.pop("balance_cents") == 0
    async with db.write() as tx:
        await servers.put(tx, before.here)
        await tx.execute(insert(schema.users).values(**old_user))
        await accounts.put_project(tx, before.project)
    container = before.container(sync_schedule="0 2 * * *")
    plain = before.container("plain")
    running = {"state": JobState.RUNNING, "attempt": 1, "sequence": 1}
    sync = before.job(JobType.SYNC, container.id, **running)
    delete = before.job(JobType.DELETE, container.id, sequence=2)
    event = {"at": T0, "kind": "job", "job_id": sync.id, "data": {"state": "running"}}
    row = model.DatasetRow(
        model.new_id(), before.here.id, model.Role.MIRROR, "g" * 24, "mirrors/a", created_at=T0
    )
    async with db.write() as tx:
        for one in (container, plain):
            await rows.add(tx, schema.containers, one)
        for job in (sync, delete):
            await rows.add(tx, schema.jobs, job)
        await rows.add(tx, schema.datasets, row)
        await tx.execute(insert(schema.events).values(**event))
    with pytest.raises(CatalogueError, match=r"schema 0001.*run: hoodyd migrate"):
        await db.check()
    with pytest.raises(Conflict):
        expire = before.job(JobType.EXPIRE, container.id)
        await before.write(rows.add, schema.jobs, expire)

    await migrate.migrate(db)
    await db.check()
    async with db.read() as tx:
        assert await tx.run_sync(differences) == []
    assert await before.read(containers.get, container.id) == container
    assert await before.read(accounts.get_user, before.user.id) == before.user
    (missed,) = await before.read(schedules.due, before.here.id, model.now())
    assert missed.container_id == container.id
    assert await before.read(jobs.active) == [sync, delete]
    assert await before.read(user_snapshots.listed, container.id) == []
    assert [old.user_id for old in await before.read(events.since, 0, 9)] == [None]
    assert await before.read(events.since, 0, 9, events.Scope(before.user.id)) == []
    assert await before.read(datasets.generations, row) == {"g" * 24}
    await before.write(datasets.add_strata, row, ["h" * 24])
    await before.running_job(type=JobType.EXPIRE, container_id=container.id)
    await before.running_job(type=JobType.SNAPSHOT_DELETE, container_id=container.id)
    for type in (JobType.START, JobType.DELETE):
        with pytest.raises(Conflict):
            await before.add_job(type, container.id)
    with pytest.raises(CatalogueError):
        await before.move(delete, Move.CLAIM)
    await db.close()


async def test_migrating_twice_changes_nothing(empty_url: str) -> None:
    db = Database(empty_url)
    await migrate.migrate(db)
    await migrate.migrate(db)
    await db.check()
    await db.close()


async def test_two_may_migrate_at_once(empty_url: str) -> None:
    one, other = Database(empty_url), Database(empty_url)
    await asyncio.gather(migrate.migrate(one), migrate.migrate(other))
    await one.check()
    await one.close()
    await other.close()


async def test_an_empty_database_is_refused_with_the_command_to_run(empty_url: str) -> None:
    db = Database(empty_url)
    with pytest.raises(CatalogueError, match="run: hoodyd migrate"):
        await db.check()
    await db.close()


async def test_an_old_schema_is_refused_with_the_command_to_run(db: Database) -> None:
    async with db.write() as tx:
        await tx.execute(text("UPDATE alembic_version SET version_num = '0000'"))
    with pytest.raises(CatalogueError, match=r"schema 0000.*run: hoodyd migrate"):
        await db.check()


async def test_a_newer_schema_is_refused(db: Database) -> None:
    async with db.write() as tx:
        await tx.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(CatalogueError, match="newer hoodyd"):
        await db.check()
