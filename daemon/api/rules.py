"""A container's firewall and network rules: validated and kept; `daemon.network` carries them out.
They are copied only by a copy's flags."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from daemon.api.access import require, visible_container
from daemon.api.errors import HostPortInUse
from daemon.api.fields import Fields, Line, Nothing, documented
from daemon.api.routing import Answer, AnyRoute, Call, Plain, Route
from daemon.auth import Scope
from daemon.model import Container, Json, now
from daemon.store import containers
from daemon.store.database import Tx
from daemon.verbs import Verb

RULES_MAX = 256
_PORTS = re.compile(r"([1-9][0-9]{0,4})(?:-([1-9][0-9]{0,4}))?")


def _ports(text: str) -> str:
    match = _PORTS.fullmatch(text)
    if match is None:
        raise ValueError("must be a port or a range such as 8000-8100")
    first, last = int(match[1]), int(match[2] or match[1])
    if not first <= last <= 65535:
        raise ValueError("must go upwards, to 65535 at most")
    return text


def _cidr(text: str) -> str:
    try:
        return str(ipaddress.ip_network(text))
    except ValueError as error:
        raise ValueError(f"must be a network such as 10.0.0.0/8: {error}") from None


Port = Annotated[int, Field(ge=1, le=65535)]


class FirewallRule(Fields):
    """What to do with packets that match; None matches all."""

    direction: Literal["in", "out"]
    action: Literal["allow", "deny"]
    protocol: Literal["tcp", "udp", "icmp", "any"]
    ports: Annotated[str, AfterValidator(_ports), documented(_PORTS.pattern)] | None = None
    cidr: Annotated[str, AfterValidator(_cidr)] | None = None
    comment: Annotated[Line, Field(max_length=200)] | None = None

    @model_validator(mode="after")
    def _icmp_has_no_ports(self) -> Self:
        if self.protocol == "icmp" and self.ports is not None:
            raise ValueError("icmp has no ports")
        return self


class FirewallBody(Fields):
    """All rules; the first that matches wins, what matches none is allowed."""

    rules: Annotated[list[FirewallRule], Field(max_length=RULES_MAX)]


class NetworkRule(Fields):
    """Packets to a port of the server go to a port of the container."""

    type: Literal["forward"]
    protocol: Literal["tcp", "udp"]
    host_port: Port
    container_port: Port


class NetworkBody(Fields):
    """All rules; a port of the server goes to one place."""

    rules: Annotated[list[NetworkRule], Field(max_length=RULES_MAX)]

    @model_validator(mode="after")
    def _one_target_a_port(self) -> Self:
        if len({(rule.protocol, rule.host_port) for rule in self.rules}) < len(self.rules):
            raise ValueError("two rules forward one host_port")
        return self


async def get_firewall(call: Plain) -> Answer:
    """The firewall rules, in their order."""
    async with call.deps.db.read() as tx:
        found = await visible_container(tx, call.caller, call.id)
    return Answer({"rules": list(found.firewall_rules)}, "Firewall rules retrieved successfully")


async def put_firewall(call: Call[FirewallBody, Nothing]) -> Answer:
    """Replaces all firewall rules."""
    rules = await _put(call, "firewall_rules", call.body.model_dump()["rules"])
    return Answer({"rules": rules}, "Firewall rules updated successfully")


async def get_network(call: Plain) -> Answer:
    """The network rules, in their order."""
    async with call.deps.db.read() as tx:
        found = await visible_container(tx, call.caller, call.id)
    return Answer({"rules": list(found.network_rules)}, "Network rules retrieved successfully")


async def put_network(call: Call[NetworkBody, Nothing]) -> Answer:
    """Replaces all network rules."""
    rules = await _put(call, "network_rules", call.body.model_dump()["rules"])
    return Answer({"rules": rules}, "Network rules updated successfully")


async def _put(
    call: Call[FirewallBody, Nothing] | Call[NetworkBody, Nothing], column: str, rules: list[Json]
) -> list[Json]:
    async with call.deps.db.write() as tx:
        found = await visible_container(tx, call.caller, call.id)
        require(found, Verb.EDIT)
        await _check_ports(tx, found, _host_ports(rules))
        changed = {column: tuple(rules), "updated_at": now()}
        await containers.change(tx, found.id, **changed)
    return rules


async def _check_ports(tx: Tx, container: Container, ports: set[str]) -> None:
    """A port of a server leads to one container. Where that is not so, as after a copy with its
    source's rules, they may stay: the container that comes second does not start."""
    added = ports - _host_ports(container.network_rules)
    if not added:
        return
    for other in await containers.on_server(tx, container.server_id):
        taken = added & _host_ports(other.network_rules)
        if taken and other.id != container.id:
            raise HostPortInUse(details={"host_port": ", ".join(sorted(taken))})


def _host_ports(rules: Iterable[Json]) -> set[str]:
    """The ports of the server that rules forward; firewall rules forward none."""
    return {f"{rule['protocol']}/{rule['host_port']}" for rule in rules if "host_port" in rule}


_FIREWALL = "/containers/{id}/firewall-rules"
_NETWORK = "/containers/{id}/network-rules"

ROUTES: tuple[AnyRoute, ...] = (
    Route("GET", _FIREWALL, Scope.READ, get_firewall, Nothing, Nothing),
    Route("PUT", _FIREWALL, Scope.CONTAINERS, put_firewall, FirewallBody, Nothing),
    Route("GET", _NETWORK, Scope.READ, get_network, Nothing, Nothing),
    Route("PUT", _NETWORK, Scope.CONTAINERS, put_network, NetworkBody, Nothing),
)
