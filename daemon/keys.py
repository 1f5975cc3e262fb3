"""Keys: the ones that are made, the ones that users give, and how secrets are kept.

A key's *id* is its type and key as OpenSSH writes them, without options and comment: two texts
with one id are one key.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import secrets
import stat
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from daemon.errors import StartError

HOST_KEY_KINDS = ("ed25519", "ecdsa", "rsa")
RSA_BITS_MIN = 3072
KEY_TEXT_BYTES_MAX = 16384
SEALING_KEY_BYTES = 32

_TYPES = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "ssh-rsa",
)
_SEALED_PREFIX = b"hoody-sealed-1:"
_NONCE_BYTES = 12

_PrivateKey = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
_PublicKey = ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey | rsa.RSAPublicKey


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A public key as its user wrote it, on one line, and its id."""

    text: str
    key_id: str


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A key pair in OpenSSH's formats; the private text is never logged."""

    public_text: str
    private_text: str = field(repr=False)
    key_id: str


def generate(comment: str, kind: str = "ed25519") -> KeyPair:
    """A new key pair of one of HOST_KEY_KINDS; a container's has the container's id as comment."""
    private: _PrivateKey
    if kind == "ed25519":
        private = ed25519.Ed25519PrivateKey.generate()
    elif kind == "ecdsa":
        private = ec.generate_private_key(ec.SECP256R1())
    elif kind == "rsa":
        private = rsa.generate_private_key(public_exponent=65537, key_size=RSA_BITS_MIN)
    else:
        raise ValueError(f"no such kind of key: {kind}")
    return _pair(private, comment)


def parse_public_key(text: str) -> PublicKey:
    """Reads a line as it stands in authorized_keys. Raises ValueError, which says why."""
    line = text.strip()
    if len(line.encode()) > KEY_TEXT_BYTES_MAX:
        raise ValueError(f"is longer than {KEY_TEXT_BYTES_MAX} bytes")
    if not line.isprintable() and not line.replace("\t", " ").isprintable():
        raise ValueError("must be one line without control characters")
    if "PRIVATE KEY" in line:
        raise ValueError("is a private key")
    kind, encoded = _key_fields(line)
    try:
        key = serialization.load_ssh_public_key(f"{kind} {encoded}".encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ValueError(f"is no valid {kind} key") from error
    if not isinstance(key, _PublicKey):
        raise ValueError(f"{kind} keys are not supported")
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < RSA_BITS_MIN:
        raise ValueError(f"RSA keys need {RSA_BITS_MIN} bits or more, this one has {key.key_size}")
    return PublicKey(line, _key_id(key))


def seal(sealing_key: bytes, text: str) -> bytes:
    """Encrypts `text` (AES-256-GCM) for the catalogue."""
    nonce = secrets.token_bytes(_NONCE_BYTES)
    sealed = AESGCM(_checked(sealing_key)).encrypt(nonce, text.encode(), _SEALED_PREFIX)
    return _SEALED_PREFIX + nonce + sealed


def unseal(sealing_key: bytes, sealed: bytes) -> str:
    """What `seal` was given. Raises ValueError where the key is another or the data is damaged."""
    if not sealed.startswith(_SEALED_PREFIX):
        raise ValueError("sealed by an unknown version")
    body = sealed[len(_SEALED_PREFIX) :]
    try:
        opened = AESGCM(_checked(sealing_key)).decrypt(
            body[:_NONCE_BYTES], body[_NONCE_BYTES:], _SEALED_PREFIX
        )
    except (InvalidTag, ValueError) as error:
        raise ValueError("sealed with another key, or damaged") from error
    return opened.decode()


def fingerprint(secret: bytes) -> str:
    """What the catalogue keeps of a shared secret, to tell servers that have another one.

    It is slow to compute on purpose: whoever reads the catalogue must not be able to guess a
    weak secret from it.
    """
    digest = hashlib.scrypt(secret, salt=b"hoody fingerprint", n=2**14, r=8, p=1, dklen=16)
    return digest.hex()


def load_peer_key(path: str) -> KeyPair:
    """This server's own ed25519 key. Raises StartError where the file is missing or no such key,
    or where others than its owner may read it."""
    try:
        with open(path, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(KEY_TEXT_BYTES_MAX)
    except OSError as error:
        raise StartError(f"{path}: {error.strerror}; run: hoodyd init") from error
    if stat.S_IMODE(mode) & 0o077:
        raise StartError(f"{path}: others may read this private key; run: chmod 600 {path}")
    try:
        private = serialization.load_ssh_private_key(content, password=None)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise StartError(f"{path}: no private key in OpenSSH's format") from error
    if not isinstance(private, ed25519.Ed25519PrivateKey):
        raise StartError(f"{path}: servers need an ed25519 key")
    pair = _pair(private, "")
    return KeyPair(pair.public_text, content.decode("ascii"), pair.key_id)


def _pair(private: _PrivateKey, comment: str) -> KeyPair:
    key_id = _key_id(private.public_key())
    private_text = private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    ).decode()
    return KeyPair(f"{key_id} {comment}".rstrip(), private_text, key_id)


def _key_id(key: _PublicKey) -> str:
    return key.public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    ).decode()


def _key_fields(line: str) -> tuple[str, str]:
    """The type and the base64 text of a line, behind its options."""
    fields = _split(line)
    at = next((i for i, word in enumerate(fields[:2]) if word in _TYPES), None)
    if at is None:
        named = fields[0] if fields and "-" in fields[0] else "this text"
        raise ValueError(f"{named} is no ed25519, ecdsa or rsa public key in OpenSSH's format")
    if at + 1 == len(fields):
        raise ValueError(f"the {fields[at]} key itself is missing")
    encoded = fields[at + 1]
    try:
        base64.b64decode(encoded, validate=True)
    except binascii.Error as error:
        raise ValueError(f"the {fields[at]} key is no valid base64") from error
    return fields[at], encoded


def _split(line: str) -> list[str]:
    """The fields of a line; spaces inside double quotes, as options have them, do not part."""
    fields, word, quoted, escaped = [], "", False, False
    for letter in line:
        if letter in " \t" and not quoted:
            if word:
                fields.append(word)
            word = ""
            continue
        if letter == '"' and not escaped:
            quoted = not quoted
        escaped = letter == "\\" and not escaped
        word += letter
    return [*fields, word] if word else fields


def _checked(sealing_key: bytes) -> bytes:
    if len(sealing_key) != SEALING_KEY_BYTES:
        raise ValueError(f"a sealing key has {SEALING_KEY_BYTES} bytes")
    return sealing_key
