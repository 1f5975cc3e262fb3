"""Disks for machines to start from: the Python that the project needs, the project itself."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from tests.openzfs.cache import cached, key_of
from tests.openzfs.debian import BUILD_SECONDS, do

ROOT = Path(__file__).parents[2]
PYTHON_BYTES = 1 << 30
PROJECT_BYTES = 256 << 20
# Debian 12 has Python 3.11 and glibc 2.36.
_FOR_GUEST = ("--python-version", "3.11", "--only-binary", ":all:")
_PLATFORMS = ("manylinux_2_34", "manylinux_2_28", "manylinux_2_17", "manylinux2014")


def make_disk(tree: Path, label: str, size_bytes: int, out: Path) -> None:
    """An ext4 with the tree's content, compressed, for disks of machines to start from."""
    raw = out.with_suffix(".raw")
    options = ("-q", "-t", "ext4", "-L", label, "-m", "0", "-E", "lazy_itable_init=1")
    do("mke2fs", *options, "-d", tree, raw, f"{size_bytes >> 10}k", seconds=BUILD_SECONDS)
    convert = ("-c", "-o", "compression_type=zstd", "-O", "qcow2")
    do("qemu-img", "convert", *convert, raw, out, seconds=BUILD_SECONDS)
    raw.unlink()


def python_disk(cache: Path) -> Path:
    """A disk with what requirements.lock pins, for the machine's Python. Raises NoPackages."""
    lock = ROOT / "requirements.lock"

    def make(out: Path) -> None:
        print("openzfs: fetching the machine's Python packages", flush=True)
        tree = out / "tree"
        platforms = [part for name in _PLATFORMS for part in ("--platform", f"{name}_x86_64")]
        pip = (sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--no-deps")
        what = (*_FOR_GUEST, *platforms, "--target", str(tree), "--requirement", str(lock))
        do(*pip, *what, seconds=BUILD_SECONDS)
        make_disk(tree, "python", PYTHON_BYTES, out / "python.qcow2")
        shutil.rmtree(tree)

    key = key_of(lock.read_bytes(), Path(__file__).read_bytes())
    return cached(cache, "python", key, make) / "python.qcow2"


def project_disk(work: Path) -> Path:
    """A disk with the working tree: what git knows or would add."""
    tree, disk = work / "project", work / "project.qcow2"
    listing = ("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    listed = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True)
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tree / name)
    make_disk(tree, "project", PROJECT_BYTES, disk)
    shutil.rmtree(tree)
    return disk
