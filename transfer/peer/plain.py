"""Frozen dataclasses to plain JSON values and back, strictly by their annotations.

Understood are str, bool, int, bytes, None, enums, `X | None`, tuples, mappings with str keys,
and dataclasses of these. Bytes travel as text with surrogate escapes, so that names which are
UTF-8, as nearly all are, stay readable and compress well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import StrEnum
from functools import cache
from types import NoneType, UnionType
from typing import cast, get_args, get_origin, get_type_hints

_INT_MAX = 1 << 63


def to_plain(value: object) -> object:
    """The value as `json.dumps` takes it."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    if is_dataclass(value) and not isinstance(value, type):
        return {item.name: to_plain(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, Mapping):
        return {key: to_plain(held) for key, held in value.items()}
    if isinstance(value, tuple):
        return [to_plain(held) for held in value]
    return value


def from_plain(kind: object, plain: object) -> object:
    """The value of this type. Raises ValueError that names what is wrong."""
    if kind in (str, bool, int, NoneType):
        return _scalar(kind, plain)
    if kind is bytes:
        return cast(str, _scalar(str, plain)).encode("utf-8", "surrogateescape")
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return kind(cast(str, _scalar(str, plain)))
    if isinstance(kind, type) and is_dataclass(kind):
        return _instance(kind, plain)
    origin, args = get_origin(kind), get_args(kind)
    if origin is UnionType:
        return None if plain is None else from_plain(args[0], plain)
    if origin is tuple:
        return _tuple(args, plain)
    if origin is Mapping:
        return _mapping(args[1], plain)
    raise TypeError(f"{kind} has no plain form")


def _scalar(kind: object, plain: object) -> object:
    # type(), not isinstance: True is no number.
    if type(plain) is not kind:
        raise ValueError(f"{type(plain).__name__} where another type belongs")
    if type(plain) is int and not -_INT_MAX <= plain < 2 * _INT_MAX:
        raise ValueError("a number beyond 64 bits")
    return plain


def _instance(kind: type, plain: object) -> object:
    hints = _hints(kind)
    if not isinstance(plain, dict) or plain.keys() != hints.keys():
        raise ValueError(f"not the fields of {kind.__name__}")
    return kind(**{name: from_plain(hint, plain[name]) for name, hint in hints.items()})


@cache
def _hints(kind: type) -> dict[str, object]:
    hints = get_type_hints(kind)
    return {item.name: hints[item.name] for item in fields(kind)}


def _tuple(args: tuple[object, ...], plain: object) -> object:
    if not isinstance(plain, list):
        raise ValueError(f"{type(plain).__name__} where a list belongs")
    if args[-1] is Ellipsis:
        return tuple([from_plain(args[0], held) for held in plain])
    if len(args) != len(plain):
        raise ValueError(f"a list of {len(plain)} where {len(args)} belong")
    return tuple([from_plain(arg, held) for arg, held in zip(args, plain, strict=True)])


def _mapping(kind: object, plain: object) -> object:
    if not isinstance(plain, dict):
        raise ValueError(f"{type(plain).__name__} where an object belongs")
    return {key: from_plain(kind, held) for key, held in plain.items()}
