"""The config: defaults of the contract, what is refused and in which words."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from daemon.config import Config, load
from daemon.config_default import default_toml
from daemon.config_types import Address, is_loopback, is_wildcard, parse_address
from daemon.errors import ConfigError
from daemon.keyfiles import read_sealing_key, read_secret, read_token_secret

SERVER_ID = "507f1f77bcf86cd799439044"


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    path = tmp_path / "hoodyd.toml"
    path.write_text(f'[server]\nstate_dir = "{tmp_path}"\n[peer]\nadvertise = "10.0.0.5:8471"\n')
    return path


def load_with(path: Path, **environ: str) -> Config:
    return load(str(path), environ)


def refusal(path: Path, **environ: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(str(path), environ)
    assert "\n" not in caught.value.message
    return caught.value.message


def test_defaults_are_those_of_the_contract(config_file: Path) -> None:
    config = load_with(config_file)
    assert config.server.listen == "127.0.0.1:8470"
    assert config.server.max_containers == 100
    assert (config.peer.listen, config.peer.advertise) == ("0.0.0.0:8471", "10.0.0.5:8471")
    assert (config.storage.backend, config.storage.root) == ("zfs", "tank/hoody")
    assert config.storage.import_roots == ()
    assert config.database.url == "sqlite:////var/lib/hoody/hoody.db"
    assert (config.auth.algorithm, config.auth.audience) == ("HS256", "")
    assert config.transfer.model_dump() == {
        "max_concurrent": 4,
        "exporters": 2,
        "compression": "auto",
        "bandwidth_limit_bytes_per_second": 0,
        "stall_seconds": 120,
        "base_ttl_days": 30,
        "collect_grace_seconds": 600,
    }
    assert config.timing.model_dump() == {
        "heartbeat_seconds": 5,
        "server_lost_seconds": 600,
        "retry_attempts": 8,
        "retry_seconds": 1800,
        "sweep_seconds": 60,
    }
    assert config.limits.model_dump() == {
        "body_bytes": 1_048_576,
        "jobs_per_user": 200,
        "requests_per_minute": 1200,
        "streams_per_user": 8,
        "snapshots_per_container": 1000,
    }
    assert (config.log.format, config.log.level) == ("json", "info")


def test_the_default_text_is_a_good_config(tmp_path: Path) -> None:
    path = tmp_path / "hoodyd.toml"
    path.write_text(default_toml(str(path)))
    config = load_with(path)
    assert config.storage.backend == "dir"
    assert is_loopback(config.listen)
    assert is_loopback(config.peer_listen)
    assert config.database.url == f"sqlite:///{tmp_path}/state/hoody.db"


def test_the_systems_default_text_uses_the_systems_places(tmp_path: Path) -> None:
    path = tmp_path / "hoodyd.toml"
    path.write_text(default_toml())
    config = load_with(path)
    assert config.server.state_dir == "/var/lib/hoody"
    assert config.auth.secret_file == "/etc/hoody/jwt.secret"
    assert config.storage.mount_root == "/srv/hoody"


def test_what_the_default_text_comments_out_is_true(tmp_path: Path) -> None:
    """Every commented key exists and, taken in as it stands, is accepted."""
    text = default_toml(str(tmp_path / "hoodyd.toml"))
    lines = [
        line for line in text.splitlines() if "db.example" not in line and "10.0.0.5" not in line
    ]
    uncommented = "\n".join(re.sub(r"^# ([a-z_]+ = )", r"\1", line) for line in lines)
    path = tmp_path / "hoodyd.toml"
    path.write_text(uncommented)
    taken = load_with(path)
    path.write_text(text)
    kept = load_with(path)
    assert taken.server.name == "node-us"
    assert taken.transfer == kept.transfer
    assert taken.timing == kept.timing
    assert taken.limits == kept.limits


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("TRANSFER__MAX_CONCURRENT", "0", "transfer.max_concurrent: must be at least 1"),
        ("TRANSFER__MAX_CONCURRENT", "65", "transfer.max_concurrent: must be at most 64"),
        ("TRANSFER__MAX_CONCURRENT", "four", "transfer.max_concurrent: must be a whole number"),
        ("TRANSFER__MAX_CONCURRENT", "1.5", "transfer.max_concurrent: must be a whole number"),
        ("TRANSFER__MAX_CONCURRENT", "true", "transfer.max_concurrent: must be a whole number"),
        ("TRANSFER__STALL_SECONDS", "0", "transfer.stall_seconds: must be more than 0"),
        ("TRANSFER__STALL_SECONDS", "nan", "transfer.stall_seconds: must be a finite number"),
        (
            "TRANSFER__COMPRESSION",
            "20",
            "transfer.compression: must be 'auto', 'none' or a level from 1 to 19",
        ),
        ("STORAGE__BACKEND", "btrfs", "storage.backend: must be 'zfs' or 'dir'"),
        ("STORAGE__BACKEND", "dir", "storage.root: must be an absolute path"),
        ("STORAGE__ROOT", "", "storage.root: must have at least 1 characters"),
        ("STORAGE__ROOT", "-r tank", "storage.root: must be the name of a ZFS dataset"),
        ("STORAGE__IMPORT_ROOTS", '["data"]', "storage.import_roots: must be an absolute path"),
        ("STORAGE__IMPORT_ROOTS", "/data", "storage.import_roots: must be a list"),
        ("SERVER__ID", "me", "server.id: must be 24 lower-case hex digits"),
        ("SERVER__BEHIND_PROXY", "yes", "server.behind_proxy: must be true or false"),
        ("SERVER__LISTEN", "8470", "server.listen: must be host:port with a port from 1 to 65535"),
        ("SERVER__LISTEN", "h:0", "server.listen: must be host:port with a port from 1 to 65535"),
        ("SERVER__LISTEN", "::1:80", "server.listen: must be host:port, an IPv6 host in brackets"),
        ("SERVER__LISTEN", "[x]:80", "server.listen: must be host:port, an IPv6 host in brackets"),
        ("SERVER__STATE_DIR", "state", "server.state_dir: must be an absolute path"),
        (
            "PEER__ADVERTISE",
            "[::]:1",
            "peer.advertise: must be an address that other servers can dial",
        ),
        (
            "DATABASE__URL",
            "mysql://x/y",
            "database.url: must begin with sqlite:// or postgresql://",
        ),
        ("DATABASE__URL", "sqlite:///x.db", "database.url: must be sqlite:////absolute/path"),
        (
            "DATABASE__URL",
            "postgresql://u@db.example/x?sslmode=require",
            "database.url: needs sslmode=verify-full, for db.example is not this machine",
        ),
        (
            "RUNTIME__NETWORK",
            "10.0.0.1/8",
            "runtime.network: must be an IPv4 network such as 10.88.0.0/16",
        ),
        (
            "RUNTIME__NETWORK",
            "10.0.0.0/31",
            "runtime.network: must have an address for the server and one for a container",
        ),
        ("AUTH__ALGORITHM", "none", "auth.algorithm: must be 'HS256', 'EdDSA', 'ES256' or 'RS256'"),
        ("AUTH__ALGORITHM", "EdDSA", "auth.public_key_file: must be given for EdDSA"),
        (
            "TIMING__SERVER_LOST_SECONDS",
            "15",
            "timing.server_lost_seconds: must be more than three heartbeats",
        ),
        ("TRANSFER__SPEED", "9", "transfer.speed: unknown key"),
        ("TRANSFERS__STALL_SECONDS", "9", "transfers: unknown key"),
    ],
)
def test_what_is_wrong_is_said_with_its_key(
    config_file: Path, variable: str, value: str, message: str
) -> None:
    said = refusal(config_file, **{f"HOODY_{variable}": value})
    assert said.removesuffix(f" ({mend(variable)})") == message


@pytest.mark.parametrize("variable", ["SERVER__LISTN", "SERVERS__LISTEN", "SERVER__LISTEN"])
def test_what_the_environment_gives_is_mended_there(config_file: Path, variable: str) -> None:
    assert mend(variable) in refusal(config_file, **{f"HOODY_{variable}": "8470"})
    config_file.write_text("[server]\nlisten = 8470\n")
    assert "environment" not in refusal(config_file, HOODY_SERVER__NAME="one")


def mend(variable: str) -> str:
    return f"from the environment: mend HOODY_{variable}, then run: hoodyd check-config"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("speed = 1", "speed: unknown key"),
        ("server = 1", "server: must be a table"),
        ("[server]\nport = 1", "server.port: unknown key"),
        ("[server]\nname = 5", "server.name: must be text"),
        ('[server]\nmax_containers = "100"', "server.max_containers: must be a whole number"),
        ("[peer]", "peer.advertise: must be given, for peer.listen is a wildcard"),
        (
            '[peer]\nlisten = "[::]:1"',
            "peer.advertise: must be given, for peer.listen is a wildcard",
        ),
    ],
)
def test_what_is_wrong_in_the_file_is_said_with_its_key(
    tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "hoodyd.toml"
    path.write_text(text)
    assert refusal(path) == message


@pytest.mark.parametrize("content", [b"[server", b"\xff\xfe", b"a = 1\na = 2"])
def test_a_file_that_is_no_toml_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "hoodyd.toml"
    path.write_bytes(content)
    assert refusal(path).startswith(f"config: {path} is no TOML: ")


def test_a_missing_or_oversized_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "hoodyd.toml"
    assert refusal(path) == f"config: {path} does not exist; run: hoodyd init"
    path.write_bytes(b"#" * ((1 << 20) + 1))
    assert refusal(path) == f"config: {path} is larger than 1048576 bytes"
    assert refusal(tmp_path) == f"config: cannot read {tmp_path}: Is a directory"


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("HOODY_SERVER__NAME", "5", ("server", "name", "5")),
        ("HOODY_SERVER__BEHIND_PROXY", "true", ("server", "behind_proxy", True)),
        ("HOODY_TRANSFER__COMPRESSION", "3", ("transfer", "compression", 3)),
        ("HOODY_TRANSFER__COMPRESSION", "none", ("transfer", "compression", "none")),
        ("HOODY_TRANSFER__COLLECT_GRACE_SECONDS", "0", ("transfer", "collect_grace_seconds", 0)),
        ("HOODY_TIMING__HEARTBEAT_SECONDS", "0.5", ("timing", "heartbeat_seconds", 0.5)),
        ("HOODY_STORAGE__IMPORT_ROOTS", '["/a", "/b/"]', ("storage", "import_roots", ("/a", "/b"))),
        ("HOODY_LOG__LEVEL", "debug", ("log", "level", "debug")),
    ],
)
def test_the_environment_overrides_the_file_with_the_keys_type(
    config_file: Path, variable: str, value: str, expected: tuple[str, str, object]
) -> None:
    section, key, wanted = expected
    assert getattr(getattr(load_with(config_file, **{variable: value}), section), key) == wanted


def test_other_variables_are_left_alone(config_file: Path) -> None:
    assert load_with(config_file, HOODY_TOKEN="t", HOODY_API_URL="u", PATH="/bin")


def test_a_config_cannot_be_changed(config_file: Path) -> None:
    with pytest.raises(ValidationError):
        load_with(config_file).server.name = "other"  # type: ignore[misc] # what is tested


def test_a_listen_beyond_loopback_needs_tls_or_a_proxy(config_file: Path) -> None:
    wide = {"HOODY_SERVER__LISTEN": "0.0.0.0:8470"}
    assert refusal(config_file, **wide).startswith("server.listen: is not loopback")
    assert load_with(config_file, **wide, HOODY_SERVER__BEHIND_PROXY="true")
    half = {**wide, "HOODY_SERVER__TLS_CERT": "/c.pem"}
    assert refusal(config_file, **half).startswith("server.tls_key: must be given together")
    assert load_with(config_file, **half, HOODY_SERVER__TLS_KEY="/k.pem")


@pytest.mark.parametrize("listen", ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "localhost:1"])
def test_loopback_needs_neither(config_file: Path, listen: str) -> None:
    assert load_with(config_file, HOODY_SERVER__LISTEN=listen).server.listen == listen


def test_advertise_is_listen_where_that_can_be_dialled(config_file: Path) -> None:
    given = {"HOODY_PEER__LISTEN": "10.0.0.9:99", "HOODY_PEER__ADVERTISE": ""}
    assert load_with(config_file, **given).peer.advertise == "10.0.0.9:99"


def test_the_servers_id_is_kept_in_the_state_directory(config_file: Path, tmp_path: Path) -> None:
    assert load_with(config_file).server.id == ""
    (tmp_path / "server_id").write_text(f"{SERVER_ID}\n")
    assert load_with(config_file).server.id == SERVER_ID
    assert load_with(config_file, HOODY_SERVER__ID=SERVER_ID).server.id == SERVER_ID
    other = "0" * 24
    assert refusal(config_file, HOODY_SERVER__ID=other) == (
        f"server.id: is {other}, but {tmp_path} belongs to {SERVER_ID}"
    )
    (tmp_path / "server_id").write_text("nonsense")
    assert "holds no server id" in refusal(config_file)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://hoody@localhost/db",
        "postgresql://hoody@127.0.0.1:5432/db",
        "postgresql:///db?host=/run/postgresql",
        "postgresql://hoody@db.example/db?sslmode=verify-full",
    ],
)
def test_postgresql_on_this_machine_or_verified_is_good(config_file: Path, url: str) -> None:
    assert load_with(config_file, HOODY_DATABASE__URL=url).database.url == url


def test_addresses() -> None:
    assert parse_address("[::1]:80") == Address("::1", 80)
    assert str(Address("::1", 80)) == "[::1]:80"
    assert str(parse_address("node-a.example:8470")) == "node-a.example:8470"
    assert is_wildcard(parse_address("0.0.0.0:1"))
    assert not is_wildcard(parse_address("node:1"))


def key_file(path: Path, content: bytes, mode: int = 0o600) -> str:
    path.write_bytes(content)
    path.chmod(mode)
    return str(path)


def test_a_secret_is_the_file_without_trailing_white_space(tmp_path: Path) -> None:
    path = key_file(tmp_path / "secret", b" " + b"s" * 31 + b" \r\n\n")
    assert read_secret(path, "auth.secret_file") == b" " + b"s" * 31


@pytest.mark.parametrize(
    ("content", "mode", "words"),
    [
        (b"s" * 31 + b"\n\n", 0o600, "must hold at least 32 bytes"),
        (b"s" * 5000, 0o600, "is larger than 4096 bytes"),
        (b"s" * 40, 0o640, "is open to others; run: chmod 600"),
        (b"s" * 40, 0o604, "is open to others; run: chmod 600"),
    ],
)
def test_a_bad_secret_is_refused_by_its_key(
    tmp_path: Path, content: bytes, mode: int, words: str
) -> None:
    path = key_file(tmp_path / "secret", content, mode)
    with pytest.raises(ConfigError) as caught:
        read_secret(path, "auth.secret_file")
    assert caught.value.message.startswith("auth.secret_file: ")
    assert words in caught.value.message
    assert "sss" not in caught.value.message


def test_the_key_files_of_a_config(config_file: Path, tmp_path: Path) -> None:
    config = load_with(
        config_file,
        HOODY_AUTH__SECRET_FILE=str(tmp_path / "secret"),
        HOODY_AUTH__SEALING_KEY_FILE=str(tmp_path / "sealing"),
    )
    with pytest.raises(ConfigError, match=r"auth.secret_file: .* does not exist; run: hoodyd init"):
        read_token_secret(config)
    raw = b"\n" * 31 + b" "
    key_file(tmp_path / "sealing", raw)
    assert read_sealing_key(config) == raw
    key_file(tmp_path / "sealing", os.urandom(33))
    with pytest.raises(ConfigError, match=r"auth.sealing_key_file: .* exactly 32 bytes"):
        read_sealing_key(config)
