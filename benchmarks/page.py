"""The page: README.md and its pictures, made of the parts' files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from benchmarks import plots, targets
from benchmarks.numbers import shown
from benchmarks.results import Kept, Table, read

PARTS = ("copy", "peers", "pipe", "scale")


def write(directory: Path) -> Path:
    """Writes the page and the pictures of the parts that are there; returns the page's path."""
    parts = {name: kept for name in PARTS if (kept := read(directory, name)) is not None}
    for kept in parts.values():
        for plot in kept.part.plots:
            plots.draw(plot, directory / f"{kept.part.name}-{plot.name}.png")
    path = directory / "README.md"
    path.write_text("\n".join(_lines(parts)) + "\n", encoding="utf-8")
    return path


def _lines(parts: Mapping[str, Kept]) -> Iterator[str]:
    yield "# Benchmarks"
    yield ""
    yield "Made by `make bench`, every figure measured. Two servers on one machine, zfs-fuse for"
    yield "ZFS, loopback for the network. GB are 10^9 bytes, MiB 2^20. Each part states first what"
    yield "the machine would allow."
    yield ""
    yield from _how(parts)
    yield from _table(targets.judge(parts))
    for target, profile in targets.missed(parts):
        yield f"- **Missed:** {target.text}. {profile} {target.tried}".rstrip()
    for kept in parts.values():
        yield from _part(kept)


def _how(parts: Mapping[str, Kept]) -> Iterator[str]:
    if any(kept.quick for kept in parts.values()):
        yield "**From a run with `--quick`: tiny sizes, so the figures mean nothing.**"
        yield ""
    rows = [
        [name, kept.at, kept.seconds, kept.processor, kept.cores, kept.kernel, kept.python]
        for name, kept in parts.items()
    ]
    columns = ["part", "at", "took, s", "processor", "cores", "kernel", "Python"]
    yield from _table(Table("How", columns, rows))


def _part(kept: Kept) -> Iterator[str]:
    part = kept.part
    yield ""
    yield f"## {part.title}"
    yield ""
    yield from _table(part.ceilings)
    for table in part.tables:
        yield from _table(table)
    for plot in part.plots:
        yield f"![{plot.title}]({part.name}-{plot.name}.png)"
        yield ""
    for note in part.notes:
        yield f"- {note}"


def _table(table: Table) -> Iterator[str]:
    yield f"**{table.title}**"
    yield ""
    yield _row(table.columns)
    yield _row(["---", *("---:" for _ in table.columns[1:])])
    for row in table.rows:
        yield _row([shown(cell) for cell in row])
    yield ""
    if table.note:
        yield table.note
        yield ""


def _row(cells: object) -> str:
    texts = [str(cell).replace("|", "\\|") for cell in cells]  # type: ignore[attr-defined] - a list
    return f"| {' | '.join(texts)} |"
