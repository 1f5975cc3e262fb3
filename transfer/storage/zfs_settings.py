"""Settings of datasets that go with them to a clone or to another server: an allow-list.

Streams carry no properties, and one that does is refused at its head (zfs_stream). What a source
says of its datasets is taken for the few names here, and where the value has its form. Not among
them: what mounts, shares or executes; quotas, which would fail a receive half-way; and `atime`,
which is off everywhere, for a read would make a source look changed. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from transfer.model import Settings

_ANYWHERE = {
    "recordsize": re.compile(r"\d{3,8}"),
    "compression": re.compile(r"on|off|lz4|lzjb|zle|gzip(-[1-9])?|zstd(-fast)?(-\d{1,4})?"),
}
_OPENZFS = {
    "xattr": re.compile(r"on|off|sa|dir"),
    "acltype": re.compile(r"off|nfsv4|posix"),
    "dnodesize": re.compile(r"legacy|auto|\d{1,2}k"),
}
_FORMS = _ANYWHERE | _OPENZFS

ANYWHERE = tuple(_ANYWHERE)
"""Those that every `zfs` knows."""

OPENZFS = tuple(_OPENZFS)
"""Those that zfs-fuse does not know."""


def is_given(key: str, source: str) -> bool:
    """Whether a property counts: a setting does only where it was given to the dataset itself."""
    return key not in _FORMS or source in ("local", "received")


def of(row: Mapping[str, str]) -> Settings:
    """The settings among a dataset's properties, by name."""
    return tuple((key, row[key]) for key in sorted(_FORMS) if row.get(key, "-") != "-")


def allowed(settings: Iterable[tuple[str, str]], known: Iterable[str]) -> Settings:
    """Those that may be taken over from another server, as far as this one knows them."""
    here = set(known)
    return tuple(
        (key, value)
        for key, value in settings
        if key in here and key in _FORMS and _FORMS[key].fullmatch(value)
    )


def options(settings: Settings) -> list[str]:
    """The settings as options of what makes a dataset."""
    return [part for key, value in settings for part in ("-o", f"{key}={value}")]
