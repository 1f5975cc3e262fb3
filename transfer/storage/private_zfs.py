"""A private zfs-fuse for tests and the demo: its own daemon in a mount namespace of this process.

zfs-fuse keeps its socket, its pool cache and its locks at fixed places; a namespace with an empty
tmpfs on each keeps it apart from a zfs-fuse that this machine may have, and makes every mount
vanish with the last process in it. What this process starts from then on sees the same.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import time

from transfer import command
from transfer.errors import CommandFailed, StorageError

_CLONE_NEWNS = 0x00020000
_FIXED_PLACES = ("/run/zfs", "/etc/zfs", "/var/lib/zfs", "/var/lock")
_PROGRAMS = ("zfs-fuse", "zfs", "zpool", "mount")
START_SECONDS = 15.0
BUSY_SECONDS = 10.0
POLL_SECONDS = 0.05
COMMAND_SECONDS = 60.0


def available() -> str | None:
    """None where a private zfs-fuse can be had, else the reason why not."""
    if os.geteuid() != 0:
        return "not root"
    missing = [program for program in _PROGRAMS if shutil.which(program) is None]
    if missing:
        return f"not installed: {', '.join(missing)}"
    if not os.path.exists("/dev/fuse"):
        return "no /dev/fuse"
    return None


def enter_namespace() -> None:
    """Moves this process into a mount namespace of its own; before it has threads, for only the
    calling thread moves. Raises StorageError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNS) != 0:
        raise StorageError(f"cannot unshare mounts: {os.strerror(ctypes.get_errno())}")
    _do("mount", "--make-rprivate", "/")
    for place in _FIXED_PLACES:
        os.makedirs(place, exist_ok=True)
        _do("mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", place)
    # zfs-fuse's commands drop the caches of the whole machine, after many a change; and a daemon
    # of another namespace then has to answer for its mounts while it may be waiting itself.
    _do("mount", "--bind", os.devnull, "/proc/sys/vm/drop_caches")


class PrivateZfs:
    """The daemon and its file-backed pools; needs `enter_namespace` first. Use `with`, or
    `start` and `stop`; one that `outlives` this process goes on when neither is reached.
    `cache_mib` is how much it may remember of its pools, in MiB, where its own limit will not do.
    """

    def __init__(self, *, outlives: bool = False, cache_mib: int | None = None) -> None:
        self._outlives = outlives
        self._cache_mib = cache_mib
        self._pools: list[tuple[str, str]] = []
        self._daemon: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> PrivateZfs:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int | None:
        """The daemon's process id, while it runs."""
        return self._daemon.pid if self._daemon else None

    def start(self) -> None:
        """Starts the daemon and waits until it answers. Raises CommandFailed."""
        argv = ["zfs-fuse", "--no-daemon", "--no-kstat-mount", "--pidfile", "/run/zfs/daemon.pid"]
        if self._cache_mib is not None:
            argv += ["--max-arc-size", str(self._cache_mib)]
        self._daemon = command.start_server(argv, outlives=self._outlives)
        deadline = time.monotonic() + START_SECONDS
        while command.run_blocking(["zpool", "list"], deadline_seconds=START_SECONDS).status != 0:
            if self._daemon.poll() is not None or time.monotonic() > deadline:
                self._stop()
                raise CommandFailed("zfs-fuse does not start")
            time.sleep(POLL_SECONDS)

    def stop(self) -> None:
        """Destroys the pools and ends the daemon."""
        try:
            for pool, _file in list(self._pools):
                self.destroy_pool(pool)
        finally:
            self._stop()

    def create_pool(self, pool: str, file: str, size_bytes: int, *options: str) -> None:
        """Makes a pool of a sparse file, which is removed with it; `options` are of `zpool`."""
        with open(file, "xb") as sparse:
            sparse.truncate(size_bytes)
        self._pools.append((pool, file))
        _do("zpool", "create", "-m", "none", "-O", "atime=off", *options, pool, file)

    def destroy_pool(self, pool: str) -> None:
        """Unmounts and destroys a pool, and removes its file."""
        file = dict(self._pools)[pool]
        self._pools.remove((pool, file))
        try:
            _unmount_all(pool)
            _destroy(pool)
        finally:
            os.unlink(file)

    def _stop(self) -> None:
        if self._daemon is not None:
            self._daemon.kill()
            self._daemon.wait()
            self._daemon = None


def _unmount_all(pool: str) -> None:
    with open("/proc/self/mountinfo", encoding="utf-8") as lines:
        mounts = [line.split(" ")[4] for line in lines if f"zfs {pool}/" in line]
    for directory in reversed(mounts):  # one by one: the daemon goes on with each for a while
        _do("umount", "--lazy", directory)


def _destroy(pool: str) -> None:
    # For some 50 ms after an unmount or a killed receive the pool is busy.
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            return _do("zpool", "destroy", pool)
        except CommandFailed as error:
            if "busy" not in error.message or time.monotonic() > deadline:
                raise
        time.sleep(POLL_SECONDS)


def _do(*argv: str) -> None:
    output = command.run_blocking(argv, deadline_seconds=COMMAND_SECONDS)
    if output.status != 0:
        said = output.stderr.strip()
        raise CommandFailed(f"{' '.join(argv)}: {said}", argv=list(argv), status=output.status)
