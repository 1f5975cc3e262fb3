"""What runc is told of a container: its `config.json`, by the OCI runtime specification 1.0.2
(https://github.com/opencontainers/runtime-spec). Pure.

Capabilities and the paths of /proc and /sys that are masked or read-only are those that Docker
gives to a container that nobody has said anything about (moby, oci/defaults.go).
"""

from __future__ import annotations

from collections.abc import Set
from typing import cast

from daemon.model import Container, Json

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
CPU_PERIOD_MICROSECONDS = 100_000

_CAPABILITIES = (
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
)
_MASKED = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
)
_READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

_NO_DEVICES: Json = {
    "devices": [{"allow": False, "access": "rwm"}]
}  # runc adds those of every container

_SAFE = ("nosuid", "noexec", "nodev")
_MOUNTS = (
    ("/proc", "proc", "proc", _SAFE),
    ("/dev", "tmpfs", "tmpfs", ("nosuid", "strictatime", "mode=755", "size=65536k")),
    (
        "/dev/pts",
        "devpts",
        "devpts",
        ("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"),
    ),
    ("/dev/shm", "tmpfs", "shm", (*_SAFE, "mode=1777", "size=65536k")),  # noqa: S108 - its own
    ("/dev/mqueue", "mqueue", "mqueue", _SAFE),
    ("/sys", "sysfs", "sysfs", (*_SAFE, "ro")),
    ("/sys/fs/cgroup", "cgroup", "cgroup", (*_SAFE, "relatime", "ro")),
)

LIMITS = {"cpu_cores": "cpu", "memory_bytes": "memory", "pids": "pids"}
"""The controller of cgroups that holds each of a container's `resources`."""


def cgroup_path(container_id: str) -> str:
    """Where a container's cgroup lies, in each hierarchy: at the top, and not in the daemon's,
    so that no limit and no end of that is the container's."""
    return f"/hoody-{container_id}"


def config(
    container: Container,
    rootfs: str,
    network: str | None,
    resolver: str | None,
    controllers: Set[str],
) -> Json:
    """The container's `config.json`. `network` is the path of the network namespace to join, None
    for an empty one of its own; `resolver` that of a file to mount over its resolv.conf. A limit
    without its controller of cgroups is left out; `unheld` names it."""
    assert container.command is not None  # noqa: S101 - without one nothing is started
    return {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": False,
            "user": {"uid": 0, "gid": 0},
            "args": list(container.command),
            "env": _environment(container),
            "cwd": "/",
            "capabilities": {
                kind: list(_CAPABILITIES) for kind in ("bounding", "effective", "permitted")
            },
            "noNewPrivileges": False,
        },
        "root": {"path": rootfs, "readonly": False},
        "hostname": container.name,
        "mounts": [
            {"destination": at, "type": kind, "source": source, "options": list(options)}
            for at, kind, source, options in (*_MOUNTS, *_resolver_mounts(resolver))
        ],
        "linux": {
            "cgroupsPath": cgroup_path(container.id),
            "resources": _NO_DEVICES | _limits(container.resources, controllers),
            "namespaces": _namespaces(network),
            "maskedPaths": list(_MASKED),
            "readonlyPaths": list(_READ_ONLY),
        },
    }


def unheld(container: Container, controllers: Set[str]) -> list[str]:
    """The limits of a container that a machine with these controllers cannot hold."""
    return [name for name in container.resources if LIMITS.get(name) not in controllers]


def _resolver_mounts(path: str | None) -> list[tuple[str, str, str, tuple[str, ...]]]:
    return [] if path is None else [("/etc/resolv.conf", "bind", path, ("bind", *_SAFE))]


def _environment(container: Container) -> list[str]:
    given = {"PATH": PATH, "HOSTNAME": container.name, "HOME": "/root"}
    return [f"{name}={value}" for name, value in (given | container.environment_vars).items()]


def _namespaces(network: str | None) -> list[Json]:
    kinds: list[Json] = [{"type": kind} for kind in ("pid", "ipc", "uts", "mount", "cgroup")]
    joined: Json = {"type": "network"}
    if network is not None:
        joined["path"] = network
    return [*kinds, joined]


def _limits(resources: Json, controllers: Set[str]) -> Json:
    limits: Json = {}
    given = {name: value for name, value in resources.items() if LIMITS.get(name) in controllers}
    if "cpu_cores" in given:
        quota = int(cast("float", given["cpu_cores"]) * CPU_PERIOD_MICROSECONDS)
        limits["cpu"] = {"quota": quota, "period": CPU_PERIOD_MICROSECONDS}
    if "memory_bytes" in given:
        limits["memory"] = {"limit": given["memory_bytes"]}
    if "pids" in given:
        limits["pids"] = {"limit": given["pids"]}
    return limits
