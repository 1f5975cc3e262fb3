"""Ports for the servers of tests: two tests at once never have the same."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests import ports

CLAIM = "from tests.ports import free_port; print(free_port(), flush=True); input()"


def test_what_another_process_has_claimed_is_free_only_after_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", CLAIM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        port = int(other.stdout.readline())
        monkeypatch.setattr(ports, "PORTS", (port, port + 1))
        with pytest.raises(AssertionError, match="none of the ports"):
            ports.free_port()
        other.communicate("\n")
    assert ports.free_port() == port
    with pytest.raises(AssertionError, match="none of the ports"):
        ports.free_port()
