"""Unpacking archives: what is kept of honest ones, and what no hostile one can do."""

from __future__ import annotations

import os
import stat
import subprocess
import tarfile
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests import tarballs
from tests.tarballs import Entry
from tests.trees import listing, make_tree
from transfer.errors import ArchiveInvalid, InsufficientStorage
from transfer.tree import unpack as unpack_module
from transfer.tree.archive import GLOBAL_FIELDS_MAX, HEADER_BYTES_MAX
from transfer.tree.copy import CopyReport
from transfer.tree.unpack import unpack_tree

ROOM = 1 << 30
is_root = pytest.mark.skipif(os.geteuid() != 0, reason="owners and devices need root")


class Place:
    """A directory to unpack into, with something beside it that must stay as it is."""

    def __init__(self, home: Path) -> None:
        self.archive = home / "image.tar"
        self.tree = home / "tree"
        self.outside = home / "outside"
        for made in (self.tree, self.outside, self.outside / "inner"):
            made.mkdir()
        (self.outside / "victim").write_text("good")
        self.before = listing(self.outside)

    def unpack(self, content: bytes, room: int = ROOM) -> CopyReport:
        self.archive.write_bytes(content)
        try:
            return unpack_tree(str(self.archive), str(self.tree), room, lambda _: None)
        finally:
            assert listing(self.outside) == self.before

    def of(self, *entries: Entry) -> CopyReport:
        return self.unpack(tarballs.archive(entries))

    def refused(self, entries: Iterable[Entry], *words: str) -> None:
        with pytest.raises(ArchiveInvalid) as caught:
            self.of(*entries)
        for word in (str(self.archive), *words):
            assert word in caught.value.message
        assert "\n" not in caught.value.message


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    made = tmp_path / "honest"
    made.mkdir()
    make_tree(made)
    if os.geteuid() == 0:
        os.lchown(made / "link", 1234, 4321)
        os.chown(made / "sbin" / "tool", 1234, 4321)
        os.chmod(made / "sbin" / "tool", 0o6755)  # a change of owner clears them
        os.mknod(made / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.utime(made, ns=(5, 1_400_000_000_000_000_007))
    os.utime(made / "sbin", ns=(5, 1_400_000_000_000_000_009))
    return made


@pytest.mark.parametrize("compression", tarballs.COMPRESSIONS)
def test_an_honest_archive_is_the_same_tree(place: Place, tree: Path, compression: str) -> None:
    content = tarballs.COMPRESSIONS[compression](tarballs.archive_of(tree))
    report = place.unpack(content)
    assert listing(place.tree) == listing(tree)
    assert report.dropped == {}
    assert report.copied_bytes >= 700_000


@pytest.mark.parametrize("form", ["gnu", "pax", "ustar", "v7"])
@pytest.mark.parametrize("sparse", [(), ("--sparse",)], ids=["whole", "sparse"])
def test_what_tar_itself_writes(
    place: Place, tree: Path, form: str, sparse: tuple[str, ...]
) -> None:
    if form == "v7":
        for special in ("fifo", "null"):
            (tree / special).unlink(missing_ok=True)
        os.utime(tree, ns=(5, 1_400_000_000_000_000_007))
    options = (*sparse, f"--format={form}", "--numeric-owner")
    if sparse and form in ("ustar", "v7"):
        options = options[1:]
    made = subprocess.run(
        ["tar", "-c", *options, "-C", tree, "."], check=True, capture_output=True
    ).stdout
    place.unpack(made)
    if form == "pax":
        assert listing(place.tree) == listing(tree)
    else:
        assert seconds(place.tree) == seconds(tree)
    assert (place.tree / "sparse").stat().st_blocks * 512 < 1 << 20


@pytest.mark.parametrize("version", ["0.0", "0.1", "1.0"])
def test_every_way_to_write_holes(place: Place, tree: Path, version: str) -> None:
    options = ("--sparse", "--format=pax", f"--sparse-version={version}")
    made = subprocess.run(
        ["tar", "-c", *options, "-C", tree, "sparse"], check=True, capture_output=True
    ).stdout
    place.unpack(made)
    assert (place.tree / "sparse").read_bytes() == (tree / "sparse").read_bytes()


def seconds(top: Path) -> dict[str, tuple[object, ...]]:
    """A listing with whole seconds, as older forms of archives have them."""
    return {
        name: (*facts[:3], int(str(facts[3])) // 1_000_000_000, *facts[4:])
        for name, facts in listing(top).items()
    }


def test_a_tree_without_a_root_of_its_own_can_be_entered(place: Place) -> None:
    place.of(tarballs.file("etc/hostname"))
    for made in (place.tree, place.tree / "etc"):
        assert stat.S_IMODE(made.stat().st_mode) == 0o755
    assert (place.tree / "etc/hostname").read_bytes() == b"content"


def test_a_name_that_comes_twice_counts_as_it_came_last(place: Place) -> None:
    place.of(
        tarballs.file("file", b"first"),
        tarballs.hard_link("other", "file"),
        tarballs.file("./file", b"second"),
        tarballs.directory("dir", mode=0o700),
        tarballs.directory("dir/", mode=0o711),
        tarballs.directory("gone"),
        tarballs.file("gone", b"a file now"),
        tarballs.file("door", b"a directory soon"),
        tarballs.directory("door"),
        tarballs.file("door/inside"),
        tarballs.hard_link("file", "file"),
    )
    assert (place.tree / "file").read_bytes() == b"second"
    assert (place.tree / "other").read_bytes() == b"first"
    assert stat.S_IMODE((place.tree / "dir").stat().st_mode) == 0o711
    assert (place.tree / "gone").read_bytes() == b"a file now"
    assert (place.tree / "door/inside").exists()


def hostile(outside: Path) -> dict[str, tuple[list[Entry], str]]:
    target, file, symlink = str(outside), tarballs.file, tarballs.symlink
    link, directory = tarballs.hard_link, tarballs.directory
    return {
        "absolute": ([file(f"{target}/new")], "absolute"),
        "absolute, twice": ([file(f"/{target}/new")], "absolute"),
        "upwards": ([file("../outside/victim")], "upwards"),
        "upwards below": ([file("a/../../outside/victim")], "upwards"),
        "upwards alone": ([directory("..")], "upwards"),
        "through a symlink": ([symlink("door", target), file("door/victim")], "no directory"),
        "through a symlink inside": (
            [directory("real"), symlink("door", "real"), file("door/x")],
            "no directory",
        ),
        "through two": (
            [symlink("a", "."), symlink("a/b", ".."), file("a/b/outside/victim")],
            "no directory",
        ),
        "a directory through a symlink": (
            [symlink("door", target), directory("door/inner", mode=0o777)],
            "no directory",
        ),
        "through a file": ([file("door"), file("door/x")], "no directory"),
        "a link out": ([link("mine", f"{target}/victim")], "absolute"),
        "a link upwards": ([link("mine", "../outside/victim")], "upwards"),
        "a link through a symlink": (
            [symlink("door", target), link("mine", "door/victim")],
            "no directory",
        ),
        "a link to nothing": ([link("mine", "nothing")], "not there"),
        "a link to the root": ([link("mine", ".")], "not there"),
        "a link to a directory": ([directory("dir"), link("mine", "dir")], "directory"),
        "over a directory with something in it": (
            [file("dir/x"), symlink("dir", target)],
            "not empty",
        ),
        "the root is a symlink": ([symlink("./", target)], "is the root"),
        "no name": ([file("")], "no name"),
        "a long name": ([file("n" * 256)], "too long"),
        "too deep": ([file("d/" * 301 + "x")], "too deep"),
        "a zero byte": ([file("x", pax_headers={"path": "a\0b"})], "zero byte"),
        "an unknown kind": ([tarballs.entry("x", b"V")], "unknown kind"),
        "nobody's owner": ([file("x", pax_headers={"uid": str((1 << 32) - 1)})], "owner"),
        "a time that never was": ([file("x", pax_headers={"mtime": "1e99999999"})], "time"),
        "a time that is none": ([file("x", pax_headers={"mtime": "nan"})], "time"),
        "control characters": ([file("../\x1b[2J")], "../\N{REPLACEMENT CHARACTER}[2J"),
    }


@pytest.mark.parametrize("case", hostile(Path("/")))
def test_nothing_is_written_outside(place: Place, case: str) -> None:
    entries, words = hostile(place.outside)[case]
    place.refused(entries, words)


def test_a_symlink_is_replaced_never_written_through(place: Place) -> None:
    victim = f"{place.outside}/victim"
    place.of(
        tarballs.symlink("file", victim),
        tarballs.file("file", b"mine"),
        tarballs.symlink("dir", str(place.outside)),
        tarballs.directory("dir", mode=0o777),
        tarballs.file("dir/victim", b"mine"),
        tarballs.symlink("fifo", victim),
        tarballs.entry("fifo", tarfile.FIFOTYPE, mode=0o666),
        tarballs.symlink("link", victim),
        tarballs.hard_link("same", "link"),
    )
    assert (place.tree / "file").read_bytes() == b"mine"
    assert (place.tree / "dir/victim").read_bytes() == b"mine"
    assert os.readlink(place.tree / "same") == victim


@is_root
def test_devices_owners_and_set_id_bits_are_kept_by_root(place: Place) -> None:
    place.of(
        tarballs.device("null", mode=0o666, uid=0, gid=5),
        tarballs.file("su", mode=0o6755, uid=1234, gid=4321),
        tarballs.directory("spool", mode=0o3770, uid=7, gid=8),
    )
    null, su, spool = [(place.tree / name).stat() for name in ("null", "su", "spool")]
    assert (null.st_mode, null.st_rdev) == (stat.S_IFCHR | 0o666, os.makedev(1, 3))
    assert (null.st_gid, su.st_uid, su.st_gid, spool.st_uid) == (5, 1234, 4321, 7)
    assert [stat.S_IMODE(one.st_mode) for one in (su, spool)] == [0o6755, 0o3770]


def test_a_device_that_cannot_be_made_is_left_out_and_counted(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_arguments: object, **_options: object) -> None:
        raise PermissionError

    monkeypatch.setattr(unpack_module.os, "mknod", forbidden)
    report = place.of(tarballs.device("null"), tarballs.file("file"))
    assert os.listdir(place.tree) == ["file"]
    assert report.dropped == {"device": 1}


@is_root
def test_capabilities_outlive_the_change_of_owner(place: Place) -> None:
    capability = bytes.fromhex("0100000200200000000000000000000000000000")
    text = capability.decode("utf-8", "surrogateescape")
    headers = {"SCHILY.xattr.security.capability": text, "SCHILY.xattr.user.\xe4": "\xe4"}
    report = place.of(tarballs.file("ping", uid=1234, pax_headers=headers))
    assert report.dropped in ({}, {"xattr": 1})  # a filesystem may have no `user.` ones
    assert os.getxattr(place.tree / "ping", "security.capability") == capability


def test_an_attribute_that_cannot_be_set_is_counted(place: Place) -> None:
    headers = {"SCHILY.xattr.nonsense": "x"}
    assert place.of(tarballs.file("x", pax_headers=headers)).dropped == {"xattr": 1}


@pytest.mark.parametrize("compression", tarballs.COMPRESSIONS)
def test_an_archive_cut_anywhere_is_refused(place: Place, compression: str) -> None:
    whole = tarballs.archive([tarballs.file(f"f{n}", os.urandom(700)) for n in range(5)])
    packed = tarballs.COMPRESSIONS[compression](whole)
    mark = 5 * 1536 + 512  # up to the mark of the end
    for cut in range(0, mark if compression == "plain" else len(packed), 97):
        for path in place.tree.iterdir():
            path.unlink()
        with pytest.raises(ArchiveInvalid):
            place.unpack(packed[:cut])


def test_damage_is_told_with_the_entry_that_it_is_at(place: Place) -> None:
    whole = tarballs.archive([tarballs.file("first", bytes(600)), tarballs.file("second")])
    header = bytearray(whole)
    header[1536 + 5] ^= 1
    with pytest.raises(ArchiveInvalid, match="first: a header is damaged"):
        place.unpack(bytes(header))
    with pytest.raises(ArchiveInvalid, match="first: the archive ends in the middle of it"):
        place.unpack(whole[:700])
    with pytest.raises(ArchiveInvalid, match=r"image\.tar: cannot be read"):
        place.unpack(os.urandom(4096))
    with pytest.raises(ArchiveInvalid, match=r"image\.tar: the archive is empty"):
        place.unpack(bytes(10240))
    packed = bytearray(tarballs.COMPRESSIONS["gzip"](whole))
    packed[-6] ^= 1  # of the checksum, after the archive's own end
    with pytest.raises(ArchiveInvalid, match="after second: cannot be read"):
        place.unpack(bytes(packed))


@pytest.mark.parametrize("compression", tarballs.COMPRESSIONS)
def test_a_bomb_stops_at_the_room_there_is(place: Place, compression: str) -> None:
    bomb = tarballs.archive([tarballs.file("zeros", bytes(32 << 20))])
    with pytest.raises(InsufficientStorage):
        place.unpack(tarballs.COMPRESSIONS[compression](bomb), room=1 << 20)


def test_a_bomb_of_entries_stops_too(place: Place) -> None:
    with pytest.raises(InsufficientStorage):
        place.unpack(
            tarballs.archive([tarballs.file(f"f{n}", b"") for n in range(5000)]), room=1 << 20
        )


def test_headers_take_no_memory_to_speak_of(place: Place) -> None:
    huge = tarballs.entry("././@LongLink", tarfile.GNUTYPE_LONGNAME)[0]
    huge.size = 1 << 40
    for size in (1 << 40, HEADER_BYTES_MAX):
        huge.size = size
        header = huge.tobuf(tarfile.GNU_FORMAT)
        with pytest.raises(ArchiveInvalid, match="headers are too long"):
            place.unpack(header + bytes(2 * HEADER_BYTES_MAX))
    huge.size = 0
    with pytest.raises(ArchiveInvalid, match="recursion"):
        place.unpack(huge.tobuf(tarfile.GNU_FORMAT) * 1500)
    headers = {f"key{n}": "x" for n in range(GLOBAL_FIELDS_MAX + 1)}
    with pytest.raises(ArchiveInvalid, match="global headers"):
        place.unpack(tarballs.archive([tarballs.file("x")], headers))


@pytest.mark.parametrize(
    "numbers",
    ["0\n0\n0\n", "1\n-5\n3\n", "1\n0\n9999999\n", "2\n5\n2\n0\n2\n", "9\n", "x\n"],
)
def test_holes_that_do_not_add_up(place: Place, numbers: str) -> None:
    headers = {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.name": "sparse",
        "GNU.sparse.realsize": "100",
    }
    content = numbers.encode().ljust(512, b"\0") + bytes(512)
    made = [tarballs.file("sparse", content, pax_headers=headers)]
    if numbers.startswith("0"):
        place.of(*made)
        assert (place.tree / "sparse").read_bytes() == bytes(100)
    else:
        place.refused(made)


def test_a_negative_length_does_not_go_back(place: Place) -> None:
    place.refused([tarballs.file("x", pax_headers={"size": "-1024"}), tarballs.file("y")])
    backwards = tarballs.entry("x", tarfile.GNUTYPE_SPARSE, size=-1024)[0]
    with pytest.raises(ArchiveInvalid, match="do not add up"):
        place.unpack(backwards.tobuf(tarfile.GNU_FORMAT) + bytes(10240))
