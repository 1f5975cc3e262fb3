"""A container's own identity inside its root filesystem.

A copy or a sync clones the source's tree, and with it the source's name and keys. They are
replaced before the tree goes live. The tree belongs to a tenant, so that each file is put in only
where its parent is a real directory of the tree; elsewhere it is left out (transfer/rootfs.py).
"""

from __future__ import annotations

import errno
import stat
from dataclasses import dataclass

from daemon import keys
from transfer import rootfs

SSH_DIRECTORY = "root/.ssh"
_HOST_KEY = "ssh_host_{}_key"
_HOST_KEY_BYTES_MAX = 65536
_NO_KEY = {errno.ENOENT, errno.EINVAL, errno.EFBIG, errno.EACCES, errno.EXDEV}

IDENTITY_PATHS = frozenset(
    {"etc/hostname", "etc/machine-id", SSH_DIRECTORY, f"{SSH_DIRECTORY}/authorized_keys"}
    | {f"etc/ssh/{_HOST_KEY.format(kind)}" for kind in keys.HOST_KEY_KINDS}
    | {f"etc/ssh/{_HOST_KEY.format(kind)}.pub" for kind in keys.HOST_KEY_KINDS}
)
"""The entries, relative to the tree, that may differ from the source's: these themselves and not
what lies below them. `root/.ssh` is among them because it may be made; where the source has it,
its times, mode and owner stay."""


@dataclass(frozen=True, slots=True)
class HostKey:
    """An ssh host key as its two files hold it."""

    kind: str
    private: bytes
    public: bytes


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a container is to those who connect to it.

    `authorized_key` is None for a container without a key; its file then stays as it is.
    `host_keys` are used again where the tree has a key of their kind, so that a sync does not
    make a copy unknown to its users; the other kinds get new ones.
    """

    hostname: str
    authorized_key: str | None
    host_keys: tuple[HostKey, ...] = ()


def put_identity(tree: str, identity: Identity) -> None:
    """Makes the tree at this path the container's own; blocks for as long as it takes to make
    keys. Nothing but IDENTITY_PATHS changes, no directory's times, mode or owner either.
    Raises OSError where the filesystem fails."""
    with rootfs.Root(tree) as root:
        with root.find_dir("etc") as etc:
            if etc is not None:
                _put_names(etc, identity.hostname)
        with root.find_dir("etc/ssh") as ssh:
            if ssh is not None:
                _put_host_keys(ssh, identity)
        if identity.authorized_key is not None:
            _put_authorized_key(root, identity.authorized_key)


def read_host_keys(tree: str) -> tuple[HostKey, ...]:
    """The host keys of a container's live tree, for the identity of its next generation."""
    found = []
    with rootfs.Root(tree) as root, root.find_dir("etc/ssh") as ssh:
        if ssh is None:
            return ()
        for kind in keys.HOST_KEY_KINDS:
            name = _HOST_KEY.format(kind)
            private = _read(ssh, name)
            public = _read(ssh, f"{name}.pub")
            if private is not None and public is not None:
                found.append(HostKey(kind, private, public))
    return tuple(found)


def _put_names(etc: int, hostname: str) -> None:
    with rootfs.kept(etc):
        _put(etc, "hostname", f"{hostname}\n".encode(), 0o644)
        if rootfs.kind_of(etc, "machine-id"):
            _put(etc, "machine-id", b"", 0o444)


def _put_host_keys(ssh: int, identity: Identity) -> None:
    own = {key.kind: key for key in identity.host_keys}
    had = [
        kind
        for kind in keys.HOST_KEY_KINDS
        if rootfs.kind_of(ssh, _HOST_KEY.format(kind)) not in (0, stat.S_IFDIR)
    ]
    with rootfs.kept(ssh):
        for kind in had:
            key = own.get(kind) or _new_host_key(kind, identity.hostname)
            _put(ssh, _HOST_KEY.format(kind), key.private, 0o600)
            _put(ssh, f"{_HOST_KEY.format(kind)}.pub", key.public, 0o644)


def _put_authorized_key(root: rootfs.Root, public_text: str) -> None:
    with root.find_dir("root") as home:
        if home is None:
            return
        if not rootfs.kind_of(home, ".ssh"):
            with rootfs.kept(home):
                rootfs.make_dir(home, ".ssh", 0o700)
    with root.find_dir(SSH_DIRECTORY) as ssh:
        if ssh is not None:
            with rootfs.kept(ssh):
                _put(ssh, "authorized_keys", f"{public_text}\n".encode(), 0o600)


def _new_host_key(kind: str, hostname: str) -> HostKey:
    pair = keys.generate(f"root@{hostname}", kind)
    return HostKey(kind, pair.private_text.encode(), f"{pair.public_text}\n".encode())


def _put(dir_fd: int, name: str, content: bytes, mode: int) -> None:
    """Replaces a file; a tenant's directory of that name stays, it holds nobody's identity."""
    if not stat.S_ISDIR(rootfs.kind_of(dir_fd, name)):
        rootfs.replace_file(dir_fd, name, content, mode)


def _read(dir_fd: int, name: str) -> bytes | None:
    try:
        return rootfs.read_file(dir_fd, name, _HOST_KEY_BYTES_MAX)
    except OSError as error:
        if error.errno in _NO_KEY:
            return None
        raise
