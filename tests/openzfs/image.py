"""The image of the test machine: a kernel, a small Debian, OpenZFS's module built for it.

What is laid over the Debian's root is in `guest/root`, the first stage of its start in `guest/`.
"""

from __future__ import annotations

import inspect
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.openzfs.cache import cached, key_of
from tests.openzfs.debian import Debian, do
from tests.openzfs.disks import make_disk, python_disk

DISK_BYTES = 3 << 30
KEY_FILE = "id_ed25519"
ROOT = "root"
_HERE = Path(__file__).parent
_BUILD_PACKAGES = ("kmod", "make", "gcc", "libelf-dev", "zfs-dkms")
_PACKAGES = (
    *("zfsutils-linux", "openssh-server", "python3", "kmod", "udev", "busybox-static"),
    *("iproute2", "procps", "rsync"),
)
# What the machine needs of the kernel's modules.
_MODULES = (
    *("drivers/virtio", "drivers/block/virtio_blk.ko", "drivers/block/loop.ko"),
    *("drivers/net/virtio_net.ko", "drivers/net/net_failover.ko", "net/core/failover.ko"),
    *("drivers/char/hw_random", "net/sched", "lib", "crypto", "arch/x86/crypto"),
)
_FIRST_MODULES = ("virtio_pci", "virtio_blk", "virtio_rng")


def image_and_python(cache: Path, suite: str) -> tuple[Path, Path]:
    """The image, and the disk with Python's packages, made side by side. Raises NoPackages."""
    with ThreadPoolExecutor(2) as threads:
        base = threads.submit(image, cache, suite)
        python = threads.submit(python_disk, cache)
        return base.result(), python.result()


def image(cache: Path, suite: str) -> Path:
    """The folder of the image: vmlinuz, initrd.img, root.qcow2 and the key that opens it.

    From nothing some minutes, most of them for the module. Raises NoPackages."""
    with tempfile.TemporaryDirectory(prefix="hoody-apt-") as work:
        debian = Debian(suite, Path(work))
        versions = (debian.kernel, debian.kernel_version, debian.zfs_version)
        print(f"openzfs: kernel {debian.kernel_version}, ZFS {debian.zfs_version}", flush=True)
        builder = [(_HERE / name).read_bytes() for name in ("image.py", "debian.py", "disks.py")]
        laid = [path.read_bytes() for path in sorted(_HERE.glob("guest/**/*")) if path.is_file()]
        of_module = (*versions, *_BUILD_PACKAGES, inspect.getsource(_build_module))

        def make_module(out: Path) -> None:
            _build_module(debian, out)

        def make_image(out: Path) -> None:
            # The root beside the module, which leaves a core idle while it is configured.
            with ThreadPoolExecutor(2) as threads:
                root = threads.submit(debian.bootstrap, out / ROOT, _PACKAGES)
                module = cached(cache, f"module-{suite}", key_of(*of_module), make_module)
                root.result()
            _build_image(debian, module, out)

        return cached(cache, f"image-{suite}", key_of(*versions, *builder, *laid), make_image)


def _build_module(debian: Debian, out: Path) -> None:
    print("openzfs: building the module, which takes some minutes", flush=True)
    root = out / "build"
    # zfs-dkms builds it while it is installed, for the kernels whose headers are there.
    # Without what is for a debugger, which is stripped anyway: it costs a quarter of the time.
    packages = [f"linux-headers-{debian.kernel}", *_BUILD_PACKAGES]
    debian.bootstrap(root, packages, {"KCFLAGS": "-g0"})
    for built in (root / "lib/modules" / debian.kernel / "updates/dkms").glob("*.ko"):
        do("chroot", root, "strip", "--strip-debug", f"/{built.relative_to(root)}")
        shutil.copy2(built, out)
    if not (out / "zfs.ko").exists():
        logs = root.glob("var/lib/dkms/zfs/*/build/make.log")
        raise RuntimeError("\n".join(["zfs.ko was not built", *(log.read_text() for log in logs)]))
    shutil.rmtree(root)


def _build_image(debian: Debian, module: Path, out: Path) -> None:
    print("openzfs: building the image", flush=True)
    work = out / "work"
    work.mkdir()
    root, kernel = out / ROOT, work / "kernel"
    debian.unpack(debian.kernel_package, kernel)
    shutil.copy2(kernel / f"boot/vmlinuz-{debian.kernel}", out / "vmlinuz")
    _place_modules(debian.kernel, kernel, module, root)
    shutil.copytree(_HERE / "guest/root", root, dirs_exist_ok=True)
    _make_keys(root, out)
    # An unprivileged user, for `zfs allow`; sshd refuses a locked account, "*" is not locked.
    do("chroot", root, "useradd", "--create-home", "--password", "*", "exporter")
    for waste in ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/i18n"):
        shutil.rmtree(root / waste, ignore_errors=True)
    _make_initrd(debian.kernel, root, work / "initrd", out / "initrd.img")
    make_disk(root, "root", DISK_BYTES, out / "root.qcow2")
    shutil.rmtree(root)
    shutil.rmtree(work)


def _place_modules(release: str, kernel: Path, module: Path, root: Path) -> None:
    source, target = kernel / "lib/modules" / release, root / "lib/modules" / release
    shutil.copytree(module, target / "extra", ignore=shutil.ignore_patterns("*.json"))
    for name in ("modules.builtin", "modules.builtin.modinfo", "modules.order"):
        shutil.copy2(source / name, target)
    for name in _MODULES:
        path = Path("kernel", name)
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        if (source / path).is_dir():
            shutil.copytree(source / path, target / path)
        else:
            shutil.copy2(source / path, target / path)
    do("chroot", root, "depmod", release)


def _make_keys(root: Path, out: Path) -> None:
    """One key opens the machine from outside, and each machine from the other."""
    key, home = out / KEY_FILE, root / "root/.ssh"
    do("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "openzfs", "-f", key)
    home.chmod(0o700)
    shutil.copy2(key, home / KEY_FILE)
    (out / f"{KEY_FILE}.pub").rename(home / "authorized_keys")
    do("ssh-keygen", "-q", "-A", "-f", root)


def _make_initrd(release: str, root: Path, stage: Path, out: Path) -> None:
    """Busybox, what the disk needs, and the way to the root on it."""
    for folder in ("bin", "modules", "proc", "dev", "new"):
        (stage / folder).mkdir(parents=True)
    shutil.copy2(root / "bin/busybox", stage / "bin/busybox")
    (stage / "bin/sh").symlink_to("busybox")
    shutil.copy2(_HERE / "guest/initrd-init", stage / "init")
    show = ("modprobe", "--set-version", release, "--show-depends", "--all", *_FIRST_MODULES)
    lines = do("chroot", root, *show).splitlines()
    needed = dict.fromkeys(line.split()[1] for line in lines if line.startswith("insmod"))
    for number, path in enumerate(needed):
        shutil.copy2(root / path.lstrip("/"), stage / f"modules/{number:02}-{Path(path).name}")
    do("sh", "-c", f"find . | cpio --quiet -o -H newc > '{out}'", cwd=stage)
