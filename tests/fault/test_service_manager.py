"""A real daemon under a service manager: what it tells it, and what it does not when it hangs."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.cluster import Daemon
from tests.acceptance.scraped import Scrape
from tests.fault.boundaries import FreezingCluster, MakeCluster
from tests.fault.disturbing import assert_same, halted, in_the_middle, source_on_a
from tests.fault.hanging import STUCK_SUFFIX, SUFFIX
from tests.service_manager import Listener, watching

EXPORTERS = 2
PATIENCE_SECONDS = 2.0
POLL_SECONDS = 0.05
TREE_BYTES = 10 << 20


class HangingCluster(FreezingCluster):
    """A cluster whose daemons are `hanging.py`."""

    program = "tests.fault.hanging"


@pytest.fixture(scope="module")
def backend() -> str:
    """Nothing here depends on the storage."""
    return "dir"


@pytest.fixture(scope="module")
def cluster_type() -> type[HangingCluster]:
    return HangingCluster


@pytest.fixture(scope="module")
def cluster(make_cluster: MakeCluster) -> FreezingCluster:
    """Two servers, a and b, with two exporters each."""
    return make_cluster(2, {"transfer": {"exporters": EXPORTERS}})


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[Listener]:
    with Listener(f"{tmp_path}/notify") as listener:
        yield listener


@pytest.fixture
def stopped(cluster: FreezingCluster) -> Iterator[Daemon]:
    """Server b's, which does not run; afterwards it does."""
    daemon = cluster.daemons[1]
    daemon.stop()
    yield daemon
    daemon.kill()
    for suffix in (SUFFIX, STUCK_SUFFIX):
        daemon.config_path.with_suffix(suffix).unlink(missing_ok=True)
    daemon.start()


@pytest.fixture
def daemon(stopped: Daemon, listener: Listener) -> Daemon:
    """Server b's, under the listener and well, with all exporters."""
    before = listening(stopped)
    with watching(listener, PATIENCE_SECONDS):
        stopped.launch()
        assert listener.hear_until("WATCHDOG=1")[:2] == ["READY=1", "STATUS=ready"]
    while listening(stopped) < before + EXPORTERS:  # it is ready with one of them
        time.sleep(POLL_SECONDS)
    return stopped


def listening(daemon: Daemon) -> int:
    """How many exporters it has ever had that listened."""
    return daemon.log_path.read_text().count('"by": "exporter ')


def test_ready_is_said_when_it_listens(stopped: Daemon, listener: Listener) -> None:
    daemon = stopped
    with watching(listener, PATIENCE_SECONDS):
        daemon.launch()
        assert listener.hear() == ["READY=1", "STATUS=ready"]
    assert daemon.is_ready()
    with socket.create_connection(daemon.peer_address) as peer:
        assert peer.recv(4) == b"SSH-"

    for _ in range(3):
        assert listener.hear() == ["WATCHDOG=1"]
    daemon.stop()
    heard = listener.rest()
    assert heard[-2:] == ["STOPPING=1", "STATUS=stopping; jobs go on at the next start"]
    assert set(heard[:-2]) <= {"WATCHDOG=1"}


def test_ready_is_not_said_while_no_job_would_be_done(stopped: Daemon, listener: Listener) -> None:
    """Though all that readyz looks at is well."""
    stopped.config_path.with_suffix(SUFFIX).touch()
    with watching(listener, PATIENCE_SECONDS):
        stopped.start()
    with pytest.raises(TimeoutError):
        listener.hear(PATIENCE_SECONDS)


def test_a_blocked_loop_does_not_ping(daemon: Daemon, listener: Listener) -> None:
    """And what systemd sends it then has it say where it hangs."""
    os.kill(daemon.pid, signal.SIGUSR1)
    assert listener.out_of_patience(PATIENCE_SECONDS) == []
    process = daemon._process
    assert process is not None
    assert process.poll() is None
    os.kill(daemon.pid, signal.SIGABRT)
    assert process.wait() == -signal.SIGABRT
    assert "in block_loop" in daemon.log_tail(4000)


def test_an_engine_that_hangs_is_not_pinged_for(daemon: Daemon, listener: Listener) -> None:
    daemon.config_path.with_suffix(SUFFIX).touch()
    said = listener.out_of_patience(PATIENCE_SECONDS)
    assert set(said) == {"STATUS=no answer from engine"}
    assert daemon.is_ready()  # its other parts are well


def test_a_storage_that_hangs_is_told_and_waited_for(daemon: Daemon, listener: Listener) -> None:
    """Nothing is ended for it: what waits for a mount could not be."""
    (keeper,) = daemon.children("keeper")
    stuck = daemon.config_path.with_suffix(STUCK_SUFFIX)
    stuck.touch()
    failing = not_ready(daemon)
    assert failing["storage"] == "no answer for 0.5 s"
    listener.rest()
    assert "WATCHDOG=1" in listener.hear()
    assert daemon.log_tail().count("the storage fails") == 1
    stuck.unlink()
    daemon.wait_ready()
    assert daemon.log_tail().count("the storage is well again") == 1
    assert daemon.children("keeper") == [keeper]


def not_ready(daemon: Daemon) -> dict[str, str]:
    """What readyz names when it says no."""
    while True:
        try:
            with urllib.request.urlopen(f"{daemon.url}/readyz"):
                time.sleep(POLL_SECONDS)
        except urllib.error.HTTPError as error:
            with error:
                return dict(json.load(error)["failing"])


def test_a_peer_listener_that_hangs_is_not_pinged_for(daemon: Daemon, listener: Listener) -> None:
    """The kernel takes connections for it all the same."""
    exporters = daemon.children("exporter")
    assert len(exporters) == EXPORTERS
    for exporter in exporters:
        exporter.suspend()
    said = listener.out_of_patience(PATIENCE_SECONDS)
    assert said[-1] == "STATUS=no answer from peer listener and exporter 0 and exporter 1"
    assert Scrape(daemon).value("hoody_build_info") == 1  # who scrapes waits for no child
    for exporter in exporters:
        exporter.resume()
    assert listener.hear_until("WATCHDOG=1")[-2:] == ["WATCHDOG=1", "STATUS=ready"]


def test_one_exporter_of_two_that_hangs_is_not_pinged_for(
    daemon: Daemon, listener: Listener
) -> None:
    """Whomever the kernel gives those to who call at the port that they share. The status names
    it, and may say of the listener what it likes."""
    suspended, _ = daemon.children("exporter")
    suspended.suspend()
    said = listener.out_of_patience(PATIENCE_SECONDS)
    assert sum(said[-1].count(f"exporter {number}") for number in range(EXPORTERS)) == 1
    suspended.resume()
    assert listener.hear_until("WATCHDOG=1")[-2:] == ["WATCHDOG=1", "STATUS=ready"]


async def test_a_stop_leaves_jobs_that_go_on(
    cluster: FreezingCluster, daemon: Daemon, listener: Listener
) -> None:
    async with cluster.api(0) as api:
        source = await source_on_a(cluster, "stopped", TREE_BYTES)
        with halted(cluster):
            started = await api.start_copy(source, daemon.server_id)
            await in_the_middle(api, started.job_id)
            process = daemon._process
            assert process is not None
            daemon.stop()
            assert process.returncode == 0
            assert "STOPPING=1" in listener.rest()
            job = await api.job(started.job_id)
            assert (job["state"], job["error"]) == ("queued", None)
        daemon.start()
        await api.done(started.job_id)
        await assert_same(api, cluster, source, started.container_id)
