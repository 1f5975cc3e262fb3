"""Debian's Prometheus: `promtool`, and a server of the tests' own."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.ports import free_port

FILES = Path(__file__).parents[1] / "systemd" / "prometheus"

START_SECONDS = 120
POLL_SECONDS = 0.1

Sample = tuple[dict[str, str], float]


def program(name: str) -> str:
    """The path of `promtool` or `prometheus`. The test is skipped where it is missing; under
    CI=true it fails."""
    found = shutil.which(name)
    if found is None:
        reason = f"no {name}: install the package prometheus"
        if os.environ.get("CI") == "true":
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    return found


def promtool(*arguments: str, given: str = "", within: Path = FILES) -> str:
    """What promtool says, which must find nothing wrong."""
    done = subprocess.run(
        [program("promtool"), *arguments],
        input=given,
        cwd=within,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


class Prometheus:
    """A server that runs."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def query(self, expression: str) -> list[Sample]:
        """The samples that an instant query answers with."""
        answer = await asyncio.to_thread(self._get, expression)
        assert answer["status"] == "success", answer
        return [(one["metric"], float(one["value"][1])) for one in answer["data"]["result"]]

    async def until(self, expression: str) -> list[Sample]:
        """Asks until there is an answer; a test that asks in vain ends by its timeout."""
        while not (found := await self.query(expression)):
            await asyncio.sleep(POLL_SECONDS)
        return found

    async def is_ready(self) -> bool:
        """Whether it answers yet."""
        try:
            await self.query("vector(1)")
        except OSError:
            return False
        return True

    def _get(self, expression: str) -> dict[str, object]:
        asked = urllib.parse.urlencode({"query": expression})
        try:
            with urllib.request.urlopen(f"{self._url}/api/v1/query?{asked}", timeout=30) as answer:
                return dict(json.load(answer))
        except urllib.error.HTTPError as error:
            with error:
                if error.code == 503:
                    raise OSError("it still starts") from error
                return dict(json.load(error))


@asynccontextmanager
async def scraping(directory: Path, targets: list[str]) -> AsyncIterator[Prometheus]:
    """A Prometheus that works by the example of systemd/prometheus, but for these targets and a
    shorter interval."""
    example = (FILES / "prometheus.yml").read_text().replace("15s", "1s")
    head, _, _ = example.partition("      - targets:")
    listed = "".join(f"          - {target}\n" for target in targets)
    (directory / "prometheus.yml").write_text(f"{head}      - targets:\n{listed}")
    shutil.copy(FILES / "hoody.rules.yml", directory)
    address = f"127.0.0.1:{free_port()}"
    with (directory / "prometheus.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *("setpriv", "--pdeathsig", "KILL", program("prometheus")),
            f"--config.file={directory}/prometheus.yml",
            f"--storage.tsdb.path={directory}/data",
            f"--web.listen-address={address}",
            stdout=log,
            stderr=log,
        )
    try:
        server = Prometheus(f"http://{address}")
        async with asyncio.timeout(START_SECONDS):
            while not await server.is_ready():
                said = (directory / "prometheus.log").read_text()
                assert process.returncode is None, said
                await asyncio.sleep(POLL_SECONDS)
        yield server
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await process.wait()
