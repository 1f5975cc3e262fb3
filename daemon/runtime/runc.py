"""The runtime `runc`: each container that has a command runs it in namespaces of its own, under a
monitor of its own (`daemon.runtime.monitor`).

What is true of a container stands in the files of `daemon.runtime.places` and in the kernel, never
in this process: it runs if its monitor lives, which holds a lock, and has written down no end.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import shutil
import signal
import struct
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from daemon import logs
from daemon.errors import JobError
from daemon.model import Container
from daemon.runtime import bundle, monitor, places, resolver
from daemon.runtime.base import Network
from daemon.runtime.none import NoRuntime
from transfer import command as commands
from transfer.errors import TransferError

GRACE_SECONDS = 10.0
"""From TERM to KILL."""
START_SECONDS = 60.0
END_SECONDS = 30.0
"""For a killed container to be gone."""
POLL_SECONDS = 0.02
KILLED = 137
ANSWER_BYTES_MAX = 4096

_FLOCK = "hhqqi4x"  # struct flock, see fcntl(2)

log = logs.get(__name__)


@dataclass(frozen=True, slots=True)
class Run:
    """A container's process: its pid, told from others of that pid by when it started."""

    pid: int
    started_ticks: int
    boot_id: str
    rootfs: str


@dataclass(frozen=True, slots=True)
class End:
    """How a container ended. `anew`: it did not: the server has been started anew since it ran,
    or it never ran under this runtime."""

    exit_code: int | None = None
    reason: str | None = None
    anew: bool = False


class Runc:
    """Runs the containers of one server."""

    def __init__(self, state_dir: str, network: Network) -> None:
        """Raises OSError where the directory cannot be made."""
        self._root = os.path.join(state_dir, "runtime")
        self._network = network
        self._plain = NoRuntime()
        os.makedirs(places.ended_folder(self._root), mode=0o700, exist_ok=True)

    async def start(self, container: Container, rootfs: str) -> None:
        """Without a command nothing is started. A container that runs on this root filesystem is
        left alone, as an earlier attempt may have started it."""
        if container.command is None:
            await self._plain.start(container, rootfs)
            return
        deadline = time.monotonic() + START_SECONDS
        while True:
            run = await self._settled(container.id)
            if run is not None and run.rootfs == rootfs:
                return
            if run is not None:
                await self.stop(container)
            failed = await self._try(container, rootfs)
            if failed is None:
                return
            if failed != monitor.BUSY or time.monotonic() > deadline:
                raise JobError("START_FAILED", failed, container=container.id)

    async def stop(self, container: Container) -> int | None:
        """TERM, where its first process heeds that, and KILL after a grace time. Raises JobError
        STOP_FAILED where even that does not end it."""
        run = await self._settled(container.id)
        if run is not None:
            await self._end(container.id, run)
        await self.reap(container.id)
        last = self._run(container.id)
        if last is not None and last.boot_id == places.boot_id() and _is(last):
            raise JobError("STOP_FAILED", "its process does not end", container=container.id)
        return self.end(container.id).exit_code

    async def remove(self, container: Container) -> None:
        """The log goes too."""
        await self.stop(container)
        await self._network.down(container.id)
        await asyncio.to_thread(self._forget, container.id)

    def alive(self, container_id: str) -> bool:
        """Whether it runs."""
        over = os.path.exists(places.ended(self._root, container_id))
        return not over and self._monitor(container_id) is not None

    def running(self) -> list[str]:
        """The containers that run here, whatever the catalogue says."""
        return [name for name in sorted(os.listdir(self._root)) if self.alive(name)]

    def ended(self) -> list[str]:
        """The containers of which it is written down how they ended, and not noted yet."""
        found = os.listdir(places.ended_folder(self._root))
        return [name for name in found if not name.endswith(".new")]

    def end(self, container_id: str) -> End:
        """How a container that does not run ended."""
        record = _read(places.ended(self._root, container_id))
        if record is not None:
            reason = record.get("reason")
            return End(int(str(record["exit_code"])), str(reason) if reason else None)
        run = self._run(container_id)
        if run is None or run.boot_id != places.boot_id():
            return End(reason="the server was started anew", anew=True)
        return End(reason="it ended, and nobody saw how")

    def noted(self, container_id: str) -> None:
        """The end is in the catalogue: the record is of no more use."""
        with suppress(FileNotFoundError):
            os.unlink(places.ended(self._root, container_id))

    def logs(self, container_id: str) -> list[str]:
        """The files of what the container has written, oldest first; they are bounded."""
        path = places.log(self._root, container_id)
        return [file for file in (f"{path}.1", path) if os.path.exists(file)]

    def exec_command(
        self, container_id: str, command: Sequence[str], *, terminal: bool
    ) -> list[str]:
        """What runs a command in a container that runs, and exits as that does."""
        root = places.runc_root(self._root, container_id)
        options = ["--tty", "--env", f"TERM={os.environ.get('TERM', 'xterm')}"] if terminal else []
        return ["runc", "--root", root, "exec", *options, container_id, *command]

    async def reap(self, container_id: str) -> None:
        """Ends what a monitor that was killed has left: nobody would keep its output, nor know how
        it ends. The lock keeps new monitors out meanwhile; nothing else of this process may open
        it, since a close gives it up. What the machine's last start has left, the next monitor of
        the container removes."""
        root, run = places.runc_root(self._root, container_id), self._run(container_id)
        of_this_boot = run is None or run.boot_id == places.boot_id()
        if not (of_this_boot and os.path.exists(os.path.join(root, container_id))):
            return
        lock = os.open(places.lock(self._root, container_id), os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            argv = ["runc", "--root", root, "delete", "--force", container_id]
            await commands.run(argv, deadline_seconds=END_SECONDS)
            record = places.ended(self._root, container_id)
            if run is not None and not os.path.exists(record):
                facts = {"exit_code": KILLED, "reason": "its monitor was killed, and so was it"}
                await asyncio.to_thread(places.write_down, record, facts)
        except BlockingIOError:
            return  # a monitor has it
        except (TransferError, OSError) as error:
            log.error("cannot reap", container_id=container_id, reason=str(error))
        finally:
            os.close(lock)

    async def _try(self, container: Container, rootfs: str) -> str | None:
        """Has a monitor start it; the reason where that fails."""
        network = await self._network.up(container)
        controllers = _controllers()
        for name in bundle.unheld(container, controllers):
            log.warning("this machine cannot hold a limit", container_id=container.id, limit=name)
        try:
            names = await asyncio.to_thread(self._write_resolver, container.id, rootfs)
            config = bundle.config(container, rootfs, network, names, controllers)
            await asyncio.to_thread(self._write_bundle, container.id, dict(config))
        except OSError as error:
            return f"what it needs cannot be written: {error}"
        argv = [sys.executable, "-m", monitor.__name__, self._root, container.id]
        try:
            said = await commands.run(
                argv,
                deadline_seconds=START_SECONDS,
                stdout_bytes_max=ANSWER_BYTES_MAX,
                outlives=True,
            )
            answer = json.loads(said.stdout)
        except (TransferError, ValueError) as error:
            return f"no answer from its monitor: {error}"
        return None if "pid" in answer else str(answer["failed"])

    def _write_resolver(self, container_id: str, rootfs: str) -> str | None:
        """The file to mount over the container's resolv.conf; None where it has its own, or the
        server has nothing to say. What is written to it in the container lasts until it ends."""
        text = resolver.of_server()
        if text is None or not resolver.leaves_it_open(rootfs):
            return None
        path = os.path.join(self._bundle(container_id), "resolv.conf")
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(path, 0o644)  # for whoever runs in the container
        return path

    def _bundle(self, container_id: str) -> str:
        folder = places.bundle(self._root, container_id)
        os.makedirs(folder, mode=0o700, exist_ok=True)
        return folder

    def _write_bundle(self, container_id: str, config: dict[str, object]) -> None:
        folder = self._bundle(container_id)
        places.write_down(os.path.join(folder, "config.json"), config)

    async def _settled(self, container_id: str) -> Run | None:
        """The process of a container that runs; of one that is just starting or ending, it is
        waited for which it will be. A monitor that cannot come to an end is killed; one that the
        kernel does not let go of raises JobError STOP_FAILED."""
        deadline = time.monotonic() + START_SECONDS
        while (pid := self._monitor(container_id)) is not None:
            run = self._run(container_id)
            if run is not None and not os.path.exists(places.ended(self._root, container_id)):
                return run
            if time.monotonic() > deadline:
                log.error("a monitor hangs", container_id=container_id, pid=pid)
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                if not await self._monitor_gone(container_id, END_SECONDS):
                    raise JobError("STOP_FAILED", "its monitor hangs", container=container_id)
            await asyncio.sleep(POLL_SECONDS)
        return None

    async def _end(self, container_id: str, run: Run) -> None:
        """Ends the process; returns when its monitor has ended, too, or is of no more use."""
        try:
            process = os.pidfd_open(run.pid)
        except ProcessLookupError:
            await self._monitor_gone(container_id, END_SECONDS)
            return
        try:
            if _is(run) and _heeds_term(run.pid):
                _send(process, signal.SIGTERM)
                await self._monitor_gone(container_id, GRACE_SECONDS)
            if _is(run):
                _send(process, signal.SIGKILL)
            await self._monitor_gone(container_id, END_SECONDS)
        finally:
            os.close(process)

    async def _monitor_gone(self, container_id: str, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while self._monitor(container_id) is not None:
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(POLL_SECONDS)
        return True

    def _monitor(self, container_id: str) -> int | None:
        """The pid of the container's monitor, if it lives."""
        try:
            with open(places.lock(self._root, container_id), "rb") as lock:
                wanted = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
                found = fcntl.fcntl(lock, fcntl.F_GETLK, wanted)
        except FileNotFoundError:
            return None
        kind, _, _, _, pid = struct.unpack(_FLOCK, found)
        return None if kind == fcntl.F_UNLCK else int(pid)

    def _run(self, container_id: str) -> Run | None:
        facts = _read(places.run(self._root, container_id))
        return None if facts is None else Run(**facts)  # type: ignore[arg-type]  # ours

    def _forget(self, container_id: str) -> None:
        shutil.rmtree(places.folder(self._root, container_id), ignore_errors=True)
        self.noted(container_id)


def _read(path: str) -> dict[str, object] | None:
    try:
        with open(path, encoding="utf-8") as file:
            return dict(json.load(file))
    except FileNotFoundError:
        return None


def _is(run: Run) -> bool:
    """Whether its pid is still its own."""
    try:
        return places.started_ticks(run.pid) == run.started_ticks
    except OSError:
        return False


def _send(process: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(process, number)


def _heeds_term(pid: int) -> bool:
    """Whether a TERM does anything to the first process of a container: the kernel drops a signal
    to one that neither catches nor blocks it (pid_namespaces(7)), so there is nothing to wait for
    then."""
    bit = 1 << (signal.SIGTERM - 1)
    try:
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
            masks = [line.split()[1] for line in file if line.startswith(("SigBlk:", "SigCgt:"))]
    except OSError:
        return False
    return any(int(mask, 16) & bit for mask in masks)


def _controllers() -> set[str]:
    """The controllers of cgroups that this machine has, in either version."""
    with suppress(FileNotFoundError), open("/sys/fs/cgroup/cgroup.controllers") as file:
        return set(file.read().split())
    with open("/proc/mounts", encoding="utf-8", errors="replace") as file:
        mounts = [line.split() for line in file]
    return {option for mount in mounts if mount[2] == "cgroup" for option in mount[3].split(",")}
