"""The configuration: one TOML file, every key also as `HOODY_SECTION__KEY` in the environment.

`load` is the one way in. A `Config` that exists is valid: types are exact, unknown keys are
errors, and the rules that span several keys hold. What is wrong is told in one line that begins
with the key. `Limits` names the bounds that nobody configures.
"""

from __future__ import annotations

import os
import re
import socket
import tomllib
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from daemon.config_types import (
    AbsolutePath,
    Address,
    Bandwidth,
    Compression,
    DatabaseUrl,
    HostPort,
    Network,
    OptionalHostPort,
    OptionalPath,
    is_loopback,
    is_wildcard,
    parse_address,
)
from daemon.errors import ConfigError

DEFAULT_PATH = "/etc/hoody/hoodyd.toml"
SERVER_ID_FILE = "server_id"
_ENVIRONMENT = re.compile(r"HOODY_([A-Z]+)__([A-Z_]+)")
_SERVER_ID = re.compile(r"[0-9a-f]{24}")
_SERVER_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")

# What pydantic found, in the words of somebody who edits the file.
_SENTENCES = {
    "bool_type": "must be true or false",
    "extra_forbidden": "unknown key",
    "finite_number": "must be a finite number",
    "float_type": "must be a number",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "int_type": "must be a whole number",
    "less_than_equal": "must be at most {le}",
    "literal_error": "must be {expected}",
    "model_type": "must be a table",
    "string_too_long": "must have at most {max_length} characters",
    "string_too_short": "must have at least {min_length} characters",
    "string_type": "must be text",
    "tuple_type": "must be a list",
    "value_error": "{error}",
}

Count = Annotated[int, Field(ge=1, le=1_000_000)]
Seconds = Annotated[float, Field(gt=0, le=10_000_000)]


class Limits:
    """Bounds that are part of the design and not of an operator's choice."""

    config_bytes: ClassVar[int] = 1 << 20
    secret_bytes_min: ClassVar[int] = 32
    secret_bytes_max: ClassVar[int] = 4096
    sealing_key_bytes: ClassVar[int] = 32
    token_seconds_max: ClassVar[int] = 2_678_400
    missed_heartbeats: ClassVar[int] = 3


def _server_id(text: str) -> str:
    if text and not _SERVER_ID.fullmatch(text):
        raise ValueError("must be 24 lower-case hex digits")
    return text


def _server_name(text: str) -> str:
    if not _SERVER_NAME.fullmatch(text):
        raise ValueError("must be 1 to 63 of a-z, 0-9 and '-', as in a host name")
    return text


def _host_name() -> str:
    """This machine's name, as far as it can stand in a host name."""
    label = re.sub(r"[^a-z0-9-]+", "-", socket.gethostname().split(".")[0].lower())
    return label[:63].strip("-") or "server"


class Section(BaseModel):
    """A table of the file: exact types, no unknown key, never changed."""

    model_config = ConfigDict(
        strict=True, frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True
    )


class ServerSection(Section):
    """Who this server is and where its API listens. `id` is empty before `hoodyd init`."""

    id: Annotated[str, AfterValidator(_server_id)] = ""
    name: Annotated[str, AfterValidator(_server_name)] = Field(default_factory=_host_name)
    listen: HostPort = "127.0.0.1:8470"
    metrics_listen: OptionalHostPort = ""
    tls_cert: OptionalPath = ""
    tls_key: OptionalPath = ""
    behind_proxy: bool = False
    state_dir: AbsolutePath = "/var/lib/hoody"
    domain: Annotated[str, Field(min_length=1, max_length=253)] = "containers.example"
    country: str = ""
    country_name: str = ""
    city: str = ""
    region: str = ""
    datacenter: str = ""
    is_free: bool = False
    disk_gb: Annotated[int, Field(ge=0)] = 0
    max_containers: Count = 100


class PeerSection(Section):
    """Where other servers reach this one. `advertise` is never empty in a loaded config."""

    listen: HostPort = "0.0.0.0:8471"
    advertise: OptionalHostPort = ""


class StorageSection(Section):
    """The backend that holds the containers' filesystems."""

    backend: Literal["zfs", "dir"] = "zfs"
    root: Annotated[str, Field(min_length=1)] = "tank/hoody"
    mount_root: AbsolutePath = "/srv/hoody"
    import_roots: Annotated[tuple[AbsolutePath, ...], Field(strict=False)] = ()


class DatabaseSection(Section):
    """The catalogue."""

    url: DatabaseUrl = "sqlite:////var/lib/hoody/hoody.db"


class AuthSection(Section):
    """How tokens are checked, and the key that seals generated private keys."""

    algorithm: Literal["HS256", "EdDSA", "ES256", "RS256"] = "HS256"
    secret_file: AbsolutePath = "/etc/hoody/jwt.secret"  # noqa: S105 - a path, no secret
    public_key_file: OptionalPath = ""
    sealing_key_file: AbsolutePath = "/etc/hoody/sealing.key"
    audience: str = ""


class RuntimeSection(Section):
    """What runs inside the containers."""

    driver: Literal["none", "runc"] = "none"
    network: Network = "10.88.0.0/16"


class TransferSection(Section):
    """How bytes move, and how long bases are kept."""

    max_concurrent: Annotated[int, Field(ge=1, le=64)] = 4
    exporters: Annotated[int, Field(ge=1, le=64)] = 2
    compression: Compression = "auto"
    bandwidth_limit_bytes_per_second: Bandwidth = 0
    stall_seconds: Seconds = 120
    base_ttl_days: Annotated[float, Field(gt=0, le=3650)] = 30
    collect_grace_seconds: Annotated[float, Field(ge=0, le=10_000_000)] = 600


class TimingSection(Section):
    """The rhythm of the service. A server is offline after three missed heartbeats."""

    heartbeat_seconds: Seconds = 5
    server_lost_seconds: Seconds = 600
    retry_attempts: Count = 8
    retry_seconds: Seconds = 1800
    sweep_seconds: Seconds = 60


class LimitsSection(Section):
    """What one user or request may ask for."""

    body_bytes: Annotated[int, Field(ge=1024, le=1 << 30)] = 1 << 20
    jobs_per_user: Count = 200
    requests_per_minute: Count = 1200
    streams_per_user: Count = 8
    snapshots_per_container: Count = 1000


class LogSection(Section):
    """How the daemon logs, always to standard error."""

    format: Literal["json", "console"] = "json"
    level: Literal["debug", "info", "warning", "error"] = "info"


class Config(Section):
    """The whole file."""

    server: ServerSection = ServerSection()
    peer: PeerSection = PeerSection()
    storage: StorageSection = StorageSection()
    database: DatabaseSection = DatabaseSection()
    auth: AuthSection = AuthSection()
    runtime: RuntimeSection = RuntimeSection()
    transfer: TransferSection = TransferSection()
    timing: TimingSection = TimingSection()
    limits: LimitsSection = LimitsSection()
    log: LogSection = LogSection()

    @property
    def listen(self) -> Address:
        """Where the REST API listens."""
        return parse_address(self.server.listen)

    @property
    def metrics_listen(self) -> Address | None:
        """Where /metrics is served instead; None where it is with the API."""
        given = self.server.metrics_listen
        return parse_address(given) if given and given != self.server.listen else None

    @property
    def peer_listen(self) -> Address:
        """Where exporters listen."""
        return parse_address(self.peer.listen)

    @property
    def peer_key_file(self) -> str:
        """This server's ed25519 private key, OpenSSH format: host key and client key alike."""
        return os.path.join(self.server.state_dir, "peer_key")


def load(path: str, environ: Mapping[str, str]) -> Config:
    """Reads the file, lays the environment over it, checks it, and fills in what follows from it:
    `server.id` from the state directory and `peer.advertise` from `peer.listen`.

    Raises ConfigError with one line that begins with the key.
    """
    tables = _read_toml(path)
    variables: dict[tuple[str, str], str] = {}
    for name, text in sorted(environ.items()):
        if match := _ENVIRONMENT.fullmatch(name):
            section, key = match[1].lower(), match[2].lower()
            table = tables.setdefault(section, {})
            if isinstance(table, dict):
                table[key] = _environment_value(section, key, text)
                variables[section, key] = name
    try:
        config = Config.model_validate(tables)
    except ValidationError as error:
        fault = error.errors()[0]
        raise ConfigError(_one_line(fault) + _origin(fault, variables)) from None
    _check_across(config)
    return _complete(config)


def server_facts(config: Config) -> dict[str, object]:
    """What the API shows of `[server]` beside name and domain."""
    shown = {"country", "country_name", "city", "region", "datacenter", "is_free", "disk_gb"}
    return config.server.model_dump(include=shown)


def _read_toml(path: str) -> dict[str, object]:
    try:
        with open(path, "rb") as file:
            content = file.read(Limits.config_bytes + 1)
    except FileNotFoundError:
        raise ConfigError(f"config: {path} does not exist; run: hoodyd init") from None
    except OSError as error:
        raise ConfigError(f"config: cannot read {path}: {error.strerror}") from None
    if len(content) > Limits.config_bytes:
        raise ConfigError(f"config: {path} is larger than {Limits.config_bytes} bytes")
    try:
        return tomllib.loads(content.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"config: {path} is no TOML: {error}") from None


def _environment_value(section: str, key: str, text: str) -> object:
    """Text stays text where the key is a string; else it is read as TOML writes a value."""
    part = Config.model_fields.get(section)
    model = part.annotation if part else None
    field = model.model_fields.get(key) if isinstance(model, type(Section)) else None
    if field is not None and field.annotation is str:
        return text
    try:
        parsed = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return parsed["value"] if len(parsed) == 1 else text


def _one_line(error: ErrorDetails) -> str:
    """pydantic's report as `section.key: what must be`."""
    key = ".".join(str(part) for part in error["loc"][:2]) or "config"
    sentence = _SENTENCES.get(error["type"])
    if sentence is not None:
        context = {name: _plain(value) for name, value in error.get("ctx", {}).items()}
        return f"{key}: {sentence.format(**context)}"
    return f"{key}: {error['msg'][0].lower()}{error['msg'][1:]}"


def _origin(error: ErrorDetails, variables: Mapping[tuple[str, str], str]) -> str:
    """Which variable is at fault, where it is none of the file's keys."""
    at = error["loc"][:2]
    variable = next((name for keys, name in variables.items() if keys[: len(at)] == at), None)
    if variable is None:
        return ""
    return f" (from the environment: mend {variable}, then run: hoodyd check-config)"


def _plain(value: object) -> object:
    """A limit as people write it: 0, not 0.0."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _check_across(config: Config) -> None:
    """The rules that span several keys."""
    server, storage, timing = config.server, config.storage, config.timing
    if bool(server.tls_cert) != bool(server.tls_key):
        given, missing = ("tls_cert", "tls_key") if server.tls_cert else ("tls_key", "tls_cert")
        raise ConfigError(f"server.{missing}: must be given together with server.{given}")
    if not (server.tls_cert or server.behind_proxy or is_loopback(config.listen)):
        raise ConfigError(
            "server.listen: is not loopback; give server.tls_cert and server.tls_key, "
            "or set server.behind_proxy"
        )
    if not config.peer.advertise and is_wildcard(config.peer_listen):
        raise ConfigError("peer.advertise: must be given, for peer.listen is a wildcard")
    if config.peer.advertise and is_wildcard(parse_address(config.peer.advertise)):
        raise ConfigError("peer.advertise: must be an address that other servers can dial")
    if storage.backend == "dir" and not os.path.isabs(storage.root):
        raise ConfigError("storage.root: must be an absolute path")
    if storage.backend == "zfs" and not re.fullmatch(r"[A-Za-z][\w.:-]*(/[\w.:-]+)*", storage.root):
        raise ConfigError("storage.root: must be the name of a ZFS dataset")
    if config.auth.algorithm != "HS256" and not config.auth.public_key_file:
        raise ConfigError(f"auth.public_key_file: must be given for {config.auth.algorithm}")
    if timing.server_lost_seconds <= Limits.missed_heartbeats * timing.heartbeat_seconds:
        raise ConfigError("timing.server_lost_seconds: must be more than three heartbeats")


def _complete(config: Config) -> Config:
    made = _made_server_id(config)
    if config.server.id and made and config.server.id != made:
        raise ConfigError(
            f"server.id: is {config.server.id}, but {config.server.state_dir} belongs to {made}"
        )
    server = config.server.model_copy(update={"id": config.server.id or made})
    advertise = config.peer.advertise or config.peer.listen
    peer = config.peer.model_copy(update={"advertise": advertise})
    return config.model_copy(update={"server": server, "peer": peer})


def _made_server_id(config: Config) -> str:
    path = os.path.join(config.server.state_dir, SERVER_ID_FILE)
    try:
        with open(path, encoding="ascii") as file:
            found = file.read(64).strip()
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"server.state_dir: cannot read {path}: {error}") from None
    if not _SERVER_ID.fullmatch(found):
        raise ConfigError(f"server.state_dir: {path} holds no server id")
    return found
