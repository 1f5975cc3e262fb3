"""Where a container's run keeps its files, below `<state_dir>/runtime`. Imports next to nothing,
for each container that runs has a monitor that imports this.

    ended/<container_id>   how it ended, as JSON; there until somebody has noted it
    <container_id>/
        bundle/config.json what runc is told
        bundle/resolv.conf whom it asks for names, where its own tree does not say
        runc/              runc's own state
        monitor.lock       locked by the monitor for as long as it lives
        run.json           the process: pid, its start, the boot, the root filesystem
        log, log.1         what it wrote: the newest, and what was before that
"""

import errno
import json
import os


def folder(root: str, container_id: str) -> str:
    """A container's own directory."""
    return os.path.join(root, container_id)


def ended_folder(root: str) -> str:
    """The records of containers that have ended."""
    return os.path.join(root, "ended")


def ended(root: str, container_id: str) -> str:
    """A container's record."""
    return os.path.join(root, "ended", container_id)


def bundle(root: str, container_id: str) -> str:
    """The directory that runc calls a bundle."""
    return os.path.join(root, container_id, "bundle")


def runc_root(root: str, container_id: str) -> str:
    """The directory of runc's state."""
    return os.path.join(root, container_id, "runc")


def lock(root: str, container_id: str) -> str:
    """The monitor's lock."""
    return os.path.join(root, container_id, "monitor.lock")


def run(root: str, container_id: str) -> str:
    """What is known of the process of the container's last run."""
    return os.path.join(root, container_id, "run.json")


def log(root: str, container_id: str) -> str:
    """What the container's processes have written; `.1` is what was before that."""
    return os.path.join(root, container_id, "log")


def boot_id() -> str:
    """Which start of the machine this is."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def started_ticks(pid: int) -> int:
    """When a process started, in ticks since the boot: with its pid it is like no other. Raises
    OSError where there is none, or only what is left of one until its parent asks."""
    with open(f"/proc/{pid}/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    if fields[0] in (b"Z", b"X"):
        raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))
    return int(fields[19])


def private(path: str, flags: int) -> int:
    """Opens a file, for `open`: a new one is its owner's alone."""
    return os.open(path, flags, 0o600)


def write_down(path: str, facts: dict[str, object]) -> None:
    """Makes the file be there whole and for good, or not at all."""
    fresh = f"{path}.new"
    with open(fresh, "w", encoding="utf-8", opener=private) as file:
        json.dump(facts, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(fresh, path)
    folder = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
