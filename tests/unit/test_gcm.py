"""Our AES-GCM is asyncssh's: what one has sealed the other opens, packet after packet."""

from __future__ import annotations

from collections.abc import Callable

import asyncssh.encryption as theirs
import pytest
from asyncssh.crypto.cipher import GCMCipher
from asyncssh.encryption import Encryption, GCMEncryption

from transfer.peer import gcm, link

Make = Callable[[bytes], Encryption]
KEY, FIXED = bytes(range(16)), b"\1\2\3\4"
HEADER = b"\0\0\0\x20"
PACKETS = [bytes([11, 94, number]) + bytes(29) for number in range(5)]  # MSG_CHANNEL_DATA
SILENT = bytes([10, 2]) + bytes(14)  # MSG_IGNORE, of nothing


def ours(iv: bytes) -> Encryption:
    return gcm.QuickGcm.new("aes128-gcm", KEY, iv)


def plain(iv: bytes) -> Encryption:
    return GCMEncryption(GCMCipher("aes128-gcm", KEY, iv))


def sealed(by: Encryption, packet: bytes) -> bytes:
    return b"".join(by.encrypt_packet(0, HEADER, packet))


def opened(by: Encryption, wire: bytes) -> bytes | None:
    """As asyncssh gives a packet: its first block with the header, the rest, the signature."""
    return by.decrypt_packet(0, wire[:16], wire[16:-16], len(HEADER), wire[-16:])


@pytest.mark.parametrize("first", [0, 2**32 - 2, 2**64 - 2])
@pytest.mark.parametrize(("sender", "receiver"), [(ours, plain), (plain, ours), (ours, ours)])
def test_both_open_what_either_has_sealed(sender: Make, receiver: Make, first: int) -> None:
    iv = FIXED + first.to_bytes(8, "big")
    out, into = sender(iv), receiver(iv)
    assert [opened(into, sealed(out, packet)) for packet in PACKETS] == PACKETS


def test_a_packet_that_says_nothing_is_not_sent_and_not_numbered() -> None:
    iv = FIXED + bytes(8)
    out, into = ours(iv), plain(iv)
    assert sealed(out, SILENT) == b""
    assert opened(into, sealed(out, PACKETS[0])) == PACKETS[0]


def test_one_that_says_something_is_sent_whatever_its_kind() -> None:
    loud = SILENT[:2] + bytes(46)
    iv = FIXED + bytes(8)
    assert opened(plain(iv), sealed(ours(iv), loud)) == loud


@pytest.mark.parametrize("at", [0, 4, 20, -1])
def test_a_changed_byte_is_seen(at: int) -> None:
    iv = FIXED + bytes(8)
    wire = bytearray(sealed(ours(iv), PACKETS[1]))
    wire[at] ^= 1
    assert opened(ours(iv), bytes(wire)) is None


def test_a_packet_that_comes_twice_is_seen() -> None:
    iv = FIXED + bytes(8)
    wire = sealed(ours(iv), PACKETS[1])
    receiver = ours(iv)
    assert opened(receiver, wire) == PACKETS[1]
    assert opened(receiver, wire) is None


@pytest.mark.parametrize("name", [b"aes128-gcm@openssh.com", b"aes256-gcm@openssh.com"])
def test_links_use_it(name: bytes) -> None:
    assert name.decode() in link.ALGORITHMS["encryption_algs"]
    key_bytes, iv_bytes, *_ = theirs.get_encryption_params(name)
    made = theirs.get_encryption(name, bytes(key_bytes), bytes(iv_bytes))
    assert isinstance(made, gcm.QuickGcm)
