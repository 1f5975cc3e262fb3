"""The arithmetic of the benchmarks, without any measuring."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

MIB = 1 << 20
GB = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Line:
    """`base + slope * x`."""

    base: float
    slope: float

    def at(self, x: float) -> float:
        """The line's value at x, never below zero: it stands for seconds."""
        return max(0.0, self.base + self.slope * x)


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of some values and their quartiles."""

    median: float
    low: float
    high: float


def fit(x: Sequence[float], y: Sequence[float]) -> Line:
    """The line of least squares through the points; at least two different x."""
    found = statistics.linear_regression(x, y)
    return Line(found.intercept, found.slope)


def spread(values: Sequence[float]) -> Spread:
    """Of at least one value."""
    if len(values) < 2:
        return Spread(values[0], values[0], values[0])
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(median, low, high)


def percentile(values: Sequence[float], percent: int) -> float:
    """Of at least two values."""
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def shown(value: object) -> str:
    """A table's cell: three digits that count, and thousands set apart."""
    if not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}"
    if value == 0:
        return "0"
    digits = 2
    size = abs(value)
    while size >= 10 and digits:
        size /= 10
        digits -= 1
    while size < 1 and digits < 6:
        size *= 10
        digits += 1
    return f"{value:.{digits}f}"
