"""Ports for the servers of tests."""

from __future__ import annotations

import random
import socket

PORTS = (20_000, 32_000)  # below Linux's ephemeral ports

_claims: list[socket.socket] = []


def free_port() -> int:
    """A port that nobody listens on, and that no other test is given as long as this process
    lives, though its server may start late, or be stopped for a while. The claim is a socket with
    an abstract name (unix(7)): it is as wide as the ports are, a network namespace, and goes with
    the process, however that ends. The kernel would choose none of these ports for a connection
    that somebody opens."""
    for port in random.sample(range(*PORTS), k=PORTS[1] - PORTS[0]):
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0hoody-tests-port-{port}")
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", port))
        except OSError:  # claimed, or in use
            claim.close()
            continue
        _claims.append(claim)
        return port
    raise AssertionError(f"none of the ports {PORTS} is free")
