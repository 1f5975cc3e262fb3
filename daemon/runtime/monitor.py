"""The monitor: `python -m daemon.runtime.monitor ROOT CONTAINER`, a small process per container
that runs.

It has runc make and start the container, is the parent of the container's first process from then
on, keeps what that writes, and writes down how it ended. It outlives the daemon: nobody's child,
in a session of its own. To who started it it says one line, `{"pid": …}` or `{"failed": …}`.
"""

import contextlib
import ctypes
import fcntl
import io
import json
import os
import select
import signal
import subprocess
import sys

from daemon.runtime import places

LOG_BYTES_MAX = 1 << 20
"""Of one of the two files of a container's log."""
BLOCK_BYTES = 1 << 16
DRAIN_MILLISECONDS = 1000
"""For how long nothing may come from the output of a container that has ended; its own processes
are gone by then, so only somebody who was handed the pipe can keep it open."""
REASON_CHARACTERS_MAX = 500
BUSY = "another monitor has it"

_PR_SET_CHILD_SUBREAPER = 36
_REFUSED_SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)


class _Failed(Exception):
    """The container could not be started."""


class Log:
    """The newest output, in two files of a bounded size. A full disk costs output, and never
    holds the container up."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._file = self._open()

    def write(self, block: bytes) -> None:
        """Adds to it."""
        try:
            if self._file.closed:
                self._file = self._open()
            if self._file.tell() + len(block) > LOG_BYTES_MAX:
                self._file.close()
                os.replace(self._path, f"{self._path}.1")
                self._file = self._open()
            self._file.write(block)
        except OSError:
            return

    def close(self) -> None:
        """Nothing more comes."""
        self._file.close()

    def _open(self) -> io.FileIO:
        return open(self._path, "ab", buffering=0, opener=places.private)


def main(root: str, container_id: str) -> int:
    """The process's life; 0 where the container ran."""
    _leave()
    lock = os.open(places.lock(root, container_id), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        _answer({"failed": BUSY})
        return 1
    try:
        pid, output = _start(root, container_id)
    except (_Failed, OSError) as error:
        _runc(root, container_id, "delete", "--force", container_id)
        _answer({"failed": str(error)[-REASON_CHARACTERS_MAX:]})
        return 1
    process = os.pidfd_open(pid)
    _answer({"pid": pid})
    with contextlib.closing(Log(places.log(root, container_id))) as log:
        status = _attend(process, pid, output, log)
    with contextlib.suppress(OSError):  # a full disk: that it has ended is seen all the same
        places.write_down(places.ended(root, container_id), {"exit_code": _exit_code(status)})
    _runc(root, container_id, "delete", "--force", container_id)
    return 0


def _leave() -> None:
    """Becomes nobody's child, and takes nothing of the one that started it along to the container:
    its place in the queue for the cores, its mask, the signals it ignores. Signals to a terminal
    or a service are not for the monitor either; a handler, unlike SIG_IGN, is not inherited."""
    if os.fork():
        os._exit(0)
    os.setsid()
    for number in _REFUSED_SIGNALS:
        signal.signal(number, lambda *_: None)
    os.setpriority(os.PRIO_PROCESS, 0, 0)
    os.umask(0o022)
    os.chdir("/")
    # What runc leaves to itself becomes the monitor's child.
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _answer(message: dict[str, object]) -> None:
    """Tells who waits, and lets go of it; it may be gone."""
    with contextlib.suppress(OSError):
        os.write(1, json.dumps(message).encode() + b"\n")
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    os.close(nothing)


def _start(root: str, container_id: str) -> tuple[int, int]:
    """The pid of the container's first process, and where its output can be read."""
    runc_root = places.runc_root(root, container_id)
    if os.path.exists(os.path.join(runc_root, container_id)):  # left by a monitor that was killed
        _runc(root, container_id, "delete", "--force", container_id)
    for stale in (places.ended(root, container_id), places.run(root, container_id)):
        if os.path.exists(stale):
            os.unlink(stale)
    bundle = places.bundle(root, container_id)
    pid_file = os.path.join(bundle, "pid")
    output, theirs = os.pipe2(os.O_CLOEXEC)
    try:
        _must(root, container_id, theirs, "create", "--bundle", bundle, "--pid-file", pid_file)
    finally:
        os.close(theirs)
    with open(pid_file, encoding="ascii") as file:
        pid = int(file.read())
    with open(os.path.join(bundle, "config.json"), encoding="utf-8") as file:
        rootfs = json.load(file)["root"]["path"]
    facts = {"pid": pid, "started_ticks": places.started_ticks(pid), "boot_id": places.boot_id()}
    _must(root, container_id, None, "start")
    places.write_down(places.run(root, container_id), {**facts, "rootfs": rootfs})
    return pid, output


def _must(root: str, container_id: str, output: int | None, *verb: str) -> None:
    """Has runc do it. Raises _Failed with its reason."""
    log = os.path.join(places.bundle(root, container_id), "runc.log")
    if os.path.exists(log):
        os.unlink(log)
    if _runc(root, container_id, *verb, container_id, log=log, output=output) == 0:
        return
    reason = f"runc {verb[0]} failed"
    if os.path.exists(log):
        with open(log, encoding="utf-8", errors="replace") as file:
            said = [json.loads(line) for line in file if line.startswith("{")]
        errors = [str(line.get("msg")) for line in said if line.get("level") in ("error", "fatal")]
        reason = f"{reason}: {errors[-1]}" if errors else reason
    raise _Failed(reason)


def _runc(
    root: str, container_id: str, *verb: str, log: str = os.devnull, output: int | None = None
) -> int:
    """Runs runc; its exit status. With `output` that is what the container writes to."""
    own = ["--root", places.runc_root(root, container_id), "--log", log, "--log-format", "json"]
    there = subprocess.DEVNULL if output is None else output
    return subprocess.call(
        ["runc", *own, *verb],
        stdin=subprocess.DEVNULL,
        stdout=there,
        stderr=there,
    )


def _attend(process: int, pid: int, output: int, log: Log) -> int:
    """Keeps the output until the process has ended; its wait status."""
    poll = select.poll()
    poll.register(process, select.POLLIN)
    poll.register(output, select.POLLIN)
    status = None
    while status is None:
        ready = {descriptor for descriptor, _ in poll.poll()}
        if output in ready and not _keep(output, log):
            poll.unregister(output)  # it has closed its output, and runs on
        if process in ready:
            status = os.waitpid(pid, 0)[1]
    poll.unregister(process)
    while poll.poll(DRAIN_MILLISECONDS) and _keep(output, log):
        pass
    return status


def _keep(output: int, log: Log) -> bool:
    """Puts into the log what has come; whether there may be more."""
    block = os.read(output, BLOCK_BYTES)
    log.write(block)
    return bool(block)


def _exit_code(status: int) -> int:
    """As a shell has it: a signal is 128 and its number."""
    code = os.waitstatus_to_exitcode(status)
    return 128 - code if code < 0 else code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
