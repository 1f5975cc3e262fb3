"""Whatever an archive says, nothing outside its root is ever written, and it is either unpacked
or refused for what it is."""

from __future__ import annotations

import contextlib
import os
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests import tarballs
from tests.tarballs import Entry
from tests.trees import listing
from transfer.errors import ArchiveInvalid, InsufficientStorage
from transfer.tree.unpack import unpack_tree

ROOM = 1 << 22

PARTS = st.sampled_from(["a", "b", "c", ".", "..", "", "victim", "outside", "tree"])
NAMES = st.builds(
    lambda lead, parts: lead + "/".join(parts),
    st.sampled_from(["", "", "", "./", "/", "//", "@/"]),
    st.lists(PARTS, min_size=1, max_size=4),
)
KINDS = st.sampled_from(
    [
        *(tarfile.REGTYPE, tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.SYMTYPE),
        *(tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CONTTYPE, b"Q"),
    ]
)


@st.composite
def entries(draw: st.DrawFn) -> list[Entry]:
    """Entries whose names lead into each other, and `@` to what is outside."""
    made = []
    for _ in range(draw(st.integers(1, 8))):
        kind = draw(KINDS)
        content = b"evil" if kind in (tarfile.REGTYPE, tarfile.CONTTYPE) else b""
        mode = draw(st.sampled_from([0o644, 0o755, 0o777, 0]))
        made.append(tarballs.entry(draw(NAMES), kind, content, linkname=draw(NAMES), mode=mode))
    return made


@contextlib.contextmanager
def home() -> Iterator[tuple[Path, Path]]:
    with tempfile.TemporaryDirectory(prefix="hoody-unpack-") as directory:
        tree, outside = Path(directory, "tree"), Path(directory, "outside")
        tree.mkdir()
        (outside / "a").mkdir(parents=True)
        for name in ("victim", "a/b"):
            (outside / name).write_bytes(b"good")
        yield tree, outside


def unpack(tree: Path, outside: Path, content: bytes) -> None:
    """Unpacks it or has it refused; all that is beside the tree is what it was."""
    archive = outside.parent / "image.tar"
    archive.write_bytes(content)
    before = (listing(outside), sorted(os.listdir(outside.parent)))
    with contextlib.suppress(ArchiveInvalid, InsufficientStorage):
        unpack_tree(str(archive), str(tree), ROOM, lambda _: None)
    assert (listing(outside), sorted(os.listdir(outside.parent))) == before


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(entries())
def test_no_name_leads_outside(made: list[Entry]) -> None:
    with home() as (tree, outside):
        for info, _ in made:
            info.name = info.name.replace("@", str(outside))
            info.linkname = info.linkname.replace("@", str(outside))
        unpack(tree, outside, tarballs.archive(made))


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from(sorted(tarballs.COMPRESSIONS)),
    st.lists(st.tuples(st.integers(0, 6000), st.binary(min_size=1, max_size=12)), max_size=4),
)
def test_damage_is_refused_or_is_content(
    compression: str, changes: list[tuple[int, bytes]]
) -> None:
    """Any other exception than the two that `unpack` knows fails this."""
    headers = {"mtime": "1.5", "SCHILY.xattr.user.x": "y", "GNU.sparse.map": "0,3,10,4"}
    sparse = {**headers, "GNU.sparse.size": "20", "GNU.sparse.name": "sparse"}
    del headers["GNU.sparse.map"]
    made = [
        tarballs.directory("./", mode=0o700),
        tarballs.file("a" * 150, b"x" * 600, pax_headers=headers),
        tarballs.file("sparse", b"1234567", pax_headers=sparse),
        tarballs.symlink("link", "a"),
        tarballs.hard_link("again", "sparse"),
    ]
    content = bytearray(tarballs.COMPRESSIONS[compression](tarballs.archive(made)))
    for at, other in changes:
        content[at % len(content) : at % len(content) + len(other)] = other
    with home() as (tree, outside):
        unpack(tree, outside, bytes(content))
