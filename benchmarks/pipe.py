"""The pipe alone: from memory to memory through frames, zstd and asyncssh, beside OpenSSH, and
where the time goes."""

from __future__ import annotations

import asyncio
import io
import json
import os
import shlex
import statistics
import sys
import tarfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import asyncssh

from benchmarks import ceilings, data, sshd
from benchmarks.ends import Pulled
from benchmarks.numbers import MIB
from benchmarks.options import Options
from benchmarks.results import Cell, Part, Plot, Series, Table
from benchmarks.sshd import Sshd
from benchmarks.tools import HOST, PIPE_CIPHER
from benchmarks.world import scratch
from daemon.demo.servers import DemoFailed
from transfer.codec import BLOCK_BYTES, Decoder, Encoder
from transfer.frames import FrameReader, FrameWriter

GIB = 1 << 30
SLOW_WIRE_BYTES_PER_SECOND = 2 << 20
SLOW_BYTES_MAX = 64 << 20
ALONE, PLAIN, AUTO = "asyncssh alone", "hoody, no compression", "hoody, auto"
OPENSSH, OPENSSH_ZSTD = "OpenSSH, AES-GCM", "OpenSSH, AES-GCM, zstd -1 -T0"


@dataclass
class Ways:
    """How often each was taken; MiB/s by way and kind; by kind what auto pulled, by kind and end
    its stages; by kind the part of the blocks that zstd is tried on, and the speed of the codec."""

    takes: int
    rates: dict[str, dict[str, float]] = field(default_factory=dict)
    auto: dict[str, Pulled] = field(default_factory=dict)
    stages: dict[tuple[str, str], dict[str, float]] = field(default_factory=dict)
    tried: dict[str, float] = field(default_factory=dict)
    codec: dict[str, tuple[float, float]] = field(default_factory=dict)
    slow: Pulled | None = None
    fast: Pulled | None = None


async def measure(options: Options) -> Part:
    """The whole part."""
    ways = Ways(options.takes)
    with scratch() as directory, sshd.running(os.path.join(directory, "sshd")) as door:
        key_path = _client_key(directory)
        memory = directory if options.quick else _in_memory(directory)
        for kind in data.KINDS:
            print(f"pipe: {kind}", flush=True)
            path = os.path.join(memory, kind)
            content = await asyncio.to_thread(_content, directory, kind, options.pipe_bytes)
            Path(path).write_bytes(content)
            _codec(ways, kind, content)
            await _product(ways, kind, path, key_path)
            await _openssh(ways, kind, path, door)
            if kind == data.SYSTEM:
                rows = _ceilings(content)
                Path(path).write_bytes(content[:SLOW_BYTES_MAX])
                await _slow(ways, path, key_path)
            os.unlink(path)
        await _alone(ways, options.pipe_bytes)
        if memory != directory:
            os.rmdir(memory)
    return _part(rows, ways)


def _in_memory(directory: str) -> str:
    memory = os.path.join("/dev/shm", os.path.basename(directory))
    os.mkdir(memory)
    return memory


def _client_key(directory: str) -> str:
    path = os.path.join(directory, "client")
    asyncssh.generate_private_key("ssh-ed25519").write_private_key(path)
    asyncssh.read_private_key(path).write_public_key(f"{path}.pub")
    return path


def _content(directory: str, kind: str, size_bytes: int) -> bytes:
    """The bytes of a tree as one stream, cut to whole blocks."""
    if kind != data.SYSTEM:
        return b"".join(data.stream(kind, size_bytes, 1))
    tree = os.path.join(directory, "tree")
    data.make_tree(tree, kind, size_bytes)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        tar.add(tree, "tree")
    return packed.getvalue()[: size_bytes // BLOCK_BYTES * BLOCK_BYTES]


def _ceilings(system: bytes) -> list[ceilings.Ceiling]:
    block = system[len(system) // 2 :][:BLOCK_BYTES]
    return [
        ("memcpy, MiB/s", ceilings.memcpy(), "64 MiB, one core"),
        ("AES-128-GCM, MiB/s", ceilings.aes(), "openssl speed, 128 KiB, one core"),
        ("xxh3-128, MiB/s", ceilings.xxh3(block), "1 MiB, one core"),
        ("zstd -1, system tree, MiB/s", ceilings.zstd(block), "1 MiB, one core"),
        ("zstd -3, system tree, MiB/s", ceilings.zstd(block, 3), "1 MiB, one core"),
    ]


def _codec(ways: Ways, kind: str, content: bytes) -> None:
    """Frames and codec alone, in one thread: MiB/s to frames and back, and how many blocks zstd is
    tried on."""
    encoder, blocks, tried = Encoder(FrameWriter()), len(content) // BLOCK_BYTES, 0
    began = time.perf_counter()
    framed = []
    for at in range(0, len(content), BLOCK_BYTES):
        tried += encoder.will_compress
        framed.append(encoder.feed(content[at : at + BLOCK_BYTES]))
    framed.append(encoder.finish())
    between = time.perf_counter()
    reader, decoder = FrameReader(), Decoder()
    for piece in framed:
        for frame in reader.feed(piece):
            decoder.feed(frame)
    decoder.finish()
    ended = time.perf_counter()
    size_mib = len(content) / MIB
    ways.codec[kind] = (size_mib / (between - began), size_mib / (ended - between))
    ways.tried[kind] = tried / blocks


async def _product(ways: Ways, kind: str, path: str, key_path: str) -> None:
    for way, compression in ((PLAIN, "none"), (AUTO, "auto")):
        rates = []
        for _ in range(ways.takes):
            async with _pouring("pour", path, key_path) as pour:
                pulled = await _pull(pour, key_path, compression)
            rates.append(pulled.logical_bytes / MIB / pulled.seconds)
        ways.rates.setdefault(way, {})[kind] = statistics.median(rates)
        if way == AUTO:
            ways.auto[kind] = pulled
            ways.stages[kind, "sends"] = pour.stages
            ways.stages[kind, "receives"] = pulled.stages


async def _slow(ways: Ways, path: str, key_path: str) -> None:
    """The same bytes on a wire without and with a limit."""
    async with _pouring("pour", path, key_path) as pour:
        ways.fast = await _pull(pour, key_path, "auto")
        ways.slow = await _pull(pour, key_path, "auto", SLOW_WIRE_BYTES_PER_SECOND)


async def _alone(ways: Ways, size_bytes: int) -> None:
    rates = []
    for _ in range(ways.takes):
        async with _pouring("pour-bare", str(size_bytes)) as pour:
            pulled = Pulled(**await _end("pull-bare", str(pour.port)))
        rates.append(pulled.logical_bytes / MIB / pulled.seconds)
    # It does not look at the bytes: one figure for all kinds.
    ways.rates[ALONE] = dict.fromkeys(data.KINDS, statistics.median(rates))


async def _openssh(ways: Ways, kind: str, path: str, door: Sshd) -> None:
    """From a file in memory to nowhere; the login is measured apart, and not counted."""
    ssh = shlex.join(["ssh", *door.options(), "-c", PIPE_CIPHER, HOST])
    size_mib = os.path.getsize(path) / MIB
    login = await _seconds(f"{ssh} true", ways.takes)
    plain = await _seconds(f"{ssh} cat {path} > /dev/null", ways.takes)
    packed = await _seconds(f"{ssh} zstd -q -1 -T0 -c {path} | zstd -qdc > /dev/null", ways.takes)
    for way, seconds in ((OPENSSH, plain), (OPENSSH_ZSTD, packed)):
        ways.rates.setdefault(way, {})[kind] = size_mib / max(seconds - login, 0.001)


async def _seconds(line: str, takes: int) -> float:
    found = []
    for _ in range(takes):
        began = time.perf_counter()
        await ceilings.run("/bin/sh", "-c", line)
        found.append(time.perf_counter() - began)
    return statistics.median(found)


@dataclass
class _Pour:
    port: int
    host_key: str
    stages: dict[str, float] = field(default_factory=dict)


@asynccontextmanager
async def _pouring(*argv: str) -> AsyncIterator[_Pour]:
    """The end that pours; its stages are there after the block."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.ends", *argv),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        pour = _Pour(**json.loads(await process.stdout.readline()))
        yield pour
    finally:
        said, _ = await process.communicate(b"")  # closes its input
    pour.stages = json.loads(said).get("stages", {})


async def _pull(pour: _Pour, key_path: str, compression: str, limit: int = 0) -> Pulled:
    argv = [str(pour.port), pour.host_key, key_path, compression, str(limit)]
    return Pulled(**await _end("pull", *argv))


async def _end(*argv: str) -> dict[str, float]:
    said = await ceilings.run(sys.executable, "-m", "benchmarks.ends", *argv)
    found: dict[str, float] = json.loads(said)
    if not found["logical_bytes"]:
        raise DemoFailed("nothing came through the pipe")
    return found


def _part(rows: list[ceilings.Ceiling], ways: Ways) -> Part:
    aes = next(value for name, value, _ in rows if name.startswith("AES"))
    memory = next(value for name, value, _ in rows if name.startswith("memcpy"))
    part = Part("pipe", "The pipe alone", ceilings.table(rows))
    part.tables = [_rates(ways, aes, memory), _codec_table(ways), *_stage_tables(ways)]
    part.plots = [
        Plot(
            "rates",
            "From memory to memory",
            "",
            "MiB/s",
            [Series(way, list(found), list(found.values())) for way, found in ways.rates.items()],
        )
    ]
    tried = ways.tried[data.INCOMPRESSIBLE]
    blocks = ways.auto[data.INCOMPRESSIBLE].logical_bytes // BLOCK_BYTES
    part.facts["incompressible_tried_share"] = tried
    part.profiles["incompressible_tried_share"] = f"{tried * blocks:.0f} of {blocks} blocks."
    if ways.slow and ways.fast:
        part.facts["slow_wire_share"] = ways.slow.wire_bytes / ways.fast.wire_bytes
        part.profiles["slow_wire_share"] = (
            f"{ways.fast.logical_bytes / MIB:.0f} MiB of the system tree took"
            f" {ways.fast.wire_bytes / MIB:.1f} MiB on a wire without a limit, and"
            f" {ways.slow.wire_bytes / MIB:.1f} MiB in {ways.slow.seconds:.1f} s on one of"
            f" {SLOW_WIRE_BYTES_PER_SECOND / MIB:.0f} MiB/s."
        )
        part.notes.append(part.profiles["slow_wire_share"])
    return part


def _rates(ways: Ways, aes: float, memory: float) -> Table:
    rows: list[list[Cell]] = []
    for way, found in ways.rates.items():
        middle = found[data.INCOMPRESSIBLE]
        rows.append([way, *(found[kind] for kind in data.KINDS), middle / aes, middle / memory])
    columns = ["MiB/s", *data.KINDS, "incompressible: of AES", "of memcpy"]
    note = f"Medians of {ways.takes}, two processes, one connection; logins are not counted."
    return Table("From memory to memory", columns, rows, note)


def _codec_table(ways: Ways) -> Table:
    rows: list[list[Cell]] = []
    for kind, (there, back) in ways.codec.items():
        pulled = ways.auto[kind]
        rows.append([kind, there, back, ways.tried[kind], pulled.logical_bytes / pulled.wire_bytes])
    columns = ["", "to frames, MiB/s", "and back, MiB/s", "blocks that zstd is tried on", "ratio"]
    return Table("Frames, digests and zstd alone, one thread", columns, rows)


def _stage_tables(ways: Ways) -> list[Table]:
    tables = []
    for end in ("sends", "receives"):
        total: dict[str, float] = defaultdict(float)
        for kind in data.KINDS:
            for stage, seconds in ways.stages[kind, end].items():
                total[stage] += seconds
        rows: list[list[Cell]] = []
        for stage in sorted(total, key=total.__getitem__, reverse=True):
            cells = [
                ways.stages[kind, end].get(stage, 0.0) * GIB / ways.auto[kind].logical_bytes
                for kind in data.KINDS
            ]
            rows.append([stage, *cells])
        wall = [
            ways.auto[kind].seconds * GIB / ways.auto[kind].logical_bytes for kind in data.KINDS
        ]
        rows.append(["*the clock, meanwhile*", *wall])
        title = f"Where the time goes: the end that {end}, CPU seconds per GiB"
        tables.append(Table(title, ["stage", *data.KINDS], rows))
    return tables
