"""What `hoody` prints: sizes, times, tables, summaries, lineage."""

from __future__ import annotations

from datetime import UTC, datetime

import click
import pytest

from daemon.client import Json
from daemon.commands import output, session, waiting
from daemon.commands.containers import draw, lineage


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1536, "1.5 KiB"),
        (5 << 30, "5.0 GiB"),
        (9999 << 50, "9999.0 PiB"),
        (None, "-"),
    ],
)
def test_sizes(value: object, words: str) -> None:
    assert output.size(value) == words


@pytest.mark.parametrize(
    ("value", "words"),
    [(0.123, "0.12 s"), (12.4, "12 s"), (185, "3 m 05 s"), (7800, "2 h 10 m"), (None, "-")],
)
def test_seconds(value: object, words: str) -> None:
    assert output.seconds(value) == words


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("2026-01-15T10:30:00.000Z", "just now"),
        ("2026-01-15T10:29:30.000Z", "30 s ago"),
        ("2026-01-15T10:00:00.000Z", "30 m ago"),
        ("2026-01-14T11:30:00.000Z", "23 h ago"),
        ("2026-01-01T10:30:00.000Z", "14 d ago"),
        (None, "-"),
    ],
)
def test_ages(value: object, words: str) -> None:
    assert output.age(value, datetime(2026, 1, 15, 10, 30, tzinfo=UTC)) == words


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("2026-02-14T10:30:00.000Z", "in 30 d"),
        ("2026-01-16T10:29:59.999Z", "in 23 h"),
        ("2026-01-15T10:31:30.000Z", "in 1 m"),
        ("2026-01-15T10:30:07.500Z", "in 7 s"),
        ("2026-01-15T10:30:00.000Z", "over"),
        ("2025-01-15T10:30:00.000Z", "over"),
        (None, "-"),
    ],
)
def test_what_lies_ahead(value: object, words: str) -> None:
    assert output.ahead(value, datetime(2026, 1, 15, 10, 30, tzinfo=UTC)) == words


def test_tables_hold_what_users_wrote_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_table(["A", ">B"], [["[bold]x[/]", "1"], ["\x1b[31mred", "22"]], empty="none")
    printed = capsys.readouterr().out
    assert "[bold]x[/]" in printed
    assert "\x1b" not in printed
    assert "\N{REPLACEMENT CHARACTER}[31mred" in printed


def test_long_cells_are_whole_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_table(["ID", "NAME"], [["f" * 24, "n" * 100]], empty="none")
    assert "n" * 100 in capsys.readouterr().out


HEADERS = ["ID", "NAME", "STATE", ">SIZE"]
ROWS = [["5" * 24, "web-staging", "running", "2.0 GiB"], ["7" * 24, "db", "stopped", "1 B"]]


@pytest.mark.parametrize(
    ("width", "headers", "first"),
    [
        (80, HEADERS, ROWS[0]),
        (45, HEADERS, ["5" * 8, "web-staging", "running", "2.0 GiB"]),
        (35, ["ID", "NAME", "STATE"], ["5" * 8, "web-staging", "running"]),
        (30, ["ID", "NAME"], ["5" * 8, "web-staging"]),
        (10, ["ID", "NAME"], ["5" * 8, "web-staging"]),
    ],
)
def test_a_table_is_made_to_fit_and_no_name_is_cut(
    width: int, headers: list[str], first: list[str]
) -> None:
    fitted, rows = output.fitting(HEADERS, ROWS, width, [">SIZE", "STATE"])
    assert (fitted, rows[0]) == (headers, first)


def test_short_ids_stay_apart() -> None:
    rows = [["a" * 10 + "0" * 14, "x"], ["a" * 10 + "1" * 14, "y"], ["a" * 10 + "1" * 14, "y"]]
    _headers, fitted = output.fitting(["ID", "NAME"], rows, 20, [])
    assert [row[0] for row in fitted] == ["a" * 10 + "0", "a" * 10 + "1", "a" * 10 + "1"]


def test_a_narrow_terminal_shows_whole_cells(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    output.print_table(HEADERS, [["5" * 24, "n" * 60, "on", "1"]], empty="", spare=["STATE"])
    lines = click.unstyle(capsys.readouterr().out).splitlines()
    assert [line.split()[:2] for line in lines] == [["ID", "NAME"], ["5" * 8, "n" * 60]]


def test_a_summary_has_only_what_the_result_has() -> None:
    assert waiting.summary({"type": "stop", "result": None}) == "stop done"
    assert waiting.summary({"type": "sync", "result": {"strategy": "unchanged"}}) == (
        "sync done (unchanged)"
    )
    again = {"strategy": "unchanged", "downtime_seconds": 0.2}
    assert waiting.summary({"type": "sync", "result": again}) == (
        "sync done (source unchanged, the copy's own changes overwritten; down for 0.20 s)"
    )


def test_an_amount_grows_with_what_is_known() -> None:
    assert waiting.amount({}) == ""
    assert waiting.amount({"bytes_total": 2048, "bytes_done": 1024, "bytes_wire": 10}) == (
        "1.0 KiB of 2.0 KiB, 10 B on the wire"
    )
    known = {"bytes_total": 2048, "bytes_done": 1024, "bytes_wire": 10, "eta_seconds": 61}
    assert waiting.amount({**known, "rate_bytes_per_second": 1024}).endswith(
        "1.0 KiB/s, 1 m 01 s left"
    )


def test_a_total_that_follows_what_is_done_is_not_told() -> None:
    taking_in: dict[str, object] = {"bytes_total": 2048, "bytes_done": 2048, "bytes_wire": 0}
    assert waiting.amount(taking_in) == waiting.brief(taking_in) == "2.0 KiB"


def test_a_brief_amount_fits_beside_a_name() -> None:
    assert waiting.brief({}) == ""
    known = {"bytes_total": 2048, "bytes_done": 1024, "percent": 50.0, "eta_seconds": 61}
    assert waiting.brief(known) == "50.0 % of 2.0 KiB, 1 m 01 s left"


def test_names_and_prefixes() -> None:
    things: list[Json] = [
        {"id": "aaaaaa" + "0" * 18, "name": "web"},
        {"id": "b" * 24, "name": "aaaaaa"},
    ]
    assert session.pick(things, "web") == [things[0]]
    assert session.pick(things, "aaaaa") == []
    assert len(session.pick(things, "aaaaaa")) == 2
    assert session.pick(things, "bbbbbbbb") == [things[1]]


def test_lineage_has_every_container_once() -> None:
    found: list[dict[str, object]] = [
        {"id": "c", "source_container_id": "b"},
        {"id": "b", "source_container_id": "a"},
        {"id": "a", "source_container_id": None},
        {"id": "orphan", "source_container_id": "gone"},
    ]
    roots = lineage(found, None)
    assert [root["id"] for root in roots] == ["orphan", "a"]
    below = roots[1]["copies"]
    assert isinstance(below, list)
    assert [one["id"] for one in below] == ["b"]
    assert [one["id"] for one in below[0]["copies"]] == ["c"]
    assert [one["id"] for one in lineage(found, "c")] == ["c"]


def container(name: str, source: str | None = None, sync: str | None = None) -> Json:
    return {"id": name[0] * 24, "name": name, "status": "running", "sync_state": sync} | {
        "server_name": "eu",
        "source_container_id": source and source * 24,
    }


def drawn(found: list[Json], top: str | None = None, *, ascii_only: bool = False) -> list[str]:
    """The lines; those found are given as the API does, newest first."""
    lines = draw(lineage(found[::-1], top), ascii_only=ascii_only)
    return [str(line).replace("  eu  running", "") for line in lines]


def said(lead: str, name: str, sync: str = "") -> str:
    return f"{lead}{name}  {name[0] * 24}" + (f"  {sync}" if sync else "")


MADE = [
    container("web"),
    container("staging", "w", "behind"),
    container("1st", "9", "orphaned"),
    container("db"),
    container("alice", "s", "current"),
    container("bob", "s", "current"),
    container("2nd", "9", "orphaned"),
    container("3rd", "2", "current"),
    container("eu", "w", "current"),
]


def test_a_tree_shows_what_is_a_copy_of_what_and_orphans_below_what_they_had() -> None:
    assert drawn(MADE) == [
        said("", "web"),
        said("├── ", "staging", "behind"),
        said("│   ├── ", "alice", "current"),
        said("│   └── ", "bob", "current"),
        said("└── ", "eu", "current"),
        f"(deleted)  {'9' * 24}",
        said("├── ", "1st", "orphaned"),
        said("└── ", "2nd", "orphaned"),
        said("    └── ", "3rd", "current"),
        said("", "db"),
    ]
    assert drawn(MADE, "2" * 24, ascii_only=True) == [
        f"(deleted)  {'9' * 24}",
        said("`-- ", "2nd", "orphaned"),
        said("    `-- ", "3rd", "current"),
    ]
    assert drawn(MADE, "0" * 24) == []


def test_a_tree_may_be_deeper_than_functions_call_each_other() -> None:
    depth = 3000
    chain = [container("web")] + [
        container("copy") | {"id": str(number), "source_container_id": str(number - 1)}
        for number in range(depth)
    ]
    lines = drawn(chain)
    assert len(lines) == depth + 1
    assert lines[-1].startswith("    " * (depth - 2) + "└── copy")
