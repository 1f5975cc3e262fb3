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

from daemon.config import Config, ServerSection
from daemon.errors import ConfigError
from daemon.keyfiles import read_tls
from tests.integration.command_line import Ran, environment, run
from tests.ports import free_port

READY_SECONDS = 180
POLL_SECONDS = 0.05


class Place:
    """A directory with a certificate for loopback, its key, and a config that names them."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.config = home / "hoodyd.toml"
        self.cert, self.key, self.authority = (home / f"{one}.pem" for one in ("cert", "key", "ca"))
        self.address = f"127.0.0.1:{free_port()}"
        self.metrics_address = f"127.0.0.1:{free_port()}"
        make_certificate(self)

    @property
    def variables(self) -> dict[str, str]:
        return {
            "HOODY_SERVER__LISTEN": self.address,
            "HOODY_SERVER__METRICS_LISTEN": self.metrics_address,
            "HOODY_PEER__LISTEN": f"127.0.0.1:{free_port()}",
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
    async with running(place) as context:
        stranger = await place.hoody("login", "--url", url, stdin=token)
        assert (stranger.code, stranger.out) == (5, "")
        assert "certificate verify failed" in stranger.err
        trusting = {"SSL_CERT_FILE": str(place.authority)}
        (await place.hoody("login", "--url", url, stdin=token, **trusting)).good()
        async with aiohttp.ClientSession() as session:
            with pytest.raises(aiohttp.ClientConnectionError):  # nothing is answered in clear
                await session.get(f"http://{place.address}/healthz")
            metrics = f"https://{place.metrics_address}/metrics"
            async with session.get(metrics, ssl=context) as answer:
                assert "hoody_build_info" in await answer.text()


async def test_a_bad_certificate_is_told_before_anything_starts(place: Place) -> None:
    (await place.hoodyd("init")).good()
    place.cert.write_text("rubbish")
    for verb in ("check-config", "run"):
        ran = await place.hoodyd(verb)
        assert (ran.code, ran.out, len(ran.err.splitlines())) == (2, "", 1), ran
        assert "server.tls_cert: " in ran.err


def config_of(place: Place) -> Config:
    return Config(server=ServerSection(tls_cert=str(place.cert), tls_key=str(place.key)))


def encrypted(key: bytes) -> bytes:
    """A private key that asks for a password."""
    private = serialization.load_pem_private_key(key, None)
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    return private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"password"),
    )


def test_a_certificate_and_its_key_are_good_together_alone(place: Place) -> None:
    assert read_tls(Config()) is None
    assert read_tls(config_of(place)) is not None
    cert, key = place.cert.read_bytes(), place.key.read_bytes()
    make_certificate(place)
    for bad_cert, bad_key, named in [
        (cert, None, "tls_cert"),
        (None, key, "tls_cert"),
        (None, encrypted(place.key.read_bytes()), "tls_cert"),
        (b"", None, "tls_cert"),
        (b"rubbish", None, "tls_cert"),
        (None, b"rubbish", "tls_cert"),
    ]:
        good = place.cert.read_bytes(), place.key.read_bytes()
        place.cert.write_bytes(good[0] if bad_cert is None else bad_cert)
        place.key.write_bytes(good[1] if bad_key is None else bad_key)
        with pytest.raises(ConfigError, match=rf"^server\.{named}: .*are no certificate"):
            read_tls(config_of(place))
        place.cert.write_bytes(good[0])
        place.key.write_bytes(good[1])
    for path, named in ((place.key, "tls_key"), (place.cert, "tls_cert")):
        path.unlink()
        with pytest.raises(ConfigError, match=rf"^server\.{named}: cannot read"):
            read_tls(config_of(place))
