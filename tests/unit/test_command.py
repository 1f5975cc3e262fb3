"""Child processes: bounded output, deadlines, and none that outlives its use."""

from __future__ import annotations

import asyncio
import os
import sys
import time

import psutil
import pytest

from transfer import command
from transfer.errors import CommandFailed, TransferStalled

_others: set[psutil.Process] = set()


@pytest.fixture(autouse=True)
def others() -> None:
    """What other tests keep running, a zfs-fuse for instance, is no child of these."""
    _others.clear()
    _others.update(psutil.Process().children(recursive=True))


def children() -> list[psutil.Process]:
    return [child for child in psutil.Process().children(recursive=True) if child not in _others]


async def test_run_tells_how_it_ended() -> None:
    output = await command.run(
        ["sh", "-c", "cat; echo $LC_ALL; echo bad >&2; exit 3"], deadline_seconds=10, stdin=b"in\n"
    )
    assert (output.status, output.stdout, output.stderr) == (3, "in\nC\n", "bad\n")


async def test_arguments_are_not_read_by_a_shell() -> None:
    output = await command.run(["echo", "$HOME; *"], deadline_seconds=10)
    assert output.stdout == "$HOME; *\n"


@pytest.mark.parametrize("outlives", [False, True])
async def test_a_child_past_its_deadline_is_killed(outlives: bool) -> None:
    with pytest.raises(TransferStalled):
        await command.run(["sleep", "60"], deadline_seconds=0.1, outlives=outlives)
    assert children() == []


async def test_a_cancelled_run_leaves_no_child() -> None:
    task = asyncio.create_task(command.run(["sleep", "60"], deadline_seconds=60))
    while not children():
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert children() == []


async def test_too_much_output_is_an_error() -> None:
    with pytest.raises(CommandFailed):
        await command.run(["yes"], deadline_seconds=10, stdout_bytes_max=1000)
    assert children() == []


async def test_only_the_end_of_stderr_is_kept() -> None:
    output = await command.run(
        ["sh", "-c", "head -c 100000 /dev/zero >&2; echo end >&2"], deadline_seconds=10
    )
    assert len(output.stderr) == command.STDERR_BYTES_MAX
    assert output.stderr.endswith("end\n")


async def test_a_missing_program_is_told() -> None:
    for program in ("/nowhere/program", "no-such-program"):
        with pytest.raises(CommandFailed):
            await command.run([program], deadline_seconds=10)
        with pytest.raises(CommandFailed):
            await command.run([program], deadline_seconds=10, outlives=True)
        with pytest.raises(CommandFailed):
            async with command.reading([program]):
                pass


async def test_reading_gives_all_in_bounded_blocks() -> None:
    argv = ["head", "-c", "3000000", "/dev/zero"]
    sizes: list[int] = []
    async with command.reading(argv) as child:
        while block := await child.read():
            sizes.append(len(block))
        assert (await child.finish()).status == 0
    assert sum(sizes) == 3_000_000
    assert max(sizes) <= command.BLOCK_BYTES


async def test_leaving_the_block_kills_a_reader_that_waits() -> None:
    async with command.reading(["sleep", "60"]) as child:
        reading = asyncio.create_task(child.read())
        await asyncio.sleep(0)
        reading.cancel()
    assert children() == []


async def test_writing_hands_all_over() -> None:
    async with command.writing(["sh", "-c", "test $(wc -c) = 5000000"]) as child:
        for _ in range(5):
            await child.write(bytes(1_000_000))
        assert (await child.finish()).status == 0


async def test_a_child_that_reads_no_more_is_told() -> None:
    async with command.writing(["sh", "-c", "echo no >&2; exit 4"]) as child:
        with pytest.raises(ConnectionError):
            for _ in range(1000):
                await child.write(bytes(1 << 20))
        output = await child.finish()
    assert (output.status, output.stderr) == (4, "no\n")


async def test_a_killed_writer_never_sees_a_good_end(tmp_path: os.PathLike[str]) -> None:
    mark = os.path.join(tmp_path, "mark")
    async with command.writing(["sh", "-c", 'cat >/dev/null; touch "$0"', mark]) as child:
        await child.write(b"some")
    assert not os.path.exists(mark)
    assert children() == []


async def test_children_die_with_their_parent() -> None:
    code = (
        "import asyncio, os\n"
        "from transfer import command\n"
        "async def main():\n"
        "    async with command.reading(['sleep', '60']) as child:\n"
        "        print(child.pid, flush=True)\n"
        "        await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    child = psutil.Process(int(await parent.stdout.readline()))
    parent.kill()
    await parent.wait()
    deadline = time.monotonic() + 10
    while child.is_running() and child.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


def test_run_blocking() -> None:
    assert command.run_blocking(["echo", "x"], deadline_seconds=10).stdout == "x\n"
    with pytest.raises(TransferStalled):
        command.run_blocking(["sleep", "60"], deadline_seconds=0.1)
