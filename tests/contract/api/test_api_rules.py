"""A container's rules: kept in their order, taken over by a copy's flags alone, left by a sync.
What is wrong in a rule is tested in `test_api_rest.py`."""

from __future__ import annotations

from typing import Any

import pytest

from daemon.model import Container, JobType
from tests.contract.api.api_world import Api

Rule = dict[str, Any]

ANY: Rule = {"ports": None, "cidr": None, "comment": None}
FIREWALL: list[Rule] = [
    ANY | {"direction": "in", "action": "allow", "protocol": "tcp", "ports": "22"},
    ANY | {"direction": "in", "action": "deny", "protocol": "any", "cidr": "10.0.0.0/8"},
    ANY | {"direction": "out", "action": "deny", "protocol": "udp", "ports": "8000-8100"},
    ANY | {"direction": "out", "action": "allow", "protocol": "icmp", "comment": "ping"},
    ANY | {"direction": "in", "action": "deny", "protocol": "tcp", "cidr": "2001:db8::/32"},
]
NETWORK: list[Rule] = [
    {"type": "forward", "protocol": "tcp", "host_port": 8080, "container_port": 80},
    {"type": "forward", "protocol": "udp", "host_port": 8080, "container_port": 53},
]


@pytest.fixture
async def ruled(api: Api) -> Container:
    """A container with rules of both kinds."""
    made = await api.world.container()
    await put(api, made.id, FIREWALL, NETWORK)
    return made


async def put(api: Api, container_id: str, firewall: list[Rule], network: list[Rule]) -> None:
    for kind, rules in (("firewall", firewall), ("network", network)):
        path = f"/containers/{container_id}/{kind}-rules"
        assert (await api.put(path, {"rules": rules})).data == {"rules": rules}


async def rules(api: Api, container_id: str) -> tuple[list[Rule], list[Rule]]:
    """The firewall's and the network's."""
    path = f"/containers/{container_id}"
    firewall = (await api.get(f"{path}/firewall-rules")).data["rules"]
    return firewall, (await api.get(f"{path}/network-rules")).data["rules"]


async def test_they_stay_as_they_were_given(api: Api, ruled: Container) -> None:
    assert await rules(api, ruled.id) == (FIREWALL, NETWORK)
    await put(api, ruled.id, FIREWALL[::-1], [])
    assert await rules(api, ruled.id) == (FIREWALL[::-1], [])


async def test_what_was_left_out_is_shown_as_null(api: Api, ruled: Container) -> None:
    short = {"direction": "in", "action": "deny", "protocol": "any"}
    path = f"/containers/{ruled.id}/firewall-rules"
    assert (await api.put(path, {"rules": [short]})).data == {"rules": [ANY | short]}
    assert (await api.put(path, {"rules": [ANY | short]})).data == {"rules": [ANY | short]}


@pytest.mark.parametrize("firewall", [True, False, None])
@pytest.mark.parametrize("network", [True, False, None])
async def test_a_copy_takes_those_that_its_flags_name(
    firewall: bool | None, network: bool | None, api: Api, ruled: Container
) -> None:
    body = {
        "target_project_id": api.world.home.id,
        "copy_firewall_rules": firewall,
        "copy_network_rules": network,
    }
    copied = (await api.post(f"/containers/{ruled.id}/copy", body)).data
    assert copied["copy_firewall_rules"] is bool(firewall)
    assert copied["copy_network_rules"] is bool(network)
    taken = (FIREWALL if firewall else [], NETWORK if network else [])
    assert await rules(api, copied["id"]) == taken
    # They are its own from now on, on both sides.
    await put(api, ruled.id, [], [])
    assert await rules(api, copied["id"]) == taken
    await put(api, copied["id"], FIREWALL[:1], NETWORK[:1])
    assert await rules(api, ruled.id) == ([], [])


async def test_a_sync_leaves_them_alone(api: Api, ruled: Container) -> None:
    copied = await api.world.copy_of(ruled, network_rules=tuple(NETWORK))
    own = (FIREWALL[2:], NETWORK[1:])
    await put(api, copied.id, *own)
    assert (await api.post(f"/containers/{copied.id}/sync")).status == 200
    assert (await api.world.the_job()).type is JobType.SYNC
    assert await rules(api, copied.id) == own
    assert await rules(api, ruled.id) == (FIREWALL, NETWORK)


async def test_a_port_of_a_server_leads_to_one_container(api: Api, ruled: Container) -> None:
    other = await api.world.container("other")
    path = f"/containers/{other.id}/network-rules"
    taken = NETWORK[1] | {"container_port": 9}
    refused = await api.put(path, {"rules": [NETWORK[0] | {"host_port": 8081}, taken]})
    assert refused.refusal == (409, "HOST_PORT_IN_USE")
    assert refused.body["details"] == {"host_port": "udp/8080"}
    assert await rules(api, other.id) == ([], [])
    # Another protocol's port, or another server's, is another port.
    free = {"type": "forward", "protocol": "udp", "host_port": 8081, "container_port": 53}
    assert (await api.put(path, {"rules": [free]})).status == 200
    away = await api.world.container("away", server_id=api.world.there.id)
    await put(api, away.id, [], NETWORK)


async def test_what_a_copy_brought_along_may_stay(api: Api, ruled: Container) -> None:
    copied = await api.world.copy_of(ruled, network_rules=tuple(NETWORK))
    await put(api, copied.id, [], NETWORK)
    await put(api, copied.id, FIREWALL, NETWORK[:1])
    path = f"/containers/{copied.id}/network-rules"
    assert (await api.put(path, {"rules": NETWORK})).refusal == (409, "HOST_PORT_IN_USE")
