"""Table rows to frozen values and back, for every table alike."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import fields
from typing import TYPE_CHECKING, TypeVar

from sqlalchemy import Executable, Table, func, insert, select, update
from sqlalchemy.sql.elements import ColumnElement

from daemon.store.database import Tx

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")


def dump(value: DataclassInstance) -> dict[str, object]:
    """A value's fields as a row's columns."""
    return {field.name: getattr(value, field.name) for field in fields(value)}


async def every(tx: Tx, kind: type[T], statement: Executable) -> list[T]:
    """The values in the rows that a statement returns."""
    return [kind(**row) for row in (await tx.execute(statement)).mappings()]


async def one(tx: Tx, kind: type[T], statement: Executable) -> T | None:
    """The value in the only row that a statement returns; None where it returns none."""
    row = (await tx.execute(statement)).mappings().one_or_none()
    return None if row is None else kind(**row)


async def page(
    tx: Tx, kind: type[T], table: Table, wanted: Collection[ColumnElement[bool]], cut: slice
) -> tuple[list[T], int]:
    """A cut of the rows that are wanted, newest first, ties by id, and how many there are."""
    count = select(func.count()).select_from(table).where(*wanted)
    rows = (
        select(table)
        .where(*wanted)
        .order_by(table.c.created_at.desc(), table.c.id)
        .slice(cut.start, cut.stop)
    )
    return await every(tx, kind, rows), (await tx.execute(count)).scalar_one()


def cut(page: int, limit: int) -> slice:
    """Where page `page` (from 1) of `limit` rows each begins and ends."""
    return slice((page - 1) * limit, page * limit)


def matches(table: Table, wanted: DataclassInstance) -> list[ColumnElement[bool]]:
    """That the columns equal those fields of a filter that are not None."""
    given = {name: value for name, value in dump(wanted).items() if value is not None}
    return [table.c[name] == value for name, value in given.items()]


async def add(tx: Tx, table: Table, value: DataclassInstance) -> None:
    """Insert a value. Raises Conflict where a unique rule is hit."""
    await tx.execute(insert(table).values(**dump(value)))


async def change(tx: Tx, table: Table, row_id: str, columns: dict[str, object]) -> bool:
    """Set columns of the row with this id; False where there is none."""
    done = await tx.execute(update(table).where(table.c.id == row_id).values(**columns))
    return done.rowcount > 0
