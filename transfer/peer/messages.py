"""What one server asks of another: frozen values, and the frames that carry them.

A request is one MESSAGE frame. The answer is a MESSAGE frame too or, for a `StreamRequest`,
DATA frames and a trailer. ALIVE frames may come before an answer, an ERROR frame at any place.
Parsing is strict: exact types, no field missing or unknown, everything of a bounded size.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from typing import TypeVar, cast

import zstandard

from transfer.codec import pack, unpack
from transfer.errors import PeerRefused, StreamCorrupt, TransferError, from_code
from transfer.frames import Frame, FrameType, FrameWriter
from transfer.model import Guid, Step
from transfer.peer.plain import from_plain, to_plain

MESSAGE_BYTES_MAX = 16 << 20  # of JSON, uncompressed
ITEMS_MAX = 65_536  # of a list in a request
TEXT_CHARS_MAX = 4_096  # of an error

Want = tuple[bytes, int, int]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PeerRequest:
    """A request. Each names the job that it is made for; the holds' tag follows from it."""

    job_id: str

    @property
    def guids(self) -> tuple[Guid, ...]:
        """The snapshots that it asks about."""
        return ()


@dataclass(frozen=True, slots=True)
class GetTraits(PeerRequest):
    """`Source.traits`"""


@dataclass(frozen=True, slots=True)
class TakeSnapshot(PeerRequest):
    """`Source.snapshot`"""

    dataset: str
    name: str


@dataclass(frozen=True, slots=True)
class AskUnchanged(PeerRequest):
    """`Source.unchanged`"""

    dataset: str
    since: str
    name: str


@dataclass(frozen=True, slots=True)
class SnapshotsRequest(PeerRequest):
    """About some snapshots."""

    snapshots: tuple[Guid, ...]

    @property
    def guids(self) -> tuple[Guid, ...]:
        """See PeerRequest."""
        return self.snapshots


@dataclass(frozen=True, slots=True)
class GetLineage(SnapshotsRequest):
    """`Source.lineage`"""


@dataclass(frozen=True, slots=True)
class Hold(SnapshotsRequest):
    """`Source.hold`"""


@dataclass(frozen=True, slots=True)
class Release(SnapshotsRequest):
    """`Source.release`"""


@dataclass(frozen=True, slots=True)
class GetSize(PeerRequest):
    """`Source.size`"""

    step: Step

    @property
    def guids(self) -> tuple[Guid, ...]:
        """See PeerRequest."""
        return _guids_of(self.step)


@dataclass(frozen=True, slots=True)
class GetTreeRoot(PeerRequest):
    """`Source.tree_root`"""

    snapshot: Guid

    @property
    def guids(self) -> tuple[Guid, ...]:
        """See PeerRequest."""
        return (self.snapshot,)


@dataclass(frozen=True, slots=True)
class StreamRequest(PeerRequest):
    """Answered by a stream, compressed as asked for; a limit of 0 is none of the asker's."""

    compression: str
    limit_bytes_per_second: int


@dataclass(frozen=True, slots=True)
class Send(StreamRequest):
    """`Source.send`"""

    step: Step

    @property
    def guids(self) -> tuple[Guid, ...]:
        """See PeerRequest."""
        return _guids_of(self.step)


@dataclass(frozen=True, slots=True)
class TreeRequest(StreamRequest):
    """About the tree of one snapshot; answered by records. `whole`: nothing of it is here yet."""

    snapshot: Guid
    whole: bool

    @property
    def guids(self) -> tuple[Guid, ...]:
        """See PeerRequest."""
        return (self.snapshot,)


@dataclass(frozen=True, slots=True)
class TreeNodes(TreeRequest):
    """`Source.tree_nodes`"""

    paths: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class TreeChunkLists(TreeRequest):
    """`Source.tree_chunk_lists`"""

    paths: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class TreeChunks(TreeRequest):
    """`Source.tree_chunks`"""

    wants: tuple[Want, ...]


_VERBS: dict[str, type[PeerRequest]] = {
    "traits": GetTraits,
    "lineage": GetLineage,
    "snapshot": TakeSnapshot,
    "unchanged": AskUnchanged,
    "hold": Hold,
    "release": Release,
    "size": GetSize,
    "send": Send,
    "tree_root": GetTreeRoot,
    "tree_nodes": TreeNodes,
    "tree_chunk_lists": TreeChunkLists,
    "tree_chunks": TreeChunks,
}
_NAMES = {kind: verb for verb, kind in _VERBS.items()}

_GUID = re.compile(r"[0-9]{1,20}")
_DATASET = re.compile(r"(containers|mirrors|images)(/[A-Za-z0-9-]{1,64}){1,2}")
_TEXTS = {
    "job_id": re.compile(r"[0-9a-f]{24}"),
    "name": re.compile(r"h-[0-9a-f]{24}"),
    "since": re.compile(r"h-[0-9a-f]{24}"),
    "compression": re.compile(r"auto|none|[1-9]|1[0-9]"),
    "dataset": _DATASET,
    "source": _DATASET,
    "into": _DATASET,
    "flags": re.compile(r"L?e?c?w?"),
    "token": re.compile(r"1-[0-9a-f-]{1,8190}"),
    "snapshot": _GUID,
    "snapshots": _GUID,
    "run": _GUID,
    "base": _GUID,
}


def hold_tag(job_id: str) -> str:
    """The tag of a job's holds; each side makes it itself."""
    return f"hoody-{job_id}"


def write_request(writer: FrameWriter, request: PeerRequest) -> bytes:
    """The request's frame."""
    plain = {"verb": _NAMES[type(request)], "request": to_plain(request)}
    return _message(writer, plain)


def read_request(frame: Frame) -> PeerRequest:
    """The request of a frame. Raises PeerRefused for anything that is not exactly one."""
    try:
        plain = _json(frame)
        if not isinstance(plain, dict) or plain.keys() != {"verb", "request"}:
            raise ValueError("not the fields of a request")
        kind = _VERBS.get(plain["verb"]) if isinstance(plain["verb"], str) else None
        if kind is None:
            raise ValueError("no such verb")
        request = cast(PeerRequest, from_plain(kind, plain["request"]))
        _judge(request)
    except (ValueError, StreamCorrupt) as error:
        raise PeerRefused(f"a malformed request: {str(error)[:TEXT_CHARS_MAX]}") from error
    return request


def write_answer(writer: FrameWriter, value: object) -> bytes:
    """The frame that answers with this value."""
    return _message(writer, {"value": to_plain(value)})


def read_answer(kind: type[T] | None, frame: Frame) -> T:
    """The value of an answer's frame. Raises StreamCorrupt where it is no `kind`."""
    try:
        plain = _json(frame)
        if not isinstance(plain, dict) or plain.keys() != {"value"}:
            raise ValueError("not the fields of an answer")
        return cast(T, from_plain(type(None) if kind is None else kind, plain["value"]))
    except ValueError as error:
        raise StreamCorrupt(f"an answer that was not expected: {error}") from error


def write_error(writer: FrameWriter, error: TransferError) -> bytes:
    """The frame that tells the peer of an error."""
    evidence = {key: _evidence(value) for key, value in error.evidence.items()}
    plain = {"code": error.code, "message": error.message[:TEXT_CHARS_MAX], "evidence": evidence}
    return writer.frame(FrameType.ERROR, json.dumps(plain).encode())


def read_error(frame: Frame) -> TransferError:
    """The peer's error, as it is raised here."""
    try:
        plain = json.loads(frame.payload)
        code, message = str(plain["code"]), str(plain["message"])
        # A key that `TransferError` itself takes must not come from outside.
        evidence = {key: plain["evidence"][key] for key in plain["evidence"].keys() - {"message"}}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        return StreamCorrupt(f"an error that cannot be read: {error}")
    evidence.pop("self", None)
    return from_code(code, message, evidence)


def _message(writer: FrameWriter, plain: object) -> bytes:
    text = json.dumps(plain, separators=(",", ":")).encode()
    if len(text) > MESSAGE_BYTES_MAX:
        raise ValueError(f"a message of {len(text)} bytes is beyond {MESSAGE_BYTES_MAX}")
    payload, flags = pack(text, zstandard.ZstdCompressor())
    return writer.frame(FrameType.MESSAGE, payload, flags)


def _json(frame: Frame) -> object:
    if frame.type is not FrameType.MESSAGE:
        raise ValueError("no message")
    try:
        return cast(object, json.loads(unpack(frame.payload, frame.flags, MESSAGE_BYTES_MAX)))
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _evidence(value: object) -> object:
    if value is None or isinstance(value, bool | int | float):
        return value
    return str(value)[:TEXT_CHARS_MAX]


def _guids_of(step: Step) -> tuple[Guid, ...]:
    return step.makes if step.base is None else (*step.makes, step.base)


def _judge(value: object) -> None:
    """Raises ValueError where a field of a request does not have its form."""
    for name, text in _texts(value):
        if isinstance(text, str) and name in _TEXTS and not _TEXTS[name].fullmatch(text):
            raise ValueError(f"{name} does not have its form")
        if isinstance(text, bytes) and not _is_inside(text):
            raise ValueError(f"{name} leads out of the tree")
        if isinstance(text, int) and text < 0:
            raise ValueError(f"{name} is negative")


def _texts(value: object) -> Iterator[tuple[str, object]]:
    """The fields of a dataclass with their names, lists and dataclasses in it flattened."""
    if not is_dataclass(value):
        return
    for item in fields(value):
        held = getattr(value, item.name)
        for one in held if isinstance(held, tuple) else (held,):
            for part in one if isinstance(one, tuple) else (one,):
                yield item.name, part
        if isinstance(held, tuple) and len(held) > ITEMS_MAX:
            raise ValueError(f"{item.name} has too many items")
        yield from _texts(held)


def _is_inside(path: bytes) -> bool:
    if not path:
        return True
    return b"\0" not in path and not {b"", b".", b".."} & set(path.split(b"/"))
