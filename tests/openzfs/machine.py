"""A machine under emulation, from the image: one, or two with a private link between them.

Its disks are layers over what they start from, in its working folder. It reaches nothing but the
other machine (`node1` and `node2` to each other), and is reached by ssh through a port of this
host that qemu chooses.
"""

from __future__ import annotations

import json
import re
import shlex
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from tests.openzfs.debian import do
from tests.openzfs.image import KEY_FILE
from transfer import command

BOOT_SECONDS = 300.0
MONITOR_SECONDS = 120.0
STOP_SECONDS = 10.0
POLL_SECONDS = 0.1
MEMORY_MIB = 3072  # its /dev/shm, where tests make their pools, is half of it
BLANK_BYTES = 4 << 30
TAIL_BYTES = 4000
_SAVED = "saved"
_PROCESSOR = ("-accel", "tcg,thread=multi,tb-size=1024", "-cpu", "Westmere", "-smp", "1")
_BARE = ("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot")
# A busy host makes the guest measure its TSC wrongly; its clock would run fast by half then.
# With its processes at random addresses, each of them would be translated anew.
_KERNEL = (
    "console=ttyS0 quiet loglevel=4 panic=-1 mitigations=off nokaslr audit=0 "
    "random.trust_cpu=on cryptomgr.notests no_timer_check tsc=unstable norandmaps"
)


class MachineFailed(Exception):
    """The machine does not start or has ended; the message has its console's end."""


class Machine:
    """One machine: `start` (or `boot`) it, `run` commands in it, `stop` it.

    `disks` are further disks to start from. The two blank ones are /dev/vdb and /dev/vdc.
    """

    def __init__(
        self, image: Path, work: Path, number: int = 1, disks: Sequence[Path] = ()
    ) -> None:
        self._image = image
        self._links = work
        self._work = work / f"node{number}"
        self._number = number
        self._starts = (image / "root.qcow2", None, None, *disks)
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0

    def __enter__(self) -> Machine:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def console(self) -> str:
        """The end of what the machine has said on its console."""
        data = (self._work / "console.log").read_bytes()
        return data[-TAIL_BYTES:].decode(errors="replace")

    def start(self) -> None:
        """Boots with new disks. Raises MachineFailed."""
        self._work.mkdir()
        create = ("qemu-img", "create", "-q", "-f", "qcow2")
        for number, base in enumerate(self._starts):
            if base is None:
                do(*create, self._disk(number), str(BLANK_BYTES))
            else:
                do(*create, "-F", "qcow2", "-b", base.resolve(), self._disk(number))
        self.boot()

    def boot(self) -> None:
        """Boots with the disks as they are, as after a `crash`. Raises MachineFailed."""
        (self._work / "console.log").write_bytes(b"")
        self._process = command.start_server(self._argv())
        deadline = time.monotonic() + BOOT_SECONDS
        while "vm: ready" not in self.console:
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise MachineFailed(f"node{self._number} does not start:\n{self.console}")
            time.sleep(POLL_SECONDS)
        self._port = self._forwarded_port()

    def argv(self, shell_command: str, *forwards: str) -> list[str]:
        """What runs a shell command in the machine, as root; `forwards` are options of ssh."""
        settings = (
            *("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR"),
            *("IdentitiesOnly=yes", "ServerAliveInterval=30", "ServerAliveCountMax=10"),
        )
        options = [part for setting in settings for part in ("-o", setting)]
        where = ["-i", str(self._image / KEY_FILE), "-p", str(self._port), "root@127.0.0.1"]
        return ["ssh", "-n", "-F", "none", *options, *forwards, *where, shell_command]

    def run(self, *argv: str, seconds: float) -> str:
        """Runs a command in the machine, to its end; returns what it prints on stdout.

        Raises CalledProcessError, TimeoutExpired."""
        ran = subprocess.run(
            self.argv(shlex.join(argv)), capture_output=True, text=True, timeout=seconds, check=True
        )
        return ran.stdout

    def save(self) -> None:
        """Keeps disks and memory as they are now."""
        self._tell(f"savevm {_SAVED}")

    def reset(self) -> None:
        """Back to what was saved, in two seconds; open connections are dead, the clock is old."""
        self._tell(f"loadvm {_SAVED}")

    def crash(self) -> None:
        """A power cut: what was not on its disks is lost."""
        if self._process is not None:
            self._tell("quit")  # a qemu that is killed loses of its files what the disks have
            self._process.wait(STOP_SECONDS)
            self._process = None

    def stop(self) -> None:
        """Ends it; nothing of it is kept."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(STOP_SECONDS)
            self._process = None

    def _disk(self, number: int) -> Path:
        return self._work / f"disk{number}.qcow2"

    def _argv(self) -> list[str]:
        peer = 3 - self._number
        here, there = (self._links / f"link{number}" for number in (self._number, peer))
        monitor = self._work / "monitor"
        for left in (here, monitor):
            left.unlink(missing_ok=True)
        drives = [
            f"file={self._disk(number)},if=virtio,cache=unsafe"
            for number in range(len(self._starts))
        ]
        link = f"local.type=unix,local.path={here},remote.type=unix,remote.path={there}"
        card = "virtio-net-pci,romfile="
        return [
            *("qemu-system-x86_64", *_PROCESSOR, *_BARE, "-machine", "q35,usb=off,vmport=off"),
            *("-m", str(MEMORY_MIB), "-device", "virtio-rng-pci"),
            *("-kernel", str(self._image / "vmlinuz"), "-initrd", str(self._image / "initrd.img")),
            *("-append", f"{_KERNEL} vm.number={self._number}"),
            *(part for drive in drives for part in ("-drive", drive)),
            *("-netdev", "user,id=host,restrict=on,ipv6=off,hostfwd=tcp:127.0.0.1:0-:22"),
            *("-device", f"{card},netdev=host", "-netdev", f"dgram,id=link,{link}"),
            *("-device", f"{card},netdev=link,mac=52:54:00:77:00:0{self._number},host_mtu=9000"),
            *("-serial", f"file:{self._work / 'console.log'}"),
            *("-qmp", f"unix:{monitor},server=on,wait=off"),
        ]

    def _forwarded_port(self) -> int:
        said = self._ask("info usernet")
        found = re.search(r"HOST_FORWARD\S*\s+\d+\s+127\.0\.0\.1\s+(\d+)", said)
        if found is None:
            raise MachineFailed(f"qemu does not say the port of ssh: {said}")
        return int(found[1])

    def _tell(self, order: str) -> None:
        said = self._ask(order)
        if said:
            raise MachineFailed(f"{order}: {said}")

    def _ask(self, order: str) -> str:
        """What qemu's monitor answers."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(MONITOR_SECONDS)
            connection.connect(str(self._work / "monitor"))
            with connection.makefile("rw", encoding="utf-8") as lines:
                lines.readline()  # its greeting
                orders = {"qmp_capabilities": {}, "human-monitor-command": {"command-line": order}}
                for execute, arguments in orders.items():
                    lines.write(json.dumps({"execute": execute, "arguments": arguments}))
                    lines.flush()
                    # What happens in the machine is told in between.
                    while "event" in (answer := json.loads(lines.readline())):
                        pass
        return str(answer["return"])
