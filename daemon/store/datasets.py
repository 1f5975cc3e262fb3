"""Datasets that the catalogue knows, and their strata: the generations other than its own of
which a dataset has snapshots, because it was promoted over their dataset or grew on from it."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import and_, exists, or_, select
from sqlalchemy import delete as delete_from
from sqlalchemy import insert as insert_into
from sqlalchemy.sql.elements import ColumnElement

from daemon.model import DatasetRow, Role
from daemon.store import rows
from daemon.store.database import Tx
from daemon.store.schema import ACTIVE, datasets, jobs, strata


async def insert(tx: Tx, dataset: DatasetRow) -> None:
    """Add a dataset, before it is made. Raises Conflict("dataset_path")."""
    await rows.add(tx, datasets, dataset)


async def get(tx: Tx, dataset_id: str) -> DatasetRow | None:
    """The dataset with this id."""
    return await rows.one(tx, DatasetRow, select(datasets).where(datasets.c.id == dataset_id))


async def by_path(tx: Tx, server_id: str, path: str) -> DatasetRow | None:
    """The dataset of a server at this path."""
    at = (datasets.c.server_id == server_id, datasets.c.path == path)
    return await rows.one(tx, DatasetRow, select(datasets).where(*at))


async def on_server(tx: Tx, server_id: str) -> list[DatasetRow]:
    """All datasets of a server, oldest first."""
    return await _every(tx, datasets.c.server_id == server_id)


async def left_on(tx: Tx, server_id: str) -> set[tuple[str, str | None]]:
    """A server's datasets, by id and job, that jobs which have ended left half-made, or with
    something begun in them that has not landed."""
    begun = and_(datasets.c.role == Role.MIRROR, datasets.c.trimmed.is_(False))
    at_work = exists().where(jobs.c.id == datasets.c.job_id, jobs.c.state.in_(ACTIVE))
    wanted = select(datasets.c.id, datasets.c.job_id).where(
        datasets.c.server_id == server_id,
        or_(datasets.c.ready.is_(False), begun),
        ~at_work,
    )
    return {(row.id, row.job_id) for row in await tx.execute(wanted)}


async def of_generation(tx: Tx, server_id: str, generation_id: str) -> list[DatasetRow]:
    """A server's datasets with snapshots of a generation: the generation itself where it lives
    there, its mirrors, and what it is a stratum of; oldest first."""
    over = select(strata.c.dataset_id).where(strata.c.generation_id == generation_id)
    return await _every(
        tx,
        datasets.c.server_id == server_id,
        or_(datasets.c.generation_id == generation_id, datasets.c.id.in_(over)),
    )


async def generations(tx: Tx, dataset: DatasetRow) -> set[str]:
    """The generations of which a dataset may have snapshots: its own, and its strata."""
    below = select(strata.c.generation_id).where(strata.c.dataset_id == dataset.id)
    return {dataset.generation_id, *(await tx.execute(below)).scalars()}


async def add_strata(tx: Tx, dataset: DatasetRow, generation_ids: Collection[str]) -> None:
    """Note that a dataset may have snapshots of these generations from now on; before it has."""
    for generation_id in sorted(set(generation_ids) - await generations(tx, dataset)):
        row = {"dataset_id": dataset.id, "generation_id": generation_id}
        await tx.execute(insert_into(strata).values(row))


async def of_container(tx: Tx, container_id: str) -> list[DatasetRow]:
    """The datasets that were made for a container, oldest first."""
    return await _every(tx, datasets.c.container_id == container_id)


async def change(tx: Tx, dataset_id: str, **columns: object) -> bool:
    """Set columns of a dataset; False where it is gone."""
    return await rows.change(tx, datasets, dataset_id, columns)


async def delete(tx: Tx, dataset_id: str) -> None:
    """Forget a dataset, after it was destroyed."""
    await tx.execute(delete_from(datasets).where(datasets.c.id == dataset_id))


async def _every(tx: Tx, *wanted: ColumnElement[bool]) -> list[DatasetRow]:
    order = (datasets.c.created_at, datasets.c.id)
    return await rows.every(tx, DatasetRow, select(datasets).where(*wanted).order_by(*order))
