"""The kinds of values that settings have, each with the sentence said when a value is wrong."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass
from typing import Annotated, Literal
from urllib.parse import parse_qs, urlsplit

from pydantic import AfterValidator, BeforeValidator, Field


@dataclass(frozen=True, slots=True)
class Address:
    """A host and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def parse_address(text: str) -> Address:
    """`host:port`, IPv6 hosts in brackets. Raises ValueError."""
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = str(ipaddress.IPv6Address(host[1:-1]))
    elif ":" in host:
        raise ValueError("must be host:port, an IPv6 host in brackets")
    if not (colon and host and port.isascii() and port.isdigit() and 1 <= int(port) <= 65535):
        raise ValueError("must be host:port with a port from 1 to 65535")
    return Address(host, int(port))


def is_loopback(address: Address) -> bool:
    """Whether only this machine can reach it."""
    return _is(address.host, "is_loopback") or address.host == "localhost"


def is_wildcard(address: Address) -> bool:
    """Whether it stands for every address of the machine, and so cannot be dialled."""
    return _is(address.host, "is_unspecified")


def _is(host: str, quality: str) -> bool:
    try:
        return bool(getattr(ipaddress.ip_address(host), quality))
    except ValueError:
        return False


def _host_port(text: str) -> str:
    try:
        return str(parse_address(text))
    except ipaddress.AddressValueError:
        raise ValueError("must be host:port, an IPv6 host in brackets") from None


def _absolute(path: str) -> str:
    if not os.path.isabs(path) or "\0" in path:
        raise ValueError("must be an absolute path")
    return os.path.normpath(path)


def _network(text: str) -> str:
    try:
        network = ipaddress.IPv4Network(text)
    except ValueError:
        raise ValueError("must be an IPv4 network such as 10.88.0.0/16") from None
    if network.prefixlen > 30:
        raise ValueError("must have an address for the server and one for a container")
    return str(network)


def _compression(value: object) -> object:
    level = isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 19
    if not (level or value in ("auto", "none")):
        raise ValueError("must be 'auto', 'none' or a level from 1 to 19")
    return value


def _database_url(url: str) -> str:
    """SQLite by absolute path, or PostgreSQL; over a network only with a verified certificate."""
    parts = urlsplit(url)
    if parts.scheme == "sqlite":
        if not url.startswith("sqlite:////"):
            raise ValueError("must be sqlite:////absolute/path")
        return url
    if parts.scheme != "postgresql":
        raise ValueError("must begin with sqlite:// or postgresql://")
    query = parse_qs(parts.query)
    host = parts.hostname or query.get("host", ["/"])[0]
    local = host.startswith("/") or is_loopback(Address(host, 1))
    if not local and query.get("sslmode") != ["verify-full"]:
        raise ValueError(f"needs sslmode=verify-full, for {host} is not this machine")
    return url


HostPort = Annotated[str, AfterValidator(_host_port)]
OptionalHostPort = Annotated[str, AfterValidator(lambda text: text and _host_port(text))]
AbsolutePath = Annotated[str, AfterValidator(_absolute)]
OptionalPath = Annotated[str, AfterValidator(lambda text: text and _absolute(text))]
Network = Annotated[str, AfterValidator(_network)]
DatabaseUrl = Annotated[str, AfterValidator(_database_url)]
Compression = Annotated[Literal["auto", "none"] | int, BeforeValidator(_compression)]
Bandwidth = Annotated[int, Field(ge=0)]
