"""Plots as PNG files."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")  # before pyplot: there is no display here

from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from benchmarks.results import Plot, Series

SIZE_INCHES = (8.0, 4.5)
DOTS_PER_INCH = 100


def draw(plot: Plot, path: Path) -> None:
    """Writes the plot's picture."""
    figure, axes = plt.subplots(figsize=SIZE_INCHES, dpi=DOTS_PER_INCH)
    if any(isinstance(place, str) for series in plot.series for place in series.x):
        _bars(axes, plot)
    else:
        for series in plot.series:
            axes.errorbar(series.x, series.y, _errors(series), marker="o", label=series.name)
        axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.set_title(plot.title)
    axes.set_xlabel(plot.x)
    axes.set_ylabel(plot.y)
    axes.grid(visible=True, alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)


def _bars(axes: Axes, plot: Plot) -> None:
    """Groups of bars: one group a place, one bar a series that has it."""
    places = list(dict.fromkeys(str(place) for series in plot.series for place in series.x))
    width = 0.8 / len(plot.series)
    for number, series in enumerate(plot.series):
        at = [
            places.index(str(place)) + (number - (len(plot.series) - 1) / 2) * width
            for place in series.x
        ]
        axes.bar(at, series.y, width, yerr=_errors(series), label=series.name)
    axes.set_xticks(range(len(places)), places)


def _errors(series: Series) -> list[list[float]] | None:
    if not series.low:
        return None
    below = [max(0.0, y - low) for y, low in zip(series.y, series.low, strict=True)]
    above = [max(0.0, high - y) for y, high in zip(series.y, series.high, strict=True)]
    return [below, above]
