"""Taking a tree away, however deep it is and whatever its modes are."""

from __future__ import annotations

import itertools
import os
import stat

from transfer.tree.descriptor import IS_ROOT, closing


def remove_tree(path: str) -> None:
    """Removes a directory of our own with all below it; nothing is followed, absent is fine.

    Directories further down are moved up next to the first level and emptied there: so no depth
    that a tenant can make needs a deeper stack, more descriptors or a longer path.
    """
    try:
        root = _open_unlocked(None, path)
    except FileNotFoundError:
        return
    except NotADirectoryError:
        os.unlink(path)
        return
    with closing(root):
        numbers = itertools.count()
        while names := os.listdir(root):
            for name in names:
                if _unlinked(root, name):
                    continue
                _hoist(root, name, numbers)
                os.rmdir(name, dir_fd=root)
    os.rmdir(path)


def _hoist(root: int, name: str, numbers: itertools.count[int]) -> None:
    with closing(_open_unlocked(root, name)) as directory:
        for child in os.listdir(directory):
            if not _unlinked(directory, child):
                _move_up(directory, child, root, numbers)


def _move_up(directory: int, child: str, root: int, numbers: itertools.count[int]) -> None:
    _unlock(directory, child)  # a rename writes the child's own `..`
    while True:
        free = f".removed-{next(numbers)}"
        try:
            os.stat(free, dir_fd=root, follow_symlinks=False)
        except FileNotFoundError:
            os.rename(child, free, src_dir_fd=directory, dst_dir_fd=root)
            return


def _unlinked(directory: int, name: str) -> bool:
    if stat.S_ISDIR(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
        return False
    os.unlink(name, dir_fd=directory)
    return True


def _open_unlocked(parent: int | None, name: str) -> int:
    _unlock(parent, name)
    return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)


def _unlock(parent: int | None, name: str) -> None:
    # Root may do all in any directory; others must first be allowed to. The way through /proc
    # changes what was opened, also where the name has become a symlink meanwhile.
    if IS_ROOT:
        return
    flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    with closing(os.open(name, flags, dir_fd=parent)) as found:
        os.chmod(f"/proc/self/fd/{found}", 0o700)
