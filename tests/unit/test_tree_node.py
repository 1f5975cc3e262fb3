"""Nodes and manifests: round trips, and everything malformed is refused."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transfer.errors import StorageError, StreamCorrupt
from transfer.tree.chunk import EMPTY_DIGEST, FILE_BYTES_MAX, digest
from transfer.tree.manifest import Manifest, dump, load
from transfer.tree.node import NO_DIGEST, Entry, Kind, Metadata, Node, decode, encode

META = Metadata(0o644, 0, 0, 1_700_000_000_123_456_789)

names = st.binary(min_size=1, max_size=255).filter(
    lambda name: b"/" not in name and b"\0" not in name and name not in {b".", b".."}
)
digests = st.binary(min_size=16, max_size=16).filter(lambda found: found != EMPTY_DIGEST)
metadata = st.builds(
    Metadata,
    st.integers(0, 0o7777),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**32 - 1),
    st.integers(-(2**40) * 10**9, 2**40 * 10**9),
)
paths = st.lists(names, min_size=1, max_size=4).map(b"/".join)
targets = st.binary(min_size=1, max_size=500).filter(lambda text: b"\0" not in text)


def _entries(name: bytes) -> st.SearchStrategy[Entry]:
    just = st.just(name)
    return st.one_of(
        st.builds(Entry, just, st.just(Kind.DIRECTORY), digests),
        st.builds(
            Entry,
            just,
            st.just(Kind.FILE),
            digests,
            metadata,
            st.integers(1, FILE_BYTES_MAX),
            st.one_of(st.just(b""), paths),
        ),
        st.builds(Entry, just, st.just(Kind.FILE), st.just(EMPTY_DIGEST), metadata),
        st.builds(Entry, just, st.just(Kind.SYMLINK), metadata=metadata, text=targets),
        st.builds(Entry, just, st.just(Kind.FIFO), metadata=metadata),
        st.builds(
            Entry,
            just,
            st.sampled_from([Kind.BLOCK, Kind.CHARACTER]),
            metadata=metadata,
            value=st.integers(0, 2**63),
        ),
    )


nodes = st.builds(
    Node,
    metadata,
    st.lists(names, unique=True, max_size=8).flatmap(
        lambda found: st.tuples(*[_entries(name) for name in sorted(found)])
    ),
)


def file_entry(name: bytes, **changes: Any) -> Entry:
    return dataclasses.replace(Entry(name, Kind.FILE, digest(b"x"), META, 1), **changes)


@given(nodes)
def test_a_node_survives_encoding(node: Node) -> None:
    assert decode(encode(node)) == node


@given(nodes, st.data())
def test_a_cut_node_is_refused(node: Node, data: st.DataObject) -> None:
    encoded = encode(node)
    length = data.draw(st.integers(0, len(encoded) - 1))
    with pytest.raises(StreamCorrupt):
        decode(encoded[:length])


@given(st.binary(max_size=300))
def test_any_bytes_are_a_node_or_refused(data: bytes) -> None:
    try:
        node = decode(data)
    except StreamCorrupt:
        return
    assert encode(node) == data


BAD_NODES = {
    "name with slash": [file_entry(b"a/b")],
    "name with nul": [file_entry(b"a\0b")],
    "name dot": [file_entry(b".")],
    "name dot dot": [file_entry(b"..")],
    "name empty": [file_entry(b"")],
    "directory dot dot": [Entry(b"..", Kind.DIRECTORY, digest(b"x"))],
    "duplicate names": [file_entry(b"a"), file_entry(b"a")],
    "unsorted names": [file_entry(b"b"), file_entry(b"a")],
    "size too large": [file_entry(b"a", value=FILE_BYTES_MAX + 1)],
    "empty with content": [file_entry(b"a", value=0)],
    "content with empty digest": [file_entry(b"a", digest=EMPTY_DIGEST)],
    "mode too large": [file_entry(b"a", metadata=Metadata(0o10000, 0, 0, 0))],
    "leader outside": [file_entry(b"a", text=b"../a")],
    "leader absolute": [file_entry(b"a", text=b"/etc/passwd")],
    "leader too long": [file_entry(b"a", text=b"a/" * 2048 + b"a")],
    "symlink without target": [Entry(b"a", Kind.SYMLINK, metadata=META)],
    "symlink with nul": [Entry(b"a", Kind.SYMLINK, metadata=META, text=b"x\0y")],
    "symlink with digest": [Entry(b"a", Kind.SYMLINK, digest(b"x"), META, text=b"x")],
    "fifo with target": [Entry(b"a", Kind.FIFO, metadata=META, text=b"x")],
    "fifo with number": [Entry(b"a", Kind.FIFO, metadata=META, value=1)],
}


@pytest.mark.parametrize("case", BAD_NODES)
def test_a_malformed_node_is_refused(case: str) -> None:
    with pytest.raises(StreamCorrupt):
        decode(encode(Node(META, tuple(BAD_NODES[case]))))


def test_bytes_after_the_last_entry_are_refused() -> None:
    with pytest.raises(StreamCorrupt):
        decode(encode(Node(META, (file_entry(b"a"),))) + b"\0")


def test_another_version_is_refused() -> None:
    with pytest.raises(StreamCorrupt):
        decode(b"\x02" + encode(Node(META, ()))[1:])


def test_an_unknown_kind_is_refused() -> None:
    encoded = bytearray(encode(Node(META, (Entry(b"a", Kind.DIRECTORY, NO_DIGEST),))))
    encoded[-19] = 9
    with pytest.raises(StreamCorrupt):
        decode(bytes(encoded))


@given(nodes)
def test_a_manifest_survives_its_file(node: Node) -> None:
    manifest = Manifest({b"": encode(node)}, {b"a/b": b"x" * 32})
    assert load(dump(manifest)) == manifest


@given(nodes, st.data())
def test_a_damaged_manifest_file_is_refused(node: Node, data: st.DataObject) -> None:
    dumped = bytearray(dump(Manifest({b"": encode(node)}, {})))
    at = data.draw(st.integers(0, len(dumped) - 1))
    dumped[at] ^= 1
    with pytest.raises(StorageError):
        load(bytes(dumped))
