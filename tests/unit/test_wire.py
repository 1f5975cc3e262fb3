"""What is read of the kernel's account of a connection."""

from __future__ import annotations

import socket
import struct
from contextlib import ExitStack

import pytest

from transfer.peer.wire import busy_seconds

AT_BUSY = 168  # offsetof(struct tcp_info, tcpi_busy_time), linux/tcp.h
MICROSECONDS = struct.Struct("=QQ")


class Told:
    """A connection of which the kernel says this much."""

    def __init__(self, info: bytes) -> None:
        self.info = info

    def getsockopt(self, level: int, option: int, size: int, /) -> bytes:
        assert (level, option) == (socket.IPPROTO_TCP, socket.TCP_INFO)
        return self.info[:size]


def test_the_time_in_which_the_other_side_had_no_room_is_not_the_wires() -> None:
    told = Told(b"\xff" * AT_BUSY + MICROSECONDS.pack(3_500_000, 1_250_000) + bytes(40))
    assert busy_seconds(told) == pytest.approx(2.25)


def test_a_kernel_that_does_not_count_it_says_nothing() -> None:
    assert busy_seconds(Told(bytes(AT_BUSY + 8))) is None


def test_what_is_no_tcp_connection_says_nothing() -> None:
    with ExitStack() as stack:
        one, other = (stack.enter_context(end) for end in socket.socketpair())
        assert busy_seconds(one) is None
        assert busy_seconds(other) is None


def test_a_connection_that_had_nothing_to_send_was_not_busy() -> None:
    with ExitStack() as stack:
        door = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        one = stack.enter_context(socket.create_connection(door.getsockname()))
        assert busy_seconds(one) == 0.0
