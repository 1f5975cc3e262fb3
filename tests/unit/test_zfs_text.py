"""What `zfs` says, as values: with the very words of zfs-fuse 0.7.0 and OpenZFS."""

from __future__ import annotations

import struct

import pytest

from transfer.command import Output
from transfer.errors import (
    CommandFailed,
    DatasetBusy,
    DatasetMissing,
    InsufficientStorage,
    KeyUnavailable,
    PermissionMissing,
    SnapshotMissing,
    SourceChanged,
    StreamCorrupt,
    TransferError,
)
from transfer.storage import zfs_text
from transfer.storage.zfs_stream import RECORD_BYTES, StreamHead, stream_head

ROOT = "tank/hoody"


def row(name: str, **values: str) -> str:
    keys = {
        key.replace("hoody_", "hoody:").replace("_", "-"): value for key, value in values.items()
    }
    return "".join(f"{name}\t{key}\t{keys.get(key, '-')}\t-\n" for key in zfs_text.PROPERTIES)


def dataset_row(path: str, **values: str) -> str:
    return row(f"{ROOT}/{path}", **({"guid": "1", "used": "10", "referenced": "5"} | values))


def snapshot_row(name: str, guid: str, order: str) -> str:
    given = {"guid": guid, "createtxg": order, "used": "3", "referenced": "4", "userrefs": "2"}
    return row(f"{ROOT}/{name}", **given)


def test_datasets_snapshots_and_origins() -> None:
    text = (
        row(ROOT, guid="9", used="1", referenced="1")
        + dataset_row("containers")
        + dataset_row("containers/c")
        + dataset_row("containers/c/g", origin=f"{ROOT}/mirrors/m@h-1")
        + dataset_row("mirrors/m", hoody_head="102")
        + snapshot_row("mirrors/m@h-2", "102", "20")
        + snapshot_row("mirrors/m@h-1", "101", "3")
        + dataset_row("mirrors/p", hoody_partial="on", origin="other/x@y")
    )
    found = zfs_text.rows(text)
    assert zfs_text.origins(found) == {"other/x@y"}
    generation, mirror, partial = zfs_text.datasets(ROOT, found, {})
    assert (generation.path, generation.origin) == ("containers/c/g", "101")
    assert [(one.guid, one.name) for one in mirror.snapshots] == [("101", "h-1"), ("102", "h-2")]
    assert (mirror.snapshots[0].holds, mirror.snapshots[0].dataset) == (2, "mirrors/m")
    assert not mirror.head_differs
    assert generation.head_differs
    assert partial.partial
    assert partial.origin == "other/x@y"


def test_bookmarks_are_their_datasets() -> None:
    """Also one that somebody made by hand."""
    text = (
        dataset_row("mirrors/m")
        + snapshot_row("mirrors/m@h-2", "102", "20")
        + row(f"{ROOT}/mirrors/m#h-1", guid="101", createtxg="3")
        + row(f"{ROOT}/mirrors/m#hand", guid="99", createtxg="1")
    )
    found = zfs_text.rows(text)
    assert zfs_text.origins(found) == set()
    (mirror,) = zfs_text.datasets(ROOT, found, {})
    marks = {(mark.guid, mark.name, mark.order) for mark in mirror.bookmarks}
    assert marks == {("101", "h-1", 3), ("99", "hand", 1)}
    assert [point.guid for point in mirror.points] == ["99", "101", "102"]


def test_of_settings_only_what_was_given_to_the_dataset_counts() -> None:
    name = f"{ROOT}/mirrors/m"
    sources = {"recordsize": "local", "compression": f"inherited from {ROOT}", "used": "-"}
    text = "".join(f"{name}\t{key}\tvalue\t{source}\n" for key, source in sources.items())
    assert zfs_text.rows(text) == {name: {"recordsize": "value", "used": "value"}}
    assert zfs_text.rows(f"{name}\thoody:x\ta\tb\tlocal\n") == {name: {"hoody:x": "a\tb"}}


@pytest.mark.parametrize(
    ("status", "encrypted", "locked"),
    [("-", False, False), ("available", True, False), ("unavailable", True, True)],
)
def test_what_is_encrypted(status: str, encrypted: bool, locked: bool) -> None:
    name = f"{ROOT}/mirrors/m"
    given = {"encryption": "aes-256-gcm" if encrypted else "off", "keystatus": status}
    lines = "".join(f"{name}\t{key}\t{value}\t-\n" for key, value in given.items())
    (mirror,) = zfs_text.datasets(ROOT, zfs_text.rows(dataset_row("mirrors/m") + lines), {})
    assert (mirror.encrypted, mirror.locked) == (encrypted, locked)


def test_what_a_token_goes_on_with() -> None:
    said = (
        "resume token contents:\nnvlist version: 0\n\tobject = 0x2\n\toffset = 0xb00000\n"
        "\tfromguid = 0x10\n\ttoguid = 0xff\n\ttoname = a/src@1\nsize\t100\n"
    )
    assert zfs_text.token_of(said) == ("255", "16", "1")
    assert zfs_text.token_of(said.replace("fromguid = 0x10", "")) == ("255", None, "1")
    assert zfs_text.token_of("cannot resume send: corrupt") == (None, None, None)


SAID = [
    ("cannot destroy 'a/m@h-1': dataset is busy", DatasetBusy),
    ("umount: /m: target is busy.\ncannot unmount '/m': umount failed", DatasetBusy),
    ("cannot destroy 'a/m@s': snapshot has dependent clones\nuse '-R' to …", DatasetBusy),
    ("cannot destroy 'a/m@s': snapshot is cloned\nno snapshots destroyed", DatasetBusy),
    ("cannot destroy snapshot a/m@s: it's being held. Run 'zfs holds -r a/m@s' to …", DatasetBusy),
    ("cannot rollback 'a/m': I/O error", DatasetBusy),
    ("cannot hold in dataset 'a/m': permission denied", PermissionMissing),
    ("cannot mount 'a/m': Insufficient privileges", PermissionMissing),
    ("Permission denied the ZFS utilities must be run as root.", PermissionMissing),
    ("cannot hold 'a/m@zz': dataset does not exist", SnapshotMissing),
    ("cannot open 'a/nope': dataset does not exist", DatasetMissing),
    ("WARNING: could not send a/m@nn: does not exist", SourceChanged),
    ("warning: cannot send 'a/m@s2': incremental source (@nn) does not exist", SourceChanged),
    ("warning: cannot send 'a/m@s2': not an earlier snapshot from the same fs", SourceChanged),
    ("most recent snapshot of b/m/k does not\nmatch incremental source", SourceChanged),
    ("cannot receive: local origin for clone c/m/k2@y1 does not exist", SourceChanged),
    ("cannot receive new filesystem stream: out of space", InsufficientStorage),
    ("cannot receive new filesystem stream: invalid backup stream", StreamCorrupt),
    ("cannot receive: failed to read from stream", StreamCorrupt),
    ("cannot receive new filesystem stream: invalid stream (checksum mismatch)", StreamCorrupt),
    ("cannot mount 'a/m': encryption key not loaded", KeyUnavailable),
    ("Key load error: Incorrect key provided for 'a/m'.", KeyUnavailable),
    ("something else", CommandFailed),
    ("", CommandFailed),
]


@pytest.mark.parametrize(("said", "kind"), SAID)
def test_words_become_errors(said: str, kind: type[TransferError]) -> None:
    error = zfs_text.failure(Output(("zfs", "x"), 1, "", said))
    assert type(error) is kind
    assert error.evidence["stderr"] == " ".join(said.split())


@pytest.mark.parametrize(
    ("said", "passes"),
    [
        ("cannot destroy 'a/m@h-1': dataset is busy", True),
        ("cannot rollback 'a/m': I/O error", True),
        ("cannot destroy 'a/m@s': snapshot has dependent clones", False),
        ("cannot open 'a/m': I/O error", False),
    ],
)
def test_what_may_be_gone_in_a_moment(said: str, passes: bool) -> None:
    assert zfs_text.passes(zfs_text.failure(Output(("zfs", "x"), 1, "", said))) is passes


def test_harmless_words() -> None:
    two = "cannot hold 'a@b': tag already exists on this dataset\ncannot hold 'a@c': odd\n"
    assert zfs_text.only_says(Output(("zfs",), 0, "", two))
    assert not zfs_text.only_says(Output(("zfs",), 1, "", two), "tag already exists")
    assert zfs_text.only_says(Output(("zfs",), 1, "", two), "tag already exists", "odd")
    assert not zfs_text.only_says(Output(("zfs",), 1, "", ""), "odd")


@pytest.mark.parametrize("order", ["<", ">"])
def test_the_head_of_a_stream(order: str) -> None:
    name = b"tank/x@h-1".ljust(256, b"\0")
    start = struct.pack(order + "IIQQQIIQQ256s", 0, 0, 0x2F5BACBAC, 1, 0, 2, 1, 7, 5, name)
    assert len(start) == RECORD_BYTES
    assert stream_head(start + b"more") == StreamHead("7", "5", "h-1", clone=True)
    for bad in (start[:-1], b"\0" * RECORD_BYTES, b""):
        with pytest.raises(StreamCorrupt):
            stream_head(bad)


def test_the_head_of_a_compound_is_its_first_parts() -> None:
    def begin(version: int, payload_bytes: int = 0, guid: int = 7) -> bytes:
        name = b"tank/x@h-1".ljust(256, b"\0")
        fields = (0, payload_bytes, 0x2F5BACBAC, version, 0, 2, 0, guid, 5, name)
        return struct.pack("<IIQQQIIQQ256s", *fields)

    end = b"\0" * RECORD_BYTES
    assert stream_head(begin(2, guid=0) + end + begin(1)) == StreamHead("7", "5", "h-1", False)
    for bad in (begin(2) + end, begin(2), begin(2, payload_bytes=8) + end + begin(1)):
        with pytest.raises(StreamCorrupt):
            stream_head(bad)


def test_the_estimated_size() -> None:
    said = "incremental\th-1\ttank/x@h-2\t1024\nsize\t1024\n"
    assert zfs_text.estimated_bytes(said) == 1024
    with pytest.raises(CommandFailed):
        zfs_text.estimated_bytes("full\ttank/x@h-2\n")
