"""Debian packages for the image, from where this machine has its own, which stays as it is.

An apt of its own (sources, lists, cache) below a working folder; the mirrors are those that
`apt-get indextargets` names. Every question needs them: without them `NoPackages` says so.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

BASE = "bookworm"
SUITES = {"": BASE, "backports": f"{BASE}-backports"}
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
ASK_SECONDS = 300.0
BUILD_SECONDS = 2400.0
TAIL_LINES = 40

_SLIM = (
    '--aptopt=Acquire::Languages "none"',
    '--aptopt=APT::Install-Recommends "false"',
    "--dpkgopt=path-exclude=/usr/share/man/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=force-unsafe-io",
)


class NoPackages(Exception):
    """The packages cannot be had from here; the message says which, or from where."""


def do(
    *argv: str | Path,
    seconds: float = ASK_SECONDS,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> str:
    """Runs a command to its end; returns what it prints. Raises NoPackages with its last words.

    `env` is added to this process's environment."""
    # A Debian of another locale asks and sorts otherwise.
    apt = {"LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    ran = subprocess.run(
        argv,
        check=False,
        capture_output=True,
        text=True,
        timeout=seconds,
        cwd=cwd,
        env={**os.environ, **apt, **(env or {})},
    )
    if ran.returncode != 0:
        tail = "\n".join((ran.stdout + ran.stderr).splitlines()[-TAIL_LINES:])
        raise NoPackages(f"{argv[0]} failed with status {ran.returncode}:\n{tail}")
    return ran.stdout


def chosen_suite() -> str:
    """The suite that `OPENZFS` names: none for 2.1, `backports` for 2.3."""
    chosen = os.environ.get("OPENZFS", "")
    if chosen not in SUITES:
        raise NoPackages(f"OPENZFS is {chosen!r}, and must be one of {sorted(SUITES)}")
    return SUITES[chosen]


class Debian:
    """A suite of Debian: the base, or the base with ZFS from its backports."""

    def __init__(self, suite: str, work: Path) -> None:
        self._work = work
        self._sources = work / "sources.list"
        self._preferences = work / "preferences"
        for folder in ("lists/partial", "cache/archives/partial"):
            (work / folder).mkdir(parents=True)
        self._sources.write_text(_sources(suite), encoding="utf-8")
        self._preferences.write_text(
            f"Package: src:zfs-linux\nPin: release n={suite}\nPin-Priority: 990\n",
            encoding="utf-8",
        )
        self._apt("apt-get", "update", "-qq", "--error-on=any")
        kernel = self._apt("apt-cache", "depends", "--important", "linux-image-cloud-amd64")
        self.kernel_package = kernel.split("Depends: ")[1].split()[0]
        self.kernel = self.kernel_package.removeprefix("linux-image-")
        self.kernel_version = self._version(self.kernel_package)
        self.zfs_version = self._version("zfs-dkms")

    def bootstrap(
        self, root: Path, packages: Sequence[str], env: Mapping[str, str] | None = None
    ) -> None:
        """Installs a smallest Debian with these packages into a new folder; what they run while
        they are installed sees `env`."""
        # Its mounts are its own, and gone with it: who clears away what a killed one has left must
        # not meet the machine's /dev there.
        argv = ("unshare", "--mount", "mmdebstrap")
        how = ("--mode=root", "--variant=minbase", "--format=directory", *_SLIM)
        preferences = f'--aptopt=Dir::Etc::Preferences "{self._preferences}"'
        what = (f"--include={','.join(packages)}", BASE, root, self._sources)
        do(*argv, *how, preferences, *what, seconds=BUILD_SECONDS, env=env)

    def unpack(self, package: str, into: Path) -> None:
        """Unpacks a package's files without installing it."""
        self._apt("apt-get", "download", "-qq", package, cwd=self._work)
        (archive,) = self._work.glob(f"{package}_*.deb")
        do("dpkg-deb", "--extract", archive, into)

    def _version(self, package: str) -> str:
        lines = self._apt("apt-cache", "policy", package).splitlines()
        found = [line.split()[1] for line in lines if line.strip().startswith("Candidate:")]
        if found in ([], ["(none)"]):
            said = self._sources.read_text(encoding="utf-8")
            raise NoPackages(f"there is no package {package} in\n{said}")
        return found[0]

    def _apt(self, program: str, *argv: str, cwd: Path | None = None) -> str:
        settings = {
            "Dir::Etc::SourceList": self._sources,
            "Dir::Etc::SourceParts": "/dev/null",
            "Dir::Etc::Preferences": self._preferences,
            "Dir::Etc::PreferencesParts": "/dev/null",
            "Dir::State::Lists": self._work / "lists",
            "Dir::Cache": self._work / "cache",
            "APT::Sandbox::User": "root",
            "Acquire::Languages": "none",
        }
        options = [part for key, value in settings.items() for part in ("-o", f"{key}={value}")]
        return do(program, *options, *argv, cwd=cwd)


def _sources(suite: str) -> str:
    targets = do("apt-get", "indextargets", "--format", "$(RELEASE) $(REPO_URI)")
    mirrors = dict(line.split(" ") for line in targets.splitlines() if " " in line)
    if BASE not in mirrors:
        raise NoPackages(f"the apt of this machine has no mirror of Debian {BASE}")
    main, security = mirrors[BASE], f"{BASE}-security"
    sites = {BASE: main, f"{BASE}-updates": main, suite: main}
    if security in mirrors:
        sites[security] = mirrors[security]
    lines = [f"deb [signed-by={KEYRING}] {at} {of} main contrib\n" for of, at in sites.items()]
    return "".join(lines)
