"""What a daemon's /metrics says, for tests."""

from __future__ import annotations

import tomllib
import urllib.request

from prometheus_client.parser import text_string_to_metric_families

from tests.acceptance.cluster import Daemon

Labels = tuple[str, ...]


def metrics_address(daemon: Daemon) -> str:
    """Where a daemon's metrics are."""
    server = tomllib.loads(daemon.config_path.read_text())["server"]
    return str(server.get("metrics_listen", server["listen"]))


class Scrape:
    """One scrape of a daemon."""

    def __init__(self, daemon: Daemon) -> None:
        with urllib.request.urlopen(
            f"http://{metrics_address(daemon)}/metrics", timeout=30
        ) as answer:
            self.text = answer.read().decode()
        self._samples = [
            sample
            for family in text_string_to_metric_families(self.text)
            for sample in family.samples
        ]

    def __call__(self, name: str, **labels: str) -> dict[Labels, float]:
        """The samples that are not nought of a name and some labels, by the other labels' values
        in the labels' order."""
        return {
            tuple(one.labels[key] for key in sorted(one.labels.keys() - labels.keys())): one.value
            for one in self._samples
            if one.name == name and one.value and labels.items() <= one.labels.items()
        }

    def value(self, name: str, **labels: str) -> float:
        """The sum of them."""
        return sum(self(name, **labels).values())
