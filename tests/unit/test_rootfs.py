"""Access to a hostile tree: what is asked for is inside it, or it is refused."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.mounts import mounted
from transfer import rootfs
from transfer.rootfs import Root


@pytest.fixture(params=["kernel", "walk"])
def resolver(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to resolve a path must behave alike."""
    if request.param == "walk":
        monkeypatch.setattr(rootfs, "_SYS_OPENAT2", None)
    return str(request.param)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    (tree / "etc/ssh").mkdir(parents=True)
    (tree / "etc/hostname").write_text("inside\n")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "hostname").write_text("outside\n")
    return tree


def _absolute(tree: Path) -> None:
    (tree / "trap").symlink_to(tree.parent / "outside")


def _upward(tree: Path) -> None:
    (tree / "trap").symlink_to("../outside")


def _inside(tree: Path) -> None:
    (tree / "trap").symlink_to("etc")


def _loop(tree: Path) -> None:
    (tree / "trap").symlink_to("trap")


def _magic(tree: Path) -> None:
    (tree / "trap").symlink_to("/proc/self/root/etc")


def _fifo(tree: Path) -> None:
    os.mkfifo(tree / "trap")


def _file(tree: Path) -> None:
    (tree / "trap").write_text("a file\n")


def _nothing(tree: Path) -> None:
    assert not (tree / "trap").exists()


TRAPS: list[tuple[Callable[[Path], None], int]] = [
    (_absolute, errno.ELOOP),
    (_upward, errno.ELOOP),
    (_inside, errno.ELOOP),
    (_loop, errno.ELOOP),
    (_magic, errno.ELOOP),
    (_fifo, errno.ENOTDIR),
    (_file, errno.ENOTDIR),
    (_nothing, errno.ENOENT),
]


@pytest.mark.parametrize("below", ["", "/hostname", "/ssh"])
@pytest.mark.parametrize(("plant", "code"), TRAPS)
@pytest.mark.usefixtures("resolver")
def test_a_trap_is_no_directory(
    tree: Path, plant: Callable[[Path], None], code: int, below: str
) -> None:
    plant(tree)
    with Root(str(tree)) as root:
        with pytest.raises(OSError) as caught, root.open_dir(f"trap{below}"):
            pass
        # To O_DIRECTORY a symlink is no directory; which of both is told depends on the kernel.
        assert caught.value.errno in ({code, errno.ENOTDIR} if code == errno.ELOOP else {code})
        with root.find_dir(f"trap{below}") as fd:
            assert fd is None


@pytest.mark.parametrize("path", ["..", "../outside", "etc/../../outside", "/etc/../.."])
@pytest.mark.usefixtures("resolver")
def test_no_path_goes_up(tree: Path, path: str) -> None:
    with Root(str(tree)) as root, pytest.raises(OSError) as caught, root.open_dir(path):
        pass
    assert caught.value.errno == errno.EXDEV


@pytest.mark.parametrize("path", ["etc", "/etc", "./etc//", "etc/."])
@pytest.mark.usefixtures("resolver")
def test_a_real_directory_is_found(tree: Path, path: str) -> None:
    with Root(str(tree)) as root, root.open_dir(path) as fd:
        assert os.fstat(fd).st_ino == (tree / "etc").stat().st_ino
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


@pytest.mark.usefixtures("resolver")
def test_another_mount_is_refused() -> None:
    with Root("/") as root, pytest.raises(OSError) as caught, root.open_dir("proc/self"):
        pass
    assert caught.value.errno in {errno.EXDEV, errno.ELOOP}
    with Root("/") as root, root.find_dir("proc") as fd:
        assert fd is None


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
@pytest.mark.usefixtures("resolver")
def test_a_mount_of_the_same_device_is_refused(tree: Path) -> None:
    with Root(str(tree)) as root, root.open_dir("etc") as etc:
        with mounted(tree.parent / "outside", tree / "etc/ssh"):
            with pytest.raises(OSError, match="cross-device") as caught, root.open_dir("etc/ssh"):
                pass
            assert caught.value.errno == errno.EXDEV
        with (
            mounted(tree.parent / "outside/hostname", tree / "etc/hostname"),
            pytest.raises(OSError, match="cross-device"),
        ):
            rootfs.read_file(etc, "hostname", 100)
        assert rootfs.read_file(etc, "hostname", 100) == b"inside\n"


def test_an_old_kernel_is_walked(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rootfs, "_SYS_OPENAT2", 100_000)  # no such system call: ENOSYS
    _walks(tree)


def test_a_filter_that_does_not_know_openat2_is_walked_around(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_: object) -> int:
        raise PermissionError(errno.EPERM, "as a seccomp filter says it")

    monkeypatch.setattr(rootfs, "_open_by_kernel", forbidden)
    _walks(tree)


def _walks(tree: Path) -> None:
    _upward(tree)
    with Root(str(tree)) as root:
        with root.open_dir("etc/ssh") as fd:
            assert os.fstat(fd).st_ino == (tree / "etc/ssh").stat().st_ino
        with root.find_dir("trap") as none:
            assert none is None


@pytest.mark.usefixtures("resolver")
def test_files_are_read_up_to_a_limit(tree: Path) -> None:
    os.mkfifo(tree / "etc/fifo")
    (tree / "etc/link").symlink_to("hostname")
    with Root(str(tree)) as root, root.open_dir("etc") as etc:
        assert rootfs.read_file(etc, "hostname", 7) == b"inside\n"
        for name, limit_bytes, code in [
            ("hostname", 6, errno.EFBIG),
            ("fifo", 100, errno.EINVAL),
            ("link", 100, errno.EINVAL),
            ("ssh", 100, errno.EINVAL),
            ("nothing", 100, errno.ENOENT),
        ]:
            with pytest.raises(OSError) as caught:
                rootfs.read_file(etc, name, limit_bytes)
            assert caught.value.errno == code, name


@pytest.mark.skipif(os.geteuid() != 0, reason="making device nodes needs root")
def test_a_device_is_never_opened(tree: Path) -> None:
    # No driver has this number: opening the node would be ENXIO, not EINVAL.
    os.mknod(tree / "etc/device", 0o666 | stat.S_IFCHR, os.makedev(255, 255))
    with Root(str(tree)) as root, root.open_dir("etc") as etc, pytest.raises(OSError) as caught:
        rootfs.read_file(etc, "device", 100)
    assert caught.value.errno == errno.EINVAL


def test_a_kind_is_that_of_the_name_itself(tree: Path) -> None:
    (tree / "etc/dangling").symlink_to("/no/such")
    with Root(str(tree)) as root, root.open_dir("etc") as etc:
        assert rootfs.kind_of(etc, "dangling") == stat.S_IFLNK
        assert rootfs.kind_of(etc, "ssh") == stat.S_IFDIR
        assert rootfs.kind_of(etc, "nothing") == 0


@pytest.mark.parametrize("trap", ["symlink", "fifo", "hardlink", "nothing"])
def test_a_replaced_file_writes_through_nothing(tree: Path, trap: str) -> None:
    outside = tree.parent / "outside/hostname"
    name = tree / "etc/target"
    if trap == "symlink":
        name.symlink_to(outside)
    elif trap == "fifo":
        os.mkfifo(name)
    elif trap == "hardlink":
        name.hardlink_to(outside)
    with Root(str(tree)) as root, root.open_dir("etc") as etc:
        rootfs.replace_file(etc, "target", b"new\n", 0o640)
    assert outside.read_text() == "outside\n"
    assert name.read_text() == "new\n"
    assert stat.S_ISREG(name.lstat().st_mode)
    assert sorted(os.listdir(tree / "etc")) == ["hostname", "ssh", "target"]


def test_a_directory_is_not_replaced_and_nothing_stays_behind(tree: Path) -> None:
    with Root(str(tree)) as root, root.open_dir("etc") as etc:
        with pytest.raises(IsADirectoryError):
            rootfs.replace_file(etc, "ssh", b"new\n", 0o600)
        for name in ("", ".", "..", "a/b"):
            with pytest.raises(OSError, match="not the name"):
                rootfs.replace_file(etc, name, b"", 0o600)
    assert sorted(os.listdir(tree / "etc")) == ["hostname", "ssh"]


def test_permissions_and_owner_of_a_replaced_file_stay(tree: Path) -> None:
    name = tree / "etc/hostname"
    name.chmod(0o604)
    if os.geteuid() == 0:
        os.chown(name, 1234, 2345)
        os.chown(tree / "etc", 77, 88)
    before = name.stat()
    with Root(str(tree)) as root, root.open_dir("etc") as etc:
        rootfs.replace_file(etc, "hostname", b"x", 0o600)
        rootfs.replace_file(etc, "fresh", b"x", 0o600)
    after, fresh = name.stat(), (tree / "etc/fresh").stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (
        before.st_mode,
        before.st_uid,
        before.st_gid,
    )
    owner = (tree / "etc").stat()
    assert (fresh.st_uid, fresh.st_gid) == (owner.st_uid, owner.st_gid)
    assert stat.S_IMODE(fresh.st_mode) == 0o600


def test_kept_puts_times_mode_and_owner_back(tree: Path) -> None:
    etc_path = tree / "etc"
    if os.geteuid() == 0:
        os.chown(etc_path, 77, 88)
    etc_path.chmod(0o2750)
    os.utime(etc_path, ns=(1_000_000_001, 2_000_000_002))
    before = etc_path.stat()
    with Root(str(tree)) as root, root.open_dir("etc") as etc:
        with rootfs.kept(etc):
            rootfs.replace_file(etc, "hostname", b"x", 0o600)
            rootfs.make_dir(etc, "made", 0o700)
            rootfs.make_dir(etc, "made", 0o755)
            os.fchmod(etc, 0o700)
        with pytest.raises(RuntimeError), rootfs.kept(etc):
            rootfs.make_dir(etc, "other", 0o755)
            raise RuntimeError
    after = etc_path.stat()
    for field in ("st_mode", "st_uid", "st_gid", "st_atime_ns", "st_mtime_ns"):
        assert getattr(after, field) == getattr(before, field), field
    assert stat.S_IMODE((etc_path / "made").stat().st_mode) & 0o777 == 0o700
