"""A network of the tests' own. This process moves into a network namespace that stands for the
server, with a cable to another one that stands for the world outside; the machine's stays clean.

A socket stays in the namespace in which it was made. So what talks in a container's namespace are
sockets of this process: whether they had heard something when another one has is no matter of time.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from daemon.model import new_id
from daemon.network import ground
from daemon.network.ground import NAMESPACES

SERVER = "192.0.2.1"
OUTSIDE = "192.0.2.2"
FARTHER = "192.0.2.130"
SECONDS = 10
SENTINEL = 9
"""A port that no test has a rule about: what comes there came after all that was sent before."""

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def missing() -> str | None:
    """Why there can be no such network here; None where there can."""
    if os.geteuid() != 0:
        return "networks need root"
    programs = [name for name in ("ip", "bridge", "nft") if shutil.which(name) is None]
    return f"missing: {', '.join(programs)}" if programs else None


def opened() -> Iterator[Wires]:
    """What a fixture yields from. The test is skipped where a part is missing; under CI=true it
    fails."""
    if (reason := missing()) is not None:
        if os.environ.get("CI") == "true":
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    with Wires() as made:
        yield made


def run(*words: str, text: str = "") -> str:
    """A command, here or where its words say; what it said."""
    done = subprocess.run(words, input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{words}: {done.stderr}"
    return done.stdout


class Wires:
    """The server's namespace is this process's while it is open."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._outside = f"hoody-test-{new_id()}"

    def __enter__(self) -> Wires:
        before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        self._stack.callback(os.close, before)
        _check(_libc.unshare(_CLONE_NEWNET))
        self._stack.callback(lambda: _check(_libc.setns(before, _CLONE_NEWNET)))
        run("ip", "link", "set", "lo", "up")
        run("ip", "netns", "add", self._outside)
        self._stack.callback(run, "ip", "netns", "delete", self._outside)
        peer = ["peer", "name", "card", "netns", self._outside]
        run("ip", "link", "add", "name", "card", "type", "veth", *peer)
        self._stack.callback(run, "ip", "link", "delete", "dev", "card")
        run("ip", "address", "add", f"{SERVER}/24", "dev", "card")
        run("ip", "link", "set", "card", "up")
        for words in (
            *(["address", "add", f"{one}/24", "dev", "card"] for one in (OUTSIDE, FARTHER)),
            ["link", "set", "lo", "up"],
            ["link", "set", "card", "up"],
        ):
            run("ip", "-netns", self._outside, *words)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def card(self) -> str:
        """The hardware address of the server's card."""
        return run("ip", "-brief", "link", "show", "dev", "card").split()[2]

    @property
    def outside(self) -> str:
        """The path of the namespace of the world outside."""
        return f"{NAMESPACES}/{self._outside}"

    def route(self, network: str) -> None:
        """The world outside finds these addresses through the server."""
        run("ip", "-netns", self._outside, "route", "replace", network, "via", SERVER)

    @contextmanager
    def inside(self, path: str | None) -> Iterator[None]:
        """This process in a namespace; None is the server's."""
        if path is None:
            yield
            return
        here = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        there = os.open(path, os.O_RDONLY)
        _check(_libc.setns(there, _CLONE_NEWNET))
        try:
            yield
        finally:
            _check(_libc.setns(here, _CLONE_NEWNET))
            os.close(here)
            os.close(there)

    def socket(self, path: str | None, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """A socket in a namespace, closed when the wires are."""
        with self.inside(path):
            made = self._stack.enter_context(socket.socket(family, kind, protocol))
        made.settimeout(SECONDS)
        return made

    def udp(self, path: str | None, port: int = 0, address: str = "") -> socket.socket:
        """Where datagrams come in."""
        made = self.socket(path, socket.AF_INET, socket.SOCK_DGRAM)
        made.bind((address, port))
        return made

    def tcp(self, path: str | None, port: int) -> socket.socket:
        """Where connections come in."""
        made = self.socket(path, socket.AF_INET, socket.SOCK_STREAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers have it
        made.bind(("", port))
        made.listen()
        return made

    def connect(self, path: str | None, address: str, port: int) -> socket.socket:
        """A connection from a namespace."""
        made = self.socket(path, socket.AF_INET, socket.SOCK_STREAM)
        made.connect((address, port))
        return made

    def frames(self, path: str, link: str = "eth0") -> socket.socket:
        """A packet socket: frames as they are, past the stack of its namespace."""
        made = self.socket(path, socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        made.bind((link, 0))
        return made


class Ports:
    """Sockets that listen for datagrams at several ports of one place."""

    def __init__(
        self, wires: Wires, path: str | None, ports: Sequence[int] = (), address: str = ""
    ) -> None:
        self._sockets = {port: wires.udp(path, port, address) for port in (*ports, SENTINEL)}

    def reached(self, sender: socket.socket, address: str) -> set[int]:
        """Those of the ports to which a datagram from the sender comes."""
        for port in self._sockets:
            if port != SENTINEL:
                send(sender, b"word", address, port)
        return self.before_last(sender, address)

    def answer(self, port: int, sender: socket.socket, address: str) -> None:
        """The port is asked and answers: a connection now, in the kernel's eyes."""
        sender.sendto(b"question", (address, port))
        self._sockets[port].sendto(b"answer", self._sockets[port].recvfrom(100)[1])
        assert sender.recv(100) == b"answer"

    def before_last(self, sender: socket.socket, address: str) -> set[int]:
        """Those of the ports at which something is when a last datagram has come."""
        sender.sendto(b"last", (address, SENTINEL))
        assert self._sockets[SENTINEL].recv(100) == b"last"
        return set(heard(self._sockets))


def send(sender: socket.socket, word: bytes, address: str, port: int = 0) -> None:
    """Sends it. On the server itself, where a rule of a container drops what is sent, the kernel
    says so to who sends."""
    with suppress(PermissionError):
        sender.sendto(word, (address, port))


def heard(sockets: Mapping[int, socket.socket]) -> Iterator[int]:
    """The ports at which something has come in."""
    for port, one in sockets.items():
        one.setblocking(False)
        try:
            one.recv(100)
        except BlockingIOError:
            continue
        finally:
            one.settimeout(SECONDS)
        yield port


def left(*container_ids: str) -> dict[str, str]:
    """All that there is of networks on the server: interfaces, tables, routes, and the namespaces
    of these containers. Their names are the machine's, where other tests run beside this one."""
    return {
        "links": run("ip", "-brief", "link", "show"),
        "tables": run("nft", "list", "ruleset"),
        "routes": run("ip", "-4", "route", "show", "table", "all"),
        "namespaces": " ".join(
            one for one in container_ids if Path(ground.namespace_path(one)).exists()
        ),
    }


def _check(status: int) -> None:
    if status != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
