"""What operators install: staged, moved to its place and run there, and held against systemd's own
tools."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from daemon.config import load
from daemon.config_default import default_toml
from daemon.store.database import WAIT_SECONDS
from tests.integration.command_line import ROOT

SYSTEMD = ROOT / "systemd"
SECONDS_MAX = 500
BREAKS = {"NoNewPrivileges", "SystemCallFilter", "MemoryDenyWriteExecute", "RestrictSUIDSGID"}
HIDES = {"PrivateMounts", "PrivateTmp", "ProtectSystem", "ProtectHome", "ReadOnlyPaths"}
PROMISED = {
    "Type": "notify",
    "NotifyAccess": "main",  # no child speaks for the daemon
    "Restart": "on-failure",
    "RestartPreventExitStatus": "2",  # but 75 is worth another try
    "Environment": "PYTHONFAULTHANDLER=1",  # so that a hang says where it is
    "KillMode": "process",  # containers, and what watches them, go on
    "OOMPolicy": "continue",
    "StateDirectoryMode": "0700",
    "RuntimeDirectoryMode": "0700",
    "RuntimeDirectoryPreserve": "yes",
}
ITS_OWN = {
    *("ExecStart", "TimeoutStartSec", "TimeoutStopSec", "RestartSec", "WatchdogSec"),
    *("StateDirectory", "RuntimeDirectory"),
}
"""Options of the unit that concern the daemon alone, whatever their value is."""


def ran(argv: Sequence[str | Path], **variables: str) -> subprocess.CompletedProcess[str]:
    """The command, ended; what it says on both streams is its stdout."""
    return subprocess.run(
        argv,
        cwd=ROOT,
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )


@dataclass(frozen=True)
class Site:
    """An installation: below `prefix`, once it was moved there from below `stage`."""

    stage: Path
    prefix: Path

    def make(self, target: str) -> str:
        done = ran(
            ["make", target, f"PREFIX={self.prefix}", f"DESTDIR={self.stage}"],
            PYTHON=sys.executable,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    @property
    def staged(self) -> Path:
        """What `make install` has made below the prefix."""
        return Path(f"{self.stage}{self.prefix}")

    @property
    def config(self) -> Path:
        return self.stage / "etc/hoody/hoodyd.toml"

    def files(self) -> set[str]:
        """All but the inside of the virtual environment."""
        found = {str(path.relative_to(self.prefix)) for path in self.prefix.rglob("*")}
        return {path for path in found if not path.startswith("lib/hoody/")}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """As a package does it: staged, then put where it belongs."""
    base = tmp_path_factory.mktemp("install")
    site = Site(base / "stage", base / "opt")
    built = (ROOT / "build").exists()
    site.make("install")
    assert (ROOT / "build").exists() == built  # the repository is left as it was
    assert not site.prefix.exists()
    assert {path.name for path in site.stage.iterdir()} == {"etc", site.prefix.parts[1]}
    shutil.move(site.staged, site.prefix)
    return site


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def unit(path: Path) -> configparser.ConfigParser:
    parsed = configparser.ConfigParser(strict=False, interpolation=None)
    parsed.optionxform = str  # type: ignore[assignment,method-assign]  # names have capitals
    parsed.read(path)
    return parsed


@pytest.mark.parametrize("command", ["hoodyd", "hoody"])
def test_what_is_installed_runs(site: Site, tmp_path: Path, command: str) -> None:
    done = ran([site.prefix / "bin" / command, "--help"], PYTHONPATH="", HOME=str(tmp_path))
    assert (done.returncode, done.stdout[:6]) == (0, "Usage:"), done.stdout


def test_it_runs_by_itself(site: Site) -> None:
    """Not by what lies in the repository; and nothing in it names where it was made."""
    python = site.prefix / "lib/hoody/bin/python"
    code = "import daemon.cli, transfer; print(daemon.__file__)"
    done = ran([python, "-I", "-c", code])
    assert done.stdout.startswith(str(site.prefix / "lib/hoody/lib")), done.stdout
    done = ran([site.prefix / "bin/hoodyd", "--version"], PYTHONPATH="")
    assert done.stdout == "hoodyd, version 0.1.0\n"
    texts = [path for path in (site.prefix / "lib/hoody").rglob("*") if path.suffix != ".pyc"]
    assert not [path for path in texts if path.is_file() and names(path, site.stage)]


def names(path: Path, place: Path) -> bool:
    return os.fsencode(place) in path.read_bytes()


def test_everything_is_where_systemd_looks_for_it(site: Site) -> None:
    assert {path for path in site.files() if (site.prefix / path).is_file()} == {
        "bin/hoodyd",
        "bin/hoody",
        "lib/systemd/system/hoodyd.service",
        "lib/sysusers.d/hoodyd.conf",
        "lib/tmpfiles.d/hoodyd.conf",
        "share/hoody/README.systemd.md",
        "share/hoody/user.conf",
    }
    assert mode_of(site.config) == 0o600
    assert site.config.read_text() == (SYSTEMD / "hoodyd.toml").read_text()


@pytest.mark.parametrize("drop_in", [False, True], ids=["root", "user"])
def test_systemd_takes_the_unit(site: Site, tmp_path: Path, drop_in: bool) -> None:
    installed = site.prefix / "lib/systemd/system/hoodyd.service"
    copied = shutil.copy(installed, tmp_path)
    if drop_in:
        place = tmp_path / "hoodyd.service.d"
        place.mkdir()
        shutil.copy(site.prefix / "share/hoody/user.conf", place)
    done = ran(["systemd-analyze", "verify", copied])
    assert (done.returncode, done.stdout) == (0, "")
    assert unit(installed)["Service"]["ExecStart"] == f"{site.prefix}/bin/hoodyd run"


def test_systemd_makes_the_user_and_the_directories(site: Site, tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    users = site.prefix / "lib/sysusers.d/hoodyd.conf"
    entries = site.prefix / "lib/tmpfiles.d/hoodyd.conf"
    places = [tmp_path / "etc/hoody", tmp_path / "srv/hoody"]
    theirs: set[Path] = set()
    for mode in (0o755, 0o700):
        done = ran(["systemd-sysusers", f"--root={tmp_path}", users])
        assert done.returncode == 0, done.stdout
        done = ran(["systemd-tmpfiles", f"--root={tmp_path}", "--create", "--remove", entries])
        assert (done.returncode, done.stdout) == (0, "")
        assert [mode_of(place) for place in places] == [mode, mode]
        # What its owner has changed or made stays so, at the next boot too.
        assert {found for place in places for found in place.iterdir()} == theirs
        for place in places:
            place.chmod(0o700)
            (place / "theirs").touch()
            theirs.add(place / "theirs")
    assert (tmp_path / "etc/passwd").read_text().startswith("hoody:")


def test_a_newer_version_and_the_end_leave_what_is_the_operators(site: Site) -> None:
    site.config.write_text("# mine\n")
    theirs = [site.config]
    for path in ("etc/hoody/jwt.secret", "var/lib/hoody/hoody.db", "srv/hoody/id/current"):
        theirs.append(site.stage / path)
        theirs[-1].parent.mkdir(parents=True, exist_ok=True)
        theirs[-1].write_text("# mine\n")
        theirs[-1].chmod(0o600)
    shutil.move(site.prefix, site.staged)
    stranger = site.staged / "lib/hoody/bin/stranger"
    stranger.touch()
    assert "kept" in site.make("install")
    assert not stranger.exists()
    assert {(path.read_text(), mode_of(path)) for path in theirs} == {("# mine\n", 0o600)}
    for _ in range(2):
        site.make("uninstall")
        assert not [path for path in site.staged.rglob("*") if not path.is_dir()]
        assert {(path.read_text(), mode_of(path)) for path in theirs} == {("# mine\n", 0o600)}


def test_somebody_elses_command_stays(tmp_path: Path) -> None:
    site = Site(tmp_path, Path("/usr"))
    (site.staged / "bin").mkdir(parents=True)
    (site.staged / "bin/hoody").write_text("theirs")
    site.make("uninstall")
    assert (site.staged / "bin/hoody").read_text() == "theirs"


def test_the_example_config_is_the_default(tmp_path: Path) -> None:
    text = (SYSTEMD / "hoodyd.toml").read_text()
    assert text == default_toml()
    config = load(str(SYSTEMD / "hoodyd.toml"), {})
    service = unit(SYSTEMD / "hoodyd.service")["Service"]
    assert config.server.state_dir == f"/var/lib/{service['StateDirectory']}"
    entries = (SYSTEMD / "hoodyd.tmpfiles").read_text().splitlines()
    made = {line.split()[1] for line in entries if not line.startswith("#")}
    assert made == {config.storage.mount_root, os.path.dirname(config.auth.secret_file)}


def test_no_option_breaks_containers_or_hides_mounts() -> None:
    """What the README says is left out, with its reason, is left out."""
    table = (SYSTEMD / "README.md").read_text().partition("| left out |")[2]
    left_out = set(re.findall(r"`(\w+)=`", table))
    assert left_out >= BREAKS | HIDES
    for name in ("hoodyd.service", "user.conf"):
        given = {option for section in unit(SYSTEMD / name).values() for option in section}
        assert not given & left_out


def test_the_unit_keeps_its_promises_and_has_nothing_beside() -> None:
    """One option more is one to think about: do containers inherit it, or do mounts hide in it?"""
    parsed = unit(SYSTEMD / "hoodyd.service")
    service = dict(parsed["Service"])
    assert {option: service.get(option) for option in PROMISED} == PROMISED
    assert service.keys() == PROMISED.keys() | ITS_OWN
    assert parsed["Unit"]["StartLimitIntervalSec"] == "0"  # it is started anew for ever
    assert dict(unit(SYSTEMD / "user.conf")["Service"]) == {"User": "hoody", "Group": "hoody"}


def test_the_watchdog_has_more_patience_than_the_engine_with_its_catalogue() -> None:
    """Who waits for the catalogue has not hung: a connection, a turn, a lock and an answer."""
    service = unit(SYSTEMD / "hoodyd.service")["Service"]
    assert int(service["WatchdogSec"]) > 5 * WAIT_SECONDS
