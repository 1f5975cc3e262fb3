"""The cache of the machines' images: a broken or half-made entry is never used."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.openzfs.cache import VARIABLE, cache_root, cached, key_of

KEY = key_of("one")


class Maker:
    """Makes an entry of two files, and counts how often."""

    def __init__(self) -> None:
        self.made = 0

    def __call__(self, out: Path) -> None:
        self.made += 1
        (out / "disk").write_bytes(b"disk" * 100)
        (out / "kernel").write_bytes(b"kernel")


def test_an_entry_is_made_once(tmp_path: Path) -> None:
    make = Maker()
    first = cached(tmp_path / "cache", "image", KEY, make)
    assert cached(tmp_path / "cache", "image", KEY, make) == first
    assert make.made == 1
    assert (first / "kernel").read_bytes() == b"kernel"


@pytest.mark.parametrize("how", ["cut", "gone", "no sums", "bad sums", "one more"])
def test_a_broken_entry_is_made_anew(tmp_path: Path, how: str) -> None:
    make = Maker()
    entry = cached(tmp_path, "image", KEY, make)
    (sums,) = entry.glob("*.json")
    if how == "cut":
        (entry / "disk").write_bytes(b"disk" * 99)
    elif how == "gone":
        (entry / "disk").unlink()
    elif how == "no sums":
        sums.unlink()
    elif how == "bad sums":
        sums.write_text("{")
    else:
        (entry / "more").touch()
    assert cached(tmp_path, "image", KEY, make) == entry
    assert make.made == 2
    assert sorted(path.name for path in entry.iterdir()) == [sums.name, "disk", "kernel"]


def test_what_fails_half_way_leaves_nothing(tmp_path: Path) -> None:
    def fails(out: Path) -> None:
        (out / "disk").write_bytes(b"half")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        cached(tmp_path, "image", KEY, fails)
    assert [path.name for path in tmp_path.iterdir()] == ["image.lock"]


def test_older_keys_of_the_name_go_and_other_names_stay(tmp_path: Path) -> None:
    other = cached(tmp_path, "image-backports", KEY, Maker())
    old = cached(tmp_path, "image", KEY, Maker())
    left = tmp_path / f"{old.name}.unfinished"
    left.mkdir()
    new = cached(tmp_path, "image", key_of("two"), Maker())
    assert new.exists()
    assert other.exists()
    assert not old.exists()
    assert not left.exists()


def test_a_key_tells_its_parts_apart() -> None:
    assert key_of("ab", "c") != key_of("a", "bc")
    assert key_of("ab") == key_of(b"ab")


def test_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    monkeypatch.delenv(VARIABLE, raising=False)
    assert cache_root() == Path("/caches/hoody-openzfs")
    monkeypatch.setenv(VARIABLE, "/kept")
    assert cache_root() == Path("/kept")
