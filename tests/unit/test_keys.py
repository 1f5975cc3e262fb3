"""Keys: what is made is good, what is given is judged, what is sealed stays sealed."""

from __future__ import annotations

from pathlib import Path

import asyncssh
import pytest

from daemon import keys
from daemon.errors import StartError

CONTAINER_ID = "507f1f77bcf86cd799439044"


@pytest.mark.parametrize("kind", keys.HOST_KEY_KINDS)
def test_a_made_pair_belongs_together(kind: str) -> None:
    pair = keys.generate(CONTAINER_ID, kind)
    private = asyncssh.import_private_key(pair.private_text)
    assert private.export_public_key().split()[:2] == pair.key_id.encode().split()
    assert pair.public_text == f"{pair.key_id} {CONTAINER_ID}"
    assert keys.parse_public_key(pair.public_text).key_id == pair.key_id


def test_made_keys_differ_and_hide_their_private_half() -> None:
    one, other = keys.generate("a"), keys.generate("a")
    assert one.key_id != other.key_id
    assert one.private_text not in repr(one)
    with pytest.raises(ValueError, match="no such kind"):
        keys.generate("a", "dsa")


def _public(kind: str, bits: int | None = None) -> str:
    options = {} if bits is None else {"key_size": bits}
    key = asyncssh.generate_private_key(kind, None, **options)
    return key.export_public_key().decode().strip()


@pytest.mark.parametrize(
    ("kind", "bits"),
    [
        ("ssh-ed25519", None),
        ("ecdsa-sha2-nistp256", None),
        ("ecdsa-sha2-nistp384", None),
        ("ecdsa-sha2-nistp521", None),
        ("ssh-rsa", 3072),
    ],
)
def test_one_key_has_one_id_however_it_is_written(kind: str, bits: int | None) -> None:
    text = _public(kind, bits)
    body = " ".join(text.split()[:2])
    ids = {
        keys.parse_public_key(written).key_id
        for written in (
            body,
            f"{body} somebody@somewhere",
            f"  {body}\tother comment \r\n",
            body.replace(" ", "   "),
            f'from="10.0.0.0/8",no-pty {body} x',
            f'command="echo \\"ssh-ed25519 AAAA\\" now" {body}',
        )
    }
    assert ids == {body}


def test_the_text_stays_as_its_user_wrote_it() -> None:
    line = f'from="10.0.0.0/8" {_public("ssh-ed25519")} me'
    assert keys.parse_public_key(f"{line}\n").text == line


def test_bad_keys_are_refused_with_a_reason() -> None:
    good = _public("ssh-ed25519")
    kind, encoded = good.split()[:2]
    for text, reason in [
        ("", "no ed25519, ecdsa or rsa"),
        ("hello world", "no ed25519"),
        (kind, "is missing"),
        (f"{kind} AAAA", "no valid ssh-ed25519 key"),
        (f"{kind} {encoded[:-5]}!!!!", "base64"),
        (f"ssh-rsa {encoded}", "no valid ssh-rsa key"),
        (good + "\n" + good, "one line"),
        (good + "\0", "one line"),
        (_public("ssh-rsa", 2048), "3072 bits or more, this one has 2048"),
        (_public("ssh-dss"), "ssh-dss is no"),
        (_public("ssh-ed448"), "ssh-ed448 is no"),
        (good + " " + "c" * keys.KEY_TEXT_BYTES_MAX, "longer"),
        ("-----BEGIN OPENSSH PRIVATE KEY----- x", "private key"),
        (f"a b {good}", "no ed25519"),
    ]:
        with pytest.raises(ValueError, match=reason):
            keys.parse_public_key(text)


def test_sealed_text_opens_with_its_key_alone() -> None:
    key, other = bytes(range(32)), bytes(32)
    sealed = keys.seal(key, "a secret, ü")
    assert keys.unseal(key, sealed) == "a secret, ü"
    assert keys.seal(key, "a secret, ü") != sealed
    assert b"secret" not in sealed.removeprefix(b"hoody-sealed-1:")
    with pytest.raises(ValueError, match="another key, or damaged"):
        keys.unseal(other, sealed)
    for at in range(15, len(sealed)):
        damaged = sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :]
        with pytest.raises(ValueError, match="another key, or damaged"):
            keys.unseal(key, damaged)
    with pytest.raises(ValueError, match="damaged"):
        keys.unseal(key, sealed[:20])
    with pytest.raises(ValueError, match="unknown version"):
        keys.unseal(key, b"hoody-sealed-2:" + sealed[15:])
    with pytest.raises(ValueError, match="32 bytes"):
        keys.seal(b"short", "x")


def test_fingerprints_tell_secrets_apart() -> None:
    assert keys.fingerprint(b"one") == keys.fingerprint(b"one")
    assert keys.fingerprint(b"one") != keys.fingerprint(b"two")


def test_the_peer_key_file(tmp_path: Path) -> None:
    pair = keys.generate("server")
    path = tmp_path / "peer.key"
    path.write_text(pair.private_text)
    path.chmod(0o600)
    loaded = keys.load_peer_key(str(path))
    assert (loaded.key_id, loaded.private_text) == (pair.key_id, pair.private_text)
    assert loaded.public_text == pair.key_id


@pytest.mark.parametrize(
    ("content", "mode", "reason"),
    [
        (None, 0o600, "hoodyd init"),
        ("", 0o600, "OpenSSH"),
        ("ed25519", 0o640, "chmod 600"),
        ("ecdsa", 0o600, "ed25519"),
    ],
)
def test_a_bad_peer_key_file(tmp_path: Path, content: str | None, mode: int, reason: str) -> None:
    path = tmp_path / "peer.key"
    if content is not None:
        path.write_text(keys.generate("x", content).private_text if content else "")
        path.chmod(mode)
    with pytest.raises(StartError, match=reason) as caught:
        keys.load_peer_key(str(path))
    assert caught.value.message.startswith(f"{path}: ")
