"""The API over TLS: a real daemon, a certificate of an authority of its own, and who trusts it."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import signal
import ssl
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.acceptance.cluster import _free_port
from tests.integration.command_line import Ran, environment, run

READY_SECONDS = 60
POLL_SECONDS = 0.05


class Place:
    """A directory with a certificate for loopback, its key, and a config that names them."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.config = home / "hoodyd.toml"
        self.cert, self.key, self.authority = (home / f"{one}.pem" for one in ("cert", "key", "ca"))
        self.address = f"127.0.0.1:{_free_port()}"
        make_certificate(self)

    @property
    def variables(self) -> dict[str, str]:
        return {
            "HOODY_SERVER__LISTEN": self.address,
            "HOODY_PEER__LISTEN": f"127.0.0.1:{_free_port()}",
            "HOODY_SERVER__TLS_CERT": str(self.cert),
            "HOODY_SERVER__TLS_KEY": str(self.key),
        }

    async def hoodyd(self, *arguments: str, **variables: str) -> Ran:
        env = environment(self.home, **(self.variables | variables))
        return await run("hoodyd", *arguments, "--config", str(self.config), env=env)

    async def hoody(self, *arguments: str, stdin: str = "", **variables: str) -> Ran:
        return await run("hoody", *arguments, env=environment(self.home, **variables), stdin=stdin)


def make_certificate(place: Place) -> None:
    """A certificate for 127.0.0.1, signed by an authority that nobody knows."""
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    names = [
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)]) for text in ("test", "server")
    ]
    files = (place.authority, place.cert)
    for number, (key, name, file) in enumerate(zip(keys, names, files, strict=True)):
        at = datetime.now(UTC)
        loopback = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(names[0])
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(at - timedelta(days=1))
            .not_valid_after(at + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=number == 0, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([loopback]), critical=False)
            .sign(keys[0], hashes.SHA256())
        )
        file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    place.key.write_bytes(
        keys[1].private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@contextlib.asynccontextmanager
async def running(place: Place) -> AsyncIterator[ssl.SSLContext]:
    """A daemon that answers; who trusts its authority."""
    context = ssl.create_default_context(cafile=str(place.authority))
    argv = [sys.executable, "-m", "daemon", "run", "--config", str(place.config)]
    env = environment(place.home, **place.variables)
    with (place.home / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(*argv, env=env, stdout=log, stderr=log)
    try:
        async with asyncio.timeout(READY_SECONDS):
            while not await is_up(place, context):
                assert process.returncode is None, (place.home / "log").read_text()
                await asyncio.sleep(POLL_SECONDS)
        yield context
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        await process.wait()


async def is_up(place: Place, context: ssl.SSLContext) -> bool:
    try:
        async with aiohttp.ClientSession() as session:
            url = f"https://{place.address}/healthz"
            async with session.get(url, ssl=context) as answer:
                return answer.status == 200
    except aiohttp.ClientConnectionError:
        return False


async def test_the_api_speaks_tls_and_hoody_checks_it(place: Place) -> None:
    made = (await place.hoodyd("init")).good()
    url = f"https://{place.address}"
    assert f"hoody login --url {url}" in made.out
    token = (await place.hoodyd("token")).good().out
    trusting = {"SSL_CERT_FILE": str(place.authority)}
    async with running(place):
        stranger = await place.hoody("login", "--url", url, stdin=token)
        assert (stranger.code, stranger.out) == (5, "")
        assert "certificate verify failed" in stranger.err
        (await place.hoody("login", "--url", url, stdin=token, **trusting)).good()
        projects = (await place.hoody("projects", "list", "--json", **trusting)).good().json
        assert projects["projects"][0]["name"] == "default"
        # Nothing is answered in clear, on the same port.
        plain = await place.hoody("login", "--url", f"http://{place.address}", stdin=token)
        assert plain.code == 5


@pytest.mark.parametrize(
    ("fault", "key"),
    [
        ("no cert", "tls_cert"),
        ("no key", "tls_key"),
        ("rubbish", "tls_cert"),
        ("other", "tls_cert"),
    ],
)
async def test_a_bad_certificate_is_named_by_its_key(place: Place, fault: str, key: str) -> None:
    (await place.hoodyd("init")).good()
    (await place.hoodyd("check-config")).good()
    match fault:
        case "no cert":
            place.cert.unlink()
        case "no key":
            place.key.unlink()
        case "rubbish":
            place.cert.write_text("rubbish")
        case "other":
            kept = place.key.read_bytes()
            make_certificate(place)
            place.key.write_bytes(kept)
    for verb in ("check-config", "run"):
        ran = await place.hoodyd(verb)
        assert (ran.code, ran.out, len(ran.err.splitlines())) == (2, "", 1), ran
        assert f"server.{key}: " in ran.err


async def test_beyond_loopback_it_is_tls_or_a_proxy(place: Place) -> None:
    (await place.hoodyd("init")).good()
    wide = {"HOODY_SERVER__LISTEN": f"0.0.0.0:{_free_port()}"}
    bare = {"HOODY_SERVER__TLS_CERT": "", "HOODY_SERVER__TLS_KEY": ""}
    for verb in ("check-config", "run"):
        ran = await place.hoodyd(verb, **wide, **bare)
        assert (ran.code, len(ran.err.splitlines())) == (2, 1)
        assert "server.listen: is not loopback" in ran.err
    (await place.hoodyd("check-config", **wide)).good()
    (await place.hoodyd("check-config", **wide, **bare, HOODY_SERVER__BEHIND_PROXY="true")).good()
