"""Whom a container asks for names."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from daemon.runtime import resolver

STUB = "# systemd-resolved\nnameserver 127.0.0.53\noptions edns0 trust-ad\nsearch example.org\n"
V6 = "nameserver 2001:db8::53\nnameserver fe80::1%eth0\n"


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["nameserver 192.0.2.53\n"], "nameserver 192.0.2.53\n"),
        (["nameserver 192.0.2.53"], "nameserver 192.0.2.53\n"),
        ([f"{V6}nameserver\t192.0.2.53 \n\n{STUB}"], "nameserver 192.0.2.53\n"),
        ([STUB, "nameserver 192.0.2.54\nsearch a b\n"], "nameserver 192.0.2.54\nsearch a b\n"),
        ([STUB], None),
        ([V6, STUB], None),
        ([None, "nameserver 192.0.2.54\n"], "nameserver 192.0.2.54\n"),
        ([None, None], None),
        (["nameserver\nsearch a\n"], None),
    ],
)
def test_it_is_whom_the_server_asks_and_a_container_reaches(
    texts: list[str | None], said: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [tmp_path / str(number) for number in range(len(texts))]
    for path, text in zip(paths, texts, strict=True):
        if text is not None:
            path.write_text(text)
    monkeypatch.setattr(resolver, "SOURCES", tuple(map(str, paths)))
    found = resolver.of_server()
    if said is None or found is None:
        assert found is said
    else:
        assert found.startswith(said)
        assert found.count("nameserver") == said.count("nameserver")


def test_an_empty_file_is_made_where_there_is_none(tmp_path: Path) -> None:
    etc = tmp_path / "etc"
    etc.mkdir()
    os.utime(etc, ns=(1, 2))
    for _ in range(2):
        assert resolver.leaves_it_open(str(tmp_path))
    assert (etc / "resolv.conf").read_bytes() == b""
    assert etc.stat().st_mtime_ns == 2


def test_what_a_tree_has_is_its_own(tmp_path: Path) -> None:
    assert not resolver.leaves_it_open(str(tmp_path))  # where there is no etc
    outside = tmp_path / "outside"
    outside.mkdir()
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "etc").symlink_to(outside)
    assert not resolver.leaves_it_open(str(tree))
    (tree / "etc").unlink()
    (tree / "etc").mkdir()
    file = tree / "etc" / "resolv.conf"
    for make in (
        lambda: file.write_text("nameserver 192.0.2.1\n"),
        lambda: file.symlink_to(outside / "empty"),
        file.mkdir,
    ):
        make()
        assert not resolver.leaves_it_open(str(tree))
        if not file.is_dir():
            file.unlink()
    assert not any(outside.iterdir())
