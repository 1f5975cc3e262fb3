"""README's 'Add a server', as it stands there: its commands are run on two machines of the tests'
own, whose catalogue is a PostgreSQL that is reached over the network, by its certificate only."""

from __future__ import annotations

import datetime
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.integration.command_line import ROOT
from tests.integration.machines import NETWORK, SECONDS_MAX, Machine, Machines, missing
from tests.postgres import Postgres, serving

pytestmark = pytest.mark.postgres

PASSWORD = "correct horse"
POLL_SECONDS = 0.2
READY = (
    "import urllib.request; "
    "urllib.request.urlopen('http://127.0.0.1:8470/readyz', timeout=5).close()"
)


def blocks() -> list[str]:
    """The scripts of the section, in order: first server, second server, and what follows."""
    readme = (ROOT / "README.md").read_text()
    section = re.search(r"^## Add a server\n(.*?)^## ", readme, re.MULTILINE | re.DOTALL)
    assert section is not None
    return re.findall(r"^```sh\n(.*?)^```$", section[1], re.MULTILINE | re.DOTALL)


def certify(directory: Path, name: str) -> None:
    """An authority `ca.crt`, and the certificate and key that it gives the database's host."""
    today = datetime.datetime.now(datetime.UTC)
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a test's authority")])
    of_host = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])

    def sign(subject: x509.Name, public: ec.EllipticCurvePublicKey, *, is_ca: bool) -> bytes:
        made = (
            x509.CertificateBuilder(ca_name, subject, public, x509.random_serial_number())
            .not_valid_before(today - datetime.timedelta(days=1))
            .not_valid_after(today + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        )
        return made.sign(ca_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    (directory / "ca.crt").write_bytes(sign(ca_name, ca_key.public_key(), is_ca=True))
    (directory / "db.crt").write_bytes(sign(of_host, key.public_key(), is_ca=False))
    (directory / "db.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[Machines]:
    if (reason := missing()) is not None:
        if os.environ.get("CI") == "true":
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    with Machines(tmp_path) as made:
        yield made


@pytest.fixture
def postgres(machines: Machines, tmp_path: Path) -> Iterator[Postgres]:
    """On the first machine's address, where it wants TLS and a password of whoever comes in."""
    certify(tmp_path, "db.example")
    with serving() as server:
        server.create("hoody")
        server.ask("hoody", f"ALTER ROLE hoody PASSWORD '{PASSWORD}'")
        server.stop()
        server.allow(f"hostssl hoody hoody {NETWORK}.0/24 scram-sha-256")
        server.start(
            f"listen_addresses={NETWORK}.1",
            "ssl=on",
            f"ssl_cert_file={server.keep(tmp_path / 'db.crt')}",
            f"ssl_key_file={server.keep(tmp_path / 'db.key')}",
            within=machines.all[0].network,
        )
        yield server


def start(machine: Machine, script: str, path: str) -> None:
    """Runs a script whose last command is a daemon; returns when that is ready."""
    process = machine.launch(script, path)
    deadline = time.monotonic() + SECONDS_MAX
    while machine.run(f'{sys.executable} -c "{READY}"', path)[0] != 0:
        assert process.poll() is None, machine.log.read_text()
        assert time.monotonic() < deadline, machine.log.read_text()
        time.sleep(POLL_SECONDS)


@pytest.mark.usefixtures("postgres")
def test_its_commands_make_a_cluster(machines: Machines, tmp_path: Path) -> None:
    first, second, afterwards = blocks()
    one, two = machines.all
    (one.directory / "srv/images/web").mkdir(parents=True)
    (one.directory / "srv/images/web/greeting").write_text("from one to two")
    (one.directory / "etc/hoody").mkdir()
    shutil.copy(tmp_path / "ca.crt", one.directory / "etc/hoody/db-ca.crt")
    passwords = one.directory / "etc/hoody/db.pass"
    passwords.touch(0o600)
    passwords.write_text(f"db.example:5432:hoody:hoody:{PASSWORD}\n")

    start(one, first, machines.path)
    start(two, second, machines.path)
    code, said = one.run(afterwards, machines.path)
    assert code == 0, said
    assert len(re.findall(r"\bonline\b", said)) == 2, said
    assert two.run("hoodyd server list", machines.path) == one.run(
        "hoodyd server list", machines.path
    )
    (copied,) = (two.directory / "lib/hoody/storage").rglob("live/greeting")
    assert copied.read_text() == "from one to two"


@pytest.mark.usefixtures("postgres")
def test_a_database_with_another_certificate_is_refused(machines: Machines, tmp_path: Path) -> None:
    """By a machine that trusts another authority, whatever the database says that it is."""
    _, second, _ = blocks()
    one, two = machines.all
    impostor = tmp_path / "impostor"
    impostor.mkdir()
    certify(impostor, "db.example")
    (one.directory / "etc/hoody").mkdir()
    for file in ("jwt.secret", "sealing.key", "db.pass"):
        (one.directory / "etc/hoody" / file).touch(0o600)
    shutil.copy(impostor / "ca.crt", one.directory / "etc/hoody/db-ca.crt")
    (one.directory / "etc/hoody/db.pass").write_text(f"*:*:*:*:{PASSWORD}\n")
    (one.directory / "etc/hoody/jwt.secret").write_text("s" * 64)
    (one.directory / "etc/hoody/sealing.key").write_bytes(bytes(32))
    code, said = two.run(second, machines.path)
    assert code == 2, said
    assert "CERTIFICATE_VERIFY_FAILED" in said
