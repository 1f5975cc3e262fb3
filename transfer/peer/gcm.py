"""AES-GCM for asyncssh. Its own (2.24, `crypto/cipher.py`) makes a cipher object for each packet,
and puts the packet together from pieces again and again; here the object is made once a key.

asyncssh also sends a packet that says nothing before each one of a channel. That hides the last
block of the packet before from who could choose the next one, in CBC modes (RFC 4251, 9.3.1); GCM
has a nonce of its own for each packet, and both sides are spared the half of their packets.
"""

from __future__ import annotations

from asyncssh.constants import MSG_IGNORE
from asyncssh.encryption import GCMEncryption, register_encryption_alg
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_NAMES = {"aes128-gcm@openssh.com": "aes128-gcm", "aes256-gcm@openssh.com": "aes256-gcm"}
_COUNTER = 1 << 64
_KIND_AT = 1  # of a packet: behind the length of its padding
_SILENT_BYTES_MAX = 32  # such a packet as a whole, with its padding


class QuickGcm(GCMEncryption):
    """One direction of a connection, from one exchange of keys to the next (RFC 5647)."""

    def __init__(self, key: bytes, iv: bytes) -> None:
        self._aead = AESGCM(key)
        self._fixed = iv[:4]
        self._invocation = int.from_bytes(iv[4:], "big")

    @classmethod
    def new(  # noqa: PLR0917 - asyncssh gives them so
        cls,
        cipher_name: str,
        key: bytes,
        iv: bytes,
        mac_alg: bytes = b"",
        mac_key: bytes = b"",
        etm: bool = False,
    ) -> QuickGcm:
        """See asyncssh's Encryption."""
        return cls(key, iv)

    def encrypt_packet(self, seq: int, header: bytes, packet: bytes) -> tuple[bytes, bytes]:
        """The packet with its signature, as one; asyncssh would join them itself. Nothing for a
        packet that says nothing: it is not sent, and not numbered, since the other side counts
        what it gets."""
        if packet[_KIND_AT] == MSG_IGNORE and len(packet) <= _SILENT_BYTES_MAX:
            return b"", b""
        return header + self._aead.encrypt(self._nonce(), packet, header), b""

    def decrypt_packet(
        self, seq: int, first: bytes, rest: bytes, header_len: int, mac: bytes
    ) -> bytes | None:
        """The packet; None where its signature does not match."""
        sealed = b"".join((first[header_len:], rest, mac))
        try:
            return self._aead.decrypt(self._nonce(), sealed, first[:header_len])
        except InvalidTag:
            return None

    def _nonce(self) -> bytes:
        nonce = self._fixed + self._invocation.to_bytes(8, "big")
        self._invocation = (self._invocation + 1) % _COUNTER
        return nonce


def register() -> None:
    """Makes asyncssh use it in this process."""
    for name, cipher in _NAMES.items():
        register_encryption_alg(name.encode(), QuickGcm, cipher, False)
