"""The only place that starts child processes.

Children get argv lists, `LC_ALL=C` and never a shell. What they say is bounded. A child dies with
its parent: where `setpriv` is there, the kernel kills it then (PDEATHSIG); where it is not, the
end of its stream ends it, for a child that we stream with has our pipe or socket as stdin or
stdout. `setpriv` is chosen over a `preexec_fn` because Python code between fork and exec can
deadlock in a process that has threads. A question that changes nothing and soon ends by itself
need not be tied (`outlives`): that would cost as much again as the question.

We read from pipes but write into socket pairs, because a child's death need not end the reading:
`zfs receive` of zfs-fuse hands its stdin to the daemon, which reads on when the child is killed.
A socket can be told its end (shutdown) and then be watched until nobody reads it any more.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import select
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from transfer.errors import CommandFailed, TransferStalled

BLOCK_BYTES = 1 << 20
OUTPUT_BYTES_MAX = 256 << 20
STDERR_BYTES_MAX = 8 << 10
STALL_SECONDS = 120.0
FINISH_SECONDS = 600.0
LINGER_SECONDS = 30.0  # how long a killed child's stream may go on being read
REAP_SECONDS = 0.002  # between two looks at whether a killed child is dead
# A reader waits this long for more before it hands on a block that is not full: a `zfs send`
# writes records of 312 bytes and 128 KiB, and a hop between threads for each would be slow.
GATHER_MILLISECONDS = 10

_T = TypeVar("_T")
_SO_SNDBUFFORCE = 32  # Linux; not in the module `socket`
_SETPRIV = shutil.which("setpriv")


@dataclass(frozen=True, slots=True)
class Output:
    """How a child ended: its exit status (negative: the signal) and what it said."""

    argv: tuple[str, ...]
    status: int
    stdout: str
    stderr: str


async def run(
    argv: Sequence[str],
    *,
    deadline_seconds: float,
    stdin: bytes = b"",
    stdout_bytes_max: int = OUTPUT_BYTES_MAX,
    outlives: bool = False,
) -> Output:
    """Runs a short child to its end; any exit status is an answer, not an error.

    Raises TransferStalled past the deadline, CommandFailed where the program cannot be started or
    says more than `stdout_bytes_max`. The child is dead when this returns or raises; one that
    `outlives` this process goes on where that is killed.
    """
    source = asyncio.subprocess.PIPE if stdin else asyncio.subprocess.DEVNULL
    process = await _start(argv, stdin=source, outlives=outlives)
    try:
        async with asyncio.timeout(deadline_seconds):
            stdout, stderr, _ = await asyncio.gather(
                _read_all(process, argv, stdout_bytes_max),
                _read_tail(process),
                _feed(process, stdin),
            )
            status = await process.wait()
    except TimeoutError as error:
        raise TransferStalled(
            f"{argv[0]} did not end within {deadline_seconds:g} s", argv=list(argv)
        ) from error
    finally:
        await _reap(process)
    return Output(tuple(argv), status, stdout.decode(errors="replace"), stderr)


def run_blocking(argv: Sequence[str], *, deadline_seconds: float) -> Output:
    """`run` for set-up code that has no event loop yet."""
    try:
        done = subprocess.run(
            _bound_to_parent(argv),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=_environment(),
            timeout=deadline_seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise TransferStalled(f"{argv[0]} did not end in time", argv=list(argv)) from error
    except OSError as error:
        raise _cannot_start(argv, error) from error
    return Output(
        tuple(argv),
        done.returncode,
        done.stdout.decode(errors="replace"),
        done.stderr.decode(errors="replace"),
    )


def start_server(argv: Sequence[str], *, outlives: bool = False) -> subprocess.Popen[bytes]:
    """Starts a long-lived child that says nothing; the caller terminates it and waits for it.
    One that `outlives` this process is not bound to it."""
    try:
        return subprocess.Popen(
            argv if outlives else _bound_to_parent(argv),
            start_new_session=outlives,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=_environment(),
        )
    except OSError as error:
        raise _cannot_start(argv, error) from error


def tied(argv: Sequence[str]) -> list[str]:
    """The command that starts this one so that the kernel kills it when the thread that started
    it ends; the command itself where there is no `setpriv`."""
    return [_SETPRIV, "--pdeathsig", "KILL", "--", *argv] if _SETPRIV else list(argv)


class Child:
    """A running child with one raw stream, made by `reading` or `writing`."""

    def __init__(
        self, argv: Sequence[str], process: asyncio.subprocess.Process, stream: int, writes: bool
    ) -> None:
        self._argv = tuple(argv)
        self._process = process
        self._stream = stream
        self._writes = writes
        self._stderr = asyncio.create_task(_read_tail(process))
        self._pending: asyncio.Future[Any] | None = None
        self._room = memoryview(b"")  # what is read goes there first, block after block

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._process.pid

    async def read(self) -> bytes:
        """What the child wrote, at most 1 MiB; b"" at its end. Raises TransferStalled."""
        if not self._room:
            self._room = memoryview(bytearray(BLOCK_BYTES))
        return await self._in_thread(lambda: _read_block(self._stream, self._room))

    async def write(self, block: bytes) -> None:
        """Hands the whole block over. Raises ConnectionError where nobody reads it any more,
        and TransferStalled."""
        await self._in_thread(lambda: _write_block(self._stream, block))

    async def finish(self, deadline_seconds: float = FINISH_SECONDS) -> Output:
        """Ends the stream, which a child that reads takes for a good end, and waits until the
        child is gone and nobody reads. Raises TransferStalled past the deadline."""
        self._end_stream()
        try:
            async with asyncio.timeout(deadline_seconds):
                status = await self._process.wait()
                stderr = await self._stderr
                await self._reader_gone()
        except TimeoutError as error:
            raise self._stalled(deadline_seconds) from error
        return Output(self._argv, status, "", stderr)

    async def kill(self) -> None:
        """Ends the child at once and reaps it; nothing where it has ended.

        Its input ends only after it is dead, so that it never sees a good end. Its output is closed
        before: a `zfs send` of OpenZFS 2.1 that waits for room in its pipe heeds no signal.
        """
        if self._writes:
            await _reap(self._process)
            self._end_stream()
            await self._let_go()
            await self._reader_gone()
            self._close()
        else:
            _signal(self._process)
            await self._let_go()
            self._close()
            await _reap(self._process)
        await asyncio.wait({self._stderr})

    async def _let_go(self) -> None:
        """Waits for the thread that uses the killed child's stream; it ends with the child."""
        if self._pending is not None:
            await asyncio.wait({self._pending})
            self._pending.exception()
            self._pending = None

    def _close(self) -> None:
        if self._stream >= 0:
            os.close(self._stream)
            self._stream = -1

    def _end_stream(self) -> None:
        if self._writes and self._stream >= 0:
            with _borrowed(self._stream) as connection, contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_WR)  # fails only where the reader is gone

    async def _reader_gone(self) -> None:
        if self._writes and self._stream >= 0:
            milliseconds = int(LINGER_SECONDS * 1000)
            await self._in_thread(lambda: _hung_up(self._stream, milliseconds))

    async def _in_thread(self, call: Callable[[], _T]) -> _T:
        # A cancelled caller must not take the descriptor from under a thread that still uses it,
        # so only the wait is cancelled, not the call, and `kill` waits for the call.
        running = asyncio.get_running_loop().run_in_executor(None, call)
        self._pending = running
        done, _ = await asyncio.wait({running}, timeout=STALL_SECONDS)
        if not done:
            raise self._stalled(STALL_SECONDS)
        self._pending = None
        return running.result()

    def _stalled(self, seconds: float) -> TransferStalled:
        return TransferStalled(
            f"{self._argv[0]} made no progress for {seconds:g} s", argv=list(self._argv)
        )


@contextlib.asynccontextmanager
async def reading(argv: Sequence[str]) -> AsyncIterator[Child]:
    """A child whose stdout we read; it is dead when the block is left."""
    ours, theirs = _pipe()
    async with _streaming(argv, ours, theirs, writes=False) as child:
        yield child


@contextlib.asynccontextmanager
async def writing(argv: Sequence[str]) -> AsyncIterator[Child]:
    """A child whose stdin we write; it is dead when the block is left, and killed before its
    stdin ends unless `finish` was called."""
    ours, theirs = _socket_pair()
    async with _streaming(argv, ours, theirs, writes=True) as child:
        yield child


@contextlib.asynccontextmanager
async def _streaming(
    argv: Sequence[str], ours: int, theirs: int, *, writes: bool
) -> AsyncIterator[Child]:
    nothing = asyncio.subprocess.DEVNULL
    stdin, stdout = (theirs, nothing) if writes else (nothing, theirs)
    try:
        process = await _start(argv, stdin=stdin, stdout=stdout)
    except BaseException:
        os.close(ours)
        raise
    finally:
        os.close(theirs)
    child = Child(argv, process, ours, writes)
    try:
        yield child
    finally:
        await child.kill()


async def _start(
    argv: Sequence[str],
    *,
    stdin: int,
    stdout: int = asyncio.subprocess.PIPE,
    outlives: bool = False,
) -> asyncio.subprocess.Process:
    try:
        return await asyncio.create_subprocess_exec(
            *(argv if outlives else _bound_to_parent(argv)),
            stdin=stdin,
            stdout=stdout,
            stderr=asyncio.subprocess.PIPE,
            env=_environment(),
        )
    except OSError as error:
        raise _cannot_start(argv, error) from error


def _bound_to_parent(argv: Sequence[str]) -> list[str]:
    if shutil.which(argv[0]) is None:
        # Asked here because with setpriv in front a missing program would look like a failed one.
        raise CommandFailed(f"no program {argv[0]}", argv=list(argv))
    return tied(argv)


def _environment() -> dict[str, str]:
    return {**os.environ, "LC_ALL": "C"}


def _cannot_start(argv: Sequence[str], error: OSError) -> CommandFailed:
    return CommandFailed(f"cannot start {argv[0]}: {error.strerror}", argv=list(argv))


def _signal(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()


async def _reap(process: asyncio.subprocess.Process) -> None:
    _signal(process)
    # Not `process.wait()`: on Python 3.11 that waits for the end of the pipes too, which a child of
    # the child may hold open, and which never comes where asyncio has stopped reading.
    while process.returncode is None:  # noqa: ASYNC110 - asyncio has no event for that alone
        await asyncio.sleep(REAP_SECONDS)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LINGER_SECONDS):
            while process.stdout is not None and await process.stdout.read(1 << 16):
                pass


async def _read_all(
    process: asyncio.subprocess.Process, argv: Sequence[str], bytes_max: int
) -> bytes:
    if process.stdout is None:
        return b""
    said = bytearray()
    while block := await process.stdout.read(1 << 16):
        said += block
        if len(said) > bytes_max:
            raise CommandFailed(f"{argv[0]} said more than {bytes_max} bytes", argv=list(argv))
    return bytes(said)


async def _read_tail(process: asyncio.subprocess.Process) -> str:
    tail = b""
    while process.stderr is not None and (block := await process.stderr.read(STDERR_BYTES_MAX)):
        tail = (tail + block)[-STDERR_BYTES_MAX:]
    return tail.decode(errors="replace")


async def _feed(process: asyncio.subprocess.Process, data: bytes) -> None:
    if process.stdin is None:
        return
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        process.stdin.write(data)
        await process.stdin.drain()
    process.stdin.close()


def _pipe() -> tuple[int, int]:
    read_end, write_end = os.pipe()
    with contextlib.suppress(PermissionError):  # past /proc/sys/fs/pipe-user-pages-soft
        fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, BLOCK_BYTES)
    return read_end, write_end


def _socket_pair() -> tuple[int, int]:
    ours, theirs = socket.socketpair()
    for option in (socket.SO_SNDBUF, _SO_SNDBUFFORCE):  # the latter, past the limit, as root
        with contextlib.suppress(PermissionError):
            ours.setsockopt(socket.SOL_SOCKET, option, BLOCK_BYTES)
    return ours.detach(), theirs.detach()


@contextlib.contextmanager
def _borrowed(descriptor: int) -> Iterator[socket.socket]:
    connection = socket.socket(fileno=descriptor)
    try:
        yield connection
    finally:
        connection.detach()


def _hung_up(connection: int, milliseconds: int) -> bool:
    poll = select.poll()
    poll.register(connection, 0)  # a hang-up is always reported
    return bool(poll.poll(milliseconds))


def _read_block(pipe: int, room: memoryview) -> bytes:
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    filled = 0
    while filled < len(room):
        more = os.readv(pipe, [room[filled:]])
        filled += more
        if not more or not poll.poll(GATHER_MILLISECONDS):
            break
    return bytes(room[:filled])


def _write_block(pipe: int, block: bytes) -> None:
    view = memoryview(block)
    while view:
        view = view[os.write(pipe, view) :]
