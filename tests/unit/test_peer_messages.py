"""Requests, answers and errors: exactly what was meant comes out, and nothing else comes in."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transfer import errors
from transfer.errors import PeerRefused, StreamCorrupt, TransferError
from transfer.frames import Flag, Frame, FrameReader, FrameType, FrameWriter
from transfer.model import Dataset, Forest, Landing, Snapshot, Step, StepKind, Traits
from transfer.peer import messages
from transfer.peer.messages import (
    MESSAGE_BYTES_MAX,
    PeerRequest,
    read_answer,
    read_error,
    read_request,
    write_answer,
    write_error,
    write_request,
)

JOB = "0123456789abcdef01234567"
PATH = f"containers/{JOB}/{JOB}"
NAME = f"h-{JOB}"
STEP = Step(StepKind.INCREMENTAL, PATH, "18446744073709551615", NAME, "1", Landing.NEW, None, 9)
REQUESTS: list[PeerRequest] = [
    messages.GetTraits(JOB),
    messages.GetLineage(JOB, ("1", "18446744073709551615")),
    messages.TakeSnapshot(JOB, f"images/{JOB}", NAME),
    messages.AskUnchanged(JOB, PATH, NAME, NAME),
    messages.Hold(JOB, ("1", "2")),
    messages.Release(JOB, ()),
    messages.GetSize(JOB, STEP),
    messages.GetTreeRoot(JOB, "1"),
    messages.Send(JOB, "auto", 0, STEP),
    messages.TreeNodes(JOB, "19", 7, "1", False, (b"", b"a/b", b"\xff\xed\xa0\x80")),
    messages.TreeChunkLists(JOB, "none", 0, "1", False, (b"a",)),
    messages.TreeChunks(JOB, "1", 0, "1", False, ((b"a", 0, 1), (b"b/c", 5, 9))),
]


def frame_of(wire: bytes) -> Frame:
    (frame,) = FrameReader().feed(wire)
    return frame


def message(plain: object) -> Frame:
    return Frame(FrameType.MESSAGE, Flag.NONE, json.dumps(plain).encode())


def plain_of(request: PeerRequest) -> dict[str, Any]:
    payload = frame_of(write_request(FrameWriter(), request))
    plain = json.loads(messages.unpack(payload.payload, payload.flags, MESSAGE_BYTES_MAX))
    assert isinstance(plain, dict)
    return plain


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda request: type(request).__name__)
def test_requests_come_out_as_they_went_in(request_: PeerRequest) -> None:
    assert read_request(frame_of(write_request(FrameWriter(), request_))) == request_


@given(st.lists(st.binary(min_size=1, max_size=20), max_size=20))
def test_any_file_name_travels(names: list[bytes]) -> None:
    paths = tuple(
        name.replace(b"\0", b"0").replace(b"/", b"-").replace(b".", b"_") for name in names
    )
    request = messages.TreeNodes(JOB, "auto", 0, "1", False, paths)
    assert read_request(frame_of(write_request(FrameWriter(), request))) == request


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda request: type(request).__name__)
def test_every_field_must_be_there_and_of_its_type(request_: PeerRequest) -> None:
    good = plain_of(request_)
    fields = good["request"]
    wrong: list[object] = [{**fields, "more": 1}]
    for name in fields:
        wrong.append({key: fields[key] for key in fields if key != name})
        number = 1 if isinstance(fields[name], bool) else True
        wrong += [{**fields, name: other} for other in (None, 1.5, number, {}, [[]], "\0")]
    for plain in wrong:
        with pytest.raises(PeerRefused, match="malformed"):
            read_request(message({**good, "request": plain}))


@pytest.mark.parametrize(
    "plain",
    [
        None,
        [],
        "traits",
        {},
        {"verb": "traits"},
        {"verb": "destroy", "request": {"job_id": JOB}},
        {"verb": ["traits"], "request": {"job_id": JOB}},
        {"verb": "traits", "request": {"job_id": JOB}, "more": 1},
        {"verb": "traits", "request": {"job_id": JOB.upper()}},
        {"verb": "traits", "request": {"job_id": JOB + "\n"}},
    ],
)
def test_anything_else_is_no_request(plain: object) -> None:
    with pytest.raises(PeerRefused, match="malformed"):
        read_request(message(plain))


@pytest.mark.parametrize("text", [b"", b"{", b"\xff", b"[" * 100_000, b"NaN", b'{"verb": 1e999}'])
def test_no_json_is_no_request(text: bytes) -> None:
    with pytest.raises(PeerRefused, match="malformed"):
        read_request(Frame(FrameType.MESSAGE, Flag.NONE, text))


def test_another_frame_is_no_request() -> None:
    good = frame_of(write_request(FrameWriter(), REQUESTS[0]))
    with pytest.raises(PeerRefused, match="malformed"):
        read_request(replace(good, type=FrameType.DATA))


@pytest.mark.parametrize(
    "request_",
    [
        messages.TakeSnapshot(JOB, "../etc", NAME),
        messages.TakeSnapshot(JOB, "containers", NAME),
        messages.TakeSnapshot(JOB, "containers/a/../b", NAME),
        messages.TakeSnapshot(JOB, "containers/-R@x", NAME),
        messages.TakeSnapshot(JOB, "tank/containers/a", NAME),
        messages.TakeSnapshot(JOB, PATH, "h-x"),
        messages.AskUnchanged(JOB, "../etc", NAME, NAME),
        messages.AskUnchanged(JOB, PATH, "-R", NAME),
        messages.AskUnchanged(JOB, PATH, NAME, "h-x"),
        messages.GetLineage(JOB, ("1", "x")),
        messages.Hold(JOB, ("-1",)),
        messages.Hold(JOB, ("1" * 21,)),
        messages.Hold(JOB, ("1",) * (messages.ITEMS_MAX + 1)),
        messages.Send(JOB, "20", 0, STEP),
        messages.Send(JOB, "auto", -1, STEP),
        messages.Send(JOB, "auto", 0, replace(STEP, source="a;b")),
        messages.Send(JOB, "auto", 0, replace(STEP, base="x")),
        messages.Send(JOB, "auto", 0, replace(STEP, into="mirrors/../x")),
        messages.GetTreeRoot(JOB, ""),
        *(
            messages.TreeNodes(JOB, "auto", 0, "1", False, (path,))
            for path in (b"/etc", b"..", b"a/../b", b"a//b", b"./a", b"a/", b"a\0b")
        ),
        messages.TreeChunks(JOB, "auto", 0, "1", False, ((b"../a", 0, 1),)),
        messages.TreeChunks(JOB, "auto", 0, "1", False, ((b"a", -1, 1),)),
    ],
    ids=repr,
)
def test_what_does_not_have_its_form_is_refused(request_: PeerRequest) -> None:
    with pytest.raises(PeerRefused, match="malformed"):
        read_request(frame_of(write_request(FrameWriter(), request_)))


def test_a_request_says_what_it_touches() -> None:
    assert messages.GetLineage(JOB, ("1",)).guids == ("1",)
    assert messages.TakeSnapshot(JOB, PATH, NAME).guids == ()
    assert messages.Hold(JOB, ("1", "2")).guids == ("1", "2")
    assert messages.Send(JOB, "auto", 0, STEP).guids == (STEP.snapshot, "1")
    assert messages.GetSize(JOB, replace(STEP, base=None)).guids == (STEP.snapshot,)
    assert messages.TreeNodes(JOB, "auto", 0, "7", False, ()).guids == ("7",)


def test_answers_come_out_as_they_went_in() -> None:
    snapshots = tuple(Snapshot(str(n), f"h-{n:024x}", PATH, n, n, n, 1, 2) for n in range(20_000))
    forest = Forest.of([Dataset(PATH, "7", snapshots, partial=True, used_bytes=5)])
    for kind, value in (
        (Forest, forest),
        (Traits, Traits("zfs", native=True, mtime_ns=1_000_000_000, clones_pin=True)),
        (Snapshot, snapshots[3]),
        (int, 1 << 60),
        (bytes, bytes(range(240, 256))),
    ):
        answer: object = read_answer(kind, frame_of(write_answer(FrameWriter(), value)))
        assert answer == value
    nothing: object = read_answer(None, frame_of(write_answer(FrameWriter(), None)))
    assert nothing is None


@pytest.mark.parametrize("plain", [None, {}, {"value": None}, {"value": {}}, {"value": "1"}])
def test_an_answer_of_another_kind_is_corrupt(plain: object) -> None:
    with pytest.raises(StreamCorrupt):
        read_answer(int, message(plain))


@pytest.mark.parametrize("kind", errors._BY_CODE.values(), ids=lambda kind: kind.code)
def test_errors_are_raised_again_as_what_they_were(kind: type[TransferError]) -> None:
    error = kind("it went wrong", guid="1", count=3, names=["a"])
    again = read_error(frame_of(write_error(FrameWriter(), error)))
    assert (type(again), again.code, again.message) == (kind, kind.code, "it went wrong")
    assert again.evidence == {"guid": "1", "count": 3, "names": "['a']"}


@pytest.mark.parametrize(
    "text",
    [b"", b"[]", b"1", b"{}", b'{"code": 1, "message": 2, "evidence": 3}', b"[" * 100_000],
)
def test_an_error_that_cannot_be_read_is_corrupt(text: bytes) -> None:
    assert isinstance(read_error(Frame(FrameType.ERROR, Flag.NONE, text)), StreamCorrupt)


def test_evidence_cannot_take_the_place_of_the_message() -> None:
    plain = {"code": "PEER_REFUSED", "message": "m", "evidence": {"message": 1, "self": 2, "a": 3}}
    error = read_error(message(plain))
    assert isinstance(error, PeerRefused)
    assert (error.message, error.evidence) == ("m", {"a": 3})
