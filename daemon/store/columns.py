"""The columns that tables are made of: how values stand in them, and what a row hangs on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Dialect,
    ForeignKey,
    Integer,
    Text,
    TypeDecorator,
)
from sqlalchemy.types import TypeEngine

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


class UtcTime(TypeDecorator[datetime]):
    """An aware time, kept as whole milliseconds since 1970."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        return None if value is None else (value - _EPOCH) // _MILLISECOND

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:
        return None if value is None else _EPOCH + value * _MILLISECOND


class Word(TypeDecorator[StrEnum]):
    """A member of an enum, kept as its text."""

    impl = Text
    cache_ok = True

    def __init__(self, words: type[StrEnum]) -> None:
        super().__init__()
        self.words = words

    def process_bind_param(self, value: StrEnum | None, dialect: Dialect) -> str | None:
        return None if value is None else self.words(value).value

    def process_result_value(self, value: str | None, dialect: Dialect) -> StrEnum | None:
        return None if value is None else self.words(value)


JSON_OR_NULL = JSON(none_as_null=True)


class JsonTuple(TypeDecorator[tuple[object, ...]]):
    """A tuple of JSON values."""

    impl = JSON_OR_NULL
    cache_ok = True

    def process_result_value(
        self, value: list[object] | None, dialect: Dialect
    ) -> tuple[object, ...] | None:
        return None if value is None else tuple(value)


Kind = type[TypeEngine[Any]] | TypeEngine[Any]

# SQLite counts up only what it calls INTEGER.
COUNTED = BigInteger().with_variant(Integer, "sqlite")


def must(name: str, kind: Kind) -> Column[Any]:
    """A column that always has a value."""
    return Column(name, kind, nullable=False)


def may(name: str, kind: Kind) -> Column[Any]:
    """A column that may be empty."""
    return Column(name, kind, nullable=True)


def primary(name: str = "id") -> Column[str]:
    """A column of the key."""
    return Column(name, Text, primary_key=True)


def of(table: str, name: str, *, key: bool = False) -> Column[str]:
    """A reference that keeps the row that it names."""
    return Column(name, Text, ForeignKey(f"{table}.id"), nullable=False, primary_key=key)


def of_server(name: str = "server_id", *, key: bool = False) -> Column[str]:
    """A reference to a server whose removal takes this row with it."""
    kept = ForeignKey("servers.id", ondelete="CASCADE")
    return Column(name, Text, kept, nullable=False, primary_key=key)


def with_its(table: str, name: str) -> Column[str]:
    """A reference to the row that this one goes with."""
    kept = ForeignKey(f"{table}.id", ondelete="CASCADE")
    return Column(name, Text, kept, nullable=False)


def part_of(table: str, name: str) -> Column[str]:
    """A reference, in the key, to the row that this one is a part of and goes with."""
    kept = ForeignKey(f"{table}.id", ondelete="CASCADE")
    return Column(name, Text, kept, primary_key=True)
