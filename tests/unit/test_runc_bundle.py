"""What runc is told of a container."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from daemon.model import Container, Status, new_id
from daemon.runtime import bundle

ALL = frozenset({"cpu", "memory", "pids", "devices"})

WEB = Container(
    id=new_id(),
    project_id=new_id(),
    owner_id=new_id(),
    server_id=new_id(),
    name="web",
    status=Status.RUNNING,
    command=("/bin/web", "--port", "80"),
)


def told(container: Container = WEB, network: str | None = None) -> Any:
    return bundle.config(container, "/srv/web/1", network, None, ALL)


def namespaces(config: Any) -> dict[str, str | None]:
    return {one["type"]: one.get("path") for one in config["linux"]["namespaces"]}


def test_the_command_is_run_as_it_was_given() -> None:
    config = told()
    assert config["process"]["args"] == ["/bin/web", "--port", "80"]
    assert config["root"] == {"path": "/srv/web/1", "readonly": False}
    assert config["hostname"] == "web"


def test_its_variables_come_over_those_that_every_container_has() -> None:
    given = {"HOME": "/srv", "EMPTY": "", "WITH": "a=b c"}
    env = told(replace(WEB, environment_vars=given))["process"]["env"]
    assert env == [f"PATH={bundle.PATH}", "HOSTNAME=web", "HOME=/srv", "EMPTY=", "WITH=a=b c"]


def test_every_namespace_is_its_own() -> None:
    own = namespaces(told())
    assert own == dict.fromkeys(("pid", "ipc", "uts", "mount", "cgroup", "network"))
    joined = namespaces(told(network="/run/netns/web"))
    assert joined == own | {"network": "/run/netns/web"}


def test_it_can_change_neither_the_machine_nor_its_network() -> None:
    config = told()
    for granted in config["process"]["capabilities"].values():
        assert not {"CAP_SYS_ADMIN", "CAP_NET_ADMIN", "CAP_SYS_MODULE", "CAP_SYS_PTRACE"} & {
            *granted
        }
    assert "/proc/kcore" in config["linux"]["maskedPaths"]
    assert "/proc/sys" in config["linux"]["readonlyPaths"]
    assert config["linux"]["resources"]["devices"] == [{"allow": False, "access": "rwm"}]
    mounts = {mount["destination"]: mount["options"] for mount in config["mounts"]}
    assert "ro" in mounts["/sys"]
    assert "ro" in mounts["/sys/fs/cgroup"]


def test_a_resolv_conf_is_mounted_where_there_is_one_to_mount() -> None:
    plain = told()["mounts"]
    assert "/etc/resolv.conf" not in [mount["destination"] for mount in plain]
    config: Any = bundle.config(WEB, "/srv/web/1", None, "/run/web/resolv.conf", ALL)
    (added,) = (mount for mount in config["mounts"] if mount not in plain)
    assert (added["destination"], added["source"]) == ("/etc/resolv.conf", "/run/web/resolv.conf")
    assert "bind" in added["options"]


LIMITED = replace(WEB, resources={"cpu_cores": 1.5, "memory_bytes": 64 << 20, "pids": 100})


@pytest.mark.parametrize(
    ("controllers", "limits", "unheld"),
    [
        (
            {"cpu", "memory", "pids"},
            {
                "cpu": {"quota": 150_000, "period": 100_000},
                "memory": {"limit": 64 << 20},
                "pids": {"limit": 100},
            },
            [],
        ),
        ({"cpuset", "pids"}, {"pids": {"limit": 100}}, ["cpu_cores", "memory_bytes"]),
        (set(), {}, ["cpu_cores", "memory_bytes", "pids"]),
    ],
)
def test_limits_are_those_that_the_machine_can_hold(
    controllers: set[str], limits: dict[str, object], unheld: list[str]
) -> None:
    config: Any = bundle.config(LIMITED, "/srv/web/1", None, None, controllers)
    resources = dict(config["linux"]["resources"])
    del resources["devices"]
    assert resources == limits
    assert bundle.unheld(LIMITED, controllers) == unheld


def test_without_limits_none_are_set_and_none_are_missed() -> None:
    assert list(told()["linux"]["resources"]) == ["devices"]
    assert bundle.unheld(WEB, set()) == []
