"""The benchmarks' arithmetic, targets and sizes: what makes a figure of what was measured."""

from __future__ import annotations

import pytest

from benchmarks import copying, counting
from benchmarks.copying import Times
from benchmarks.numbers import GB, Line, fit, percentile, shown, spread
from benchmarks.options import Options
from benchmarks.results import Kept, Part, Table
from benchmarks.targets import TARGETS, Target, is_met, judge, missed

AT_LEAST = Target("as fast", "peers", "fact", 1.5, at_least=True)
AT_MOST = Target("short", "copy", "fact", 0.5, at_least=False, unit="s")


def test_a_line_goes_through_its_points() -> None:
    line = fit([1, 2, 4, 8], [3, 5, 9, 17])
    assert (line.base, line.slope) == pytest.approx((1, 2))
    assert line.at(100) == pytest.approx(201)


def test_a_line_is_that_of_least_squares() -> None:
    assert fit([0, 1, 2], [0, 3, 0]) == Line(pytest.approx(1), pytest.approx(0))


def test_no_time_is_below_zero() -> None:
    assert Line(1, -1).at(10) == 0


def test_a_spread_is_a_median_and_its_quartiles() -> None:
    found = spread([5, 1, 4, 2, 3])
    assert (found.median, found.low, found.high) == (3, 2, 4)
    one = spread([7.5])
    assert (one.median, one.low, one.high) == (7.5, 7.5, 7.5)


def test_percentiles_lie_between_the_values() -> None:
    values = list(range(101))
    assert percentile(values, 50) == 50
    assert percentile(values, 99) == 99


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("words", "words"),
        (17, "17"),
        (1234567, "1,234,567"),
        (1234.5678, "1,235"),
        (123.456, "123"),
        (12.345, "12.3"),
        (1.2345, "1.23"),
        (0.0, "0"),
        (0.012345, "0.0123"),
        (-0.5, "-0.500"),
    ],
)
def test_cells_have_three_digits_that_count(value: object, text: str) -> None:
    assert shown(value) == text


@pytest.mark.parametrize(
    ("target", "value", "met"),
    [
        (AT_LEAST, 1.5, True),
        (AT_LEAST, 1.49, False),
        (AT_MOST, 0.5, True),
        (AT_MOST, 0.51, False),
    ],
)
def test_a_target_has_a_right_side(target: Target, value: float, met: bool) -> None:
    assert is_met(target, value) is met


def _kept(name: str, **facts: float) -> Kept:
    part = Part(name, name, Table("Ceilings", ["a"], []), facts=facts)
    return Kept(part, "2026-01-01", 1.0, False, 2, "6.1", "3.11", "a processor")


def test_every_target_is_met_missed_or_not_measured() -> None:
    kept = _kept("copy", no_change_seconds=0.4, same_server_seconds_max=1.5)
    kept.part.profiles["same_server_seconds_max"] = "the switch took it"
    table = judge({"copy": kept})
    assert len(table.rows) == len(TARGETS)
    verdicts = {str(row[0]): row[3] for row in table.rows}
    assert verdicts["sync without a change"] == "met"
    assert verdicts["copy on the same server, zfs, the slowest size"] == "**missed**"
    rest = [verdict for text, verdict in verdicts.items() if "syncoid" in text]
    assert rest == ["not measured"]
    ((target, profile),) = missed({"copy": kept})
    assert (target.fact, profile) == ("same_server_seconds_max", "the switch took it")


def test_sizes_grow_to_the_largest_that_is_asked_for() -> None:
    assert Options().sizes_bytes == [GB, 2 * GB, 4 * GB, 8 * GB]
    assert Options(gigabytes=10).sizes_bytes[-2:] == [8 * GB, 10 * GB]
    assert Options(gigabytes=100).sizes_bytes[-3:] == [10 * GB, 50 * GB, 100 * GB]
    assert max(Options(quick=True).sizes_bytes) < GB


def test_peers_have_five_rounds_and_a_server_a_thousand_containers() -> None:
    assert Options().rounds >= 5
    assert (Options().containers, Options().snapshots) == (1000, 10)


def test_what_the_disk_has_no_room_for_is_left_out() -> None:
    sizes = [GB, 2 * GB, 4 * GB, 8 * GB]
    assert copying.fitting(sizes, 60 * GB) == sizes
    assert copying.fitting(sizes, 30 * GB) == sizes[:3]
    assert copying.fitting(sizes, GB) == sizes[:2]


def test_the_guide_is_held_against_what_was_measured_or_else_the_line() -> None:
    times = Times("zfs")
    for size_gb, seconds in ((8.0, 24.0), (10.0, 45.0), (12.0, 36.0)):
        for operation in copying.OPERATIONS:
            times.note(operation, size_gb, seconds)
    rows = {str(row[0]): row[1:] for row in copying.guide(times).rows}
    assert rows["10 GB: copy, other server"] == ["180-300", 45.0, "measured", 0.15]
    wanted, by_line, how, fraction = rows["100 GB: copy, other server"]
    assert (wanted, how) == ("1200-1800", "by the line")
    assert (by_line, fraction) == (pytest.approx(305), pytest.approx(305 / 1800))


def test_zfs_processes_are_counted_for_jobs_alone() -> None:
    log = """\
get /usr/bin/python -m daemon worker --config a.toml
get /usr/bin/python -m daemon exporter --config b.toml
snapshot /usr/bin/python -m daemon exporter --config b.toml
get /usr/bin/python -m daemon keeper --config a.toml
list /bin/sh
"""
    assert counting.verbs(log) == {"get": 2, "snapshot": 1}
