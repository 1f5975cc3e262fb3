"""Strict parsing: whatever JSON comes, it is a value of exactly the type, or a ValueError."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from types import NoneType, UnionType
from typing import get_args, get_origin, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transfer.errors import PeerRefused, StreamCorrupt, TransferError
from transfer.frames import Flag, Frame, FrameType
from transfer.model import Dataset, Forest, Landing, Receipt, Snapshot, Step, StepKind, Traits
from transfer.peer.messages import TreeChunks, read_answer, read_error, read_request
from transfer.peer.plain import from_plain, to_plain

KINDS = (Snapshot, Dataset, Forest, Step, Traits, Receipt, TreeChunks)
SIMPLE = (str, bool, int, NoneType, bytes, Landing)
VERBS = ("traits", "lineage", "snapshot", "hold", "size", "send", "tree_nodes", "tree_chunks")

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 66), 1 << 66)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["\ud800", "\udc80", "new", "full", "containers/a/b", "1"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
TEXTS = st.text(max_size=12)
COUNTS = st.integers(-(1 << 63), (1 << 64) - 1)
SNAPSHOTS = st.builds(Snapshot, TEXTS, TEXTS, TEXTS, COUNTS, COUNTS, COUNTS, COUNTS)
DATASETS = st.builds(
    Dataset,
    TEXTS,
    st.none() | TEXTS,
    st.lists(SNAPSHOTS, max_size=3).map(tuple),
    st.booleans(),
    COUNTS,
    COUNTS,
    st.booleans(),
)
STEPS = st.builds(
    Step,
    st.sampled_from(StepKind),
    TEXTS,
    TEXTS,
    TEXTS,
    st.none() | TEXTS,
    st.sampled_from(Landing),
    st.none() | TEXTS,
    COUNTS,
)
WANTS = st.lists(st.tuples(st.binary(max_size=9), COUNTS, COUNTS), max_size=3).map(tuple)
VALUES = st.one_of(
    SNAPSHOTS,
    DATASETS,
    STEPS,
    st.builds(Forest, st.dictionaries(TEXTS, DATASETS, max_size=3)),
    st.builds(Traits, TEXTS, st.booleans(), st.booleans(), st.booleans(), COUNTS, st.booleans()),
    st.builds(Receipt, STEPS, SNAPSHOTS, COUNTS),
    st.builds(TreeChunks, TEXTS, TEXTS, COUNTS, TEXTS, st.booleans(), WANTS),
)


def is_exactly(kind: object, value: object) -> bool:
    """Whether a value has the annotated type all the way down; True is no number."""
    origin, args = get_origin(kind), get_args(kind)
    if origin is UnionType:
        return any(is_exactly(one, value) for one in args)
    if origin is tuple:
        if type(value) is not tuple:
            return False
        kinds = [args[0]] * len(value) if args[-1] is Ellipsis else list(args)
        return len(kinds) == len(value) and all(map(is_exactly, kinds, value))
    if origin is Mapping:
        return isinstance(value, dict) and all(
            type(key) is str and is_exactly(args[1], held) for key, held in value.items()
        )
    if type(value) is not kind:
        return False
    if not is_dataclass(value):
        return True
    hints = get_type_hints(kind)
    return all(is_exactly(hints[one.name], getattr(value, one.name)) for one in fields(value))


def parsed(kind: object, plain: object) -> bool:
    """Whether it parses, and then to the type; any other error than ValueError gets out."""
    try:
        value = from_plain(kind, plain)
    except ValueError:
        return False
    assert is_exactly(kind, value)
    return True


@given(VALUES)
def test_what_was_written_is_read_again(value: object) -> None:
    plain = json.loads(json.dumps(to_plain(value)))
    assert from_plain(type(value), plain) == value
    assert is_exactly(type(value), value)


@given(st.sampled_from([*KINDS, *SIMPLE]), JSON)
def test_any_json_is_of_the_type_or_refused(kind: object, plain: object) -> None:
    parsed(kind, plain)


@given(VALUES, JSON, st.data())
def test_one_wrong_field_anywhere_is_refused_or_of_its_type(
    value: object, other: object, data: st.DataObject
) -> None:
    plain = json.loads(json.dumps(to_plain(value)))
    at = plain
    while True:
        keys = list(at) if isinstance(at, dict) else list(range(len(at)))
        if not keys:
            return
        key = data.draw(st.sampled_from(keys))
        if not isinstance(at[key], dict | list) or data.draw(st.booleans()):
            break
        at = at[key]
    at[key] = other
    parsed(type(value), plain)


@given(STEPS, st.sampled_from([field.name for field in fields(Step)]))
def test_a_field_that_is_missing_or_too_many_is_refused(step: Step, name: str) -> None:
    plain = to_plain(step)
    assert isinstance(plain, dict)
    assert not parsed(Step, {key: held for key, held in plain.items() if key != name})
    assert not parsed(Step, {**plain, name + "_": None})


@given(st.integers())
def test_numbers_end_at_64_bits(number: int) -> None:
    assert parsed(int, number) == (-(1 << 63) <= number < 1 << 64)


@pytest.mark.parametrize("number", [-(1 << 63) - 1, -(1 << 63), (1 << 64) - 1, 1 << 64])
def test_the_last_numbers_on_both_sides(number: int) -> None:
    assert parsed(int, number) == (number in (-(1 << 63), (1 << 64) - 1))


@given(st.binary())
def test_any_bytes_travel_as_text(content: bytes) -> None:
    assert from_plain(bytes, json.loads(json.dumps(to_plain(content)))) == content


@pytest.mark.parametrize(("kind", "plain"), [(bytes, "\ud800"), (Landing, "NEW"), (bool, 1)])
def test_what_only_looks_right_is_refused(kind: object, plain: object) -> None:
    assert not parsed(kind, plain)


def test_a_type_without_a_plain_form_is_our_own_mistake() -> None:
    with pytest.raises(TypeError, match="no plain form"):
        from_plain(float, 1.0)


@dataclass(frozen=True)
class Outside:
    """What a peer sends, and the kind of frame that it comes in."""

    content: bytes
    kind: FrameType


OUTSIDE = st.builds(
    Outside,
    st.one_of(
        st.binary(max_size=60),
        JSON.map(lambda plain: json.dumps(plain).encode()),
        st.builds(lambda plain: json.dumps({"value": plain}).encode(), JSON),
        st.builds(
            lambda verb, plain: json.dumps({"verb": verb, "request": plain}).encode(),
            st.sampled_from(VERBS),
            JSON,
        ),
        st.builds(
            lambda code, plain: json.dumps(
                {"code": code, "message": "m", "evidence": plain}
            ).encode(),
            JSON,
            JSON,
        ),
    ),
    st.sampled_from(FrameType),
)


@given(OUTSIDE, st.sampled_from(list(Flag)))
def test_no_peer_can_raise_anything_but_our_own_errors(outside: Outside, flags: Flag) -> None:
    frame = Frame(outside.kind, flags, outside.content)
    with pytest.raises(PeerRefused):
        read_request(frame)  # none of these has a job's id
    for kind in KINDS:
        try:
            value: object = read_answer(kind, frame)
        except StreamCorrupt:
            continue
        assert is_exactly(kind, value)
    assert isinstance(read_error(replace(frame, type=FrameType.ERROR)), TransferError)
