"""The head of a native stream: what it is of, read before any of it reaches the backend. Pure.

The head is the record DRR_BEGIN (zfs_ioctl.h, `struct drr_begin`), in the sender's byte order.
A stream with nothing between its two snapshots is DRR_BEGIN and DRR_END alone. One of several
snapshots (`-I`) is a compound: such a pair, then the streams one after the other. A pair that has
something between it carries properties, or a tree of datasets, and is refused.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from transfer.errors import StreamCorrupt, VerifyMismatch
from transfer.model import Guid, Step

RECORD_BYTES = 312
EMPTY_STREAM_BYTES = 2 * RECORD_BYTES
HEAD_BYTES = EMPTY_STREAM_BYTES + RECORD_BYTES
"""As much as the head of any stream needs; a stream may be shorter."""
END_BYTES = 2 * RECORD_BYTES
"""What of a stream's last bytes makes it a whole one: DRR_END, and a compound's own."""
_MAGIC = 0x2F5BACBAC
_BEGIN = "II QQQ II QQ 256s".replace(" ", "")
_FLAG_CLONE = 1
_COMPOUND = 2


@dataclass(frozen=True, slots=True)
class StreamHead:
    """What a stream makes: the snapshot `name` with `guid`, from `base` (None: from nothing).

    `clone` says that the base lies in another dataset, so that the stream makes a new dataset.
    """

    guid: Guid
    base: Guid | None
    name: str
    clone: bool


def stream_head(start: bytes) -> StreamHead:
    """The head of a stream that starts with these bytes, of a compound its first part's. Raises
    StreamCorrupt."""
    for order in "<>":
        if len(start) < RECORD_BYTES:
            break
        fields = struct.unpack_from(order + _BEGIN, start)
        _, payload_bytes, magic, version, _, _, flags, guid, base, name = fields
        if magic == _MAGIC and version & 3 == _COMPOUND:
            if payload_bytes:
                raise StreamCorrupt("a stream that carries properties", bytes=payload_bytes)
            return stream_head(start[EMPTY_STREAM_BYTES:])
        if magic == _MAGIC:
            short = name.split(b"\0", 1)[0].decode(errors="replace").rpartition("@")[2]
            clone = bool(flags & _FLAG_CLONE)
            return StreamHead(str(guid), str(base) if base else None, short, clone)
    raise StreamCorrupt("not a native stream", start=start[:16].hex())


def check_head(head: StreamHead, step: Step) -> None:
    """Raises VerifyMismatch where the stream is not the step's."""
    # Of a run only the last snapshot's name is known, and looked at when it is here.
    name = head.name if step.run else step.name
    planned = (step.makes[0], step.base, name)
    coming = (head.guid, head.base, head.name)
    if planned != coming:
        raise VerifyMismatch(
            "the stream is of another snapshot than planned", planned=planned, coming=coming
        )
