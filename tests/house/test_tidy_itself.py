"""Each house rule is broken once in a small tree, and the check must say so."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.house import tidy
from tests.house.tidy import Source

Tree = Callable[..., list[Source]]


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """Makes `daemon/a.py` of `daemon__a="text"`, and reads the tree as a house."""

    def make(**files: str) -> list[Source]:
        for name, text in files.items():
            path = tmp_path / (name.replace("__", "/", 1) + ".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text), encoding="utf-8")
        return tidy.read_sources(tmp_path, tidy.CODE)

    return make


def test_a_tidy_house_has_no_faults(tree: Tree) -> None:
    sources = tree(
        transfer__errors='"""Errors."""\n\n\nclass Bad(Exception):\n    """Bad."""\n',
        transfer__model='"""Model."""\n\nfrom transfer.errors import Bad\n\nKEPT = Bad\n',
    )
    for check in (tidy.sizes, tidy.hidden_imports, tidy.cycles, tidy.floors, tidy.packages):
        assert list(check(sources)) == []
    assert list(tidy.docstrings(sources)) == []


def test_a_function_of_71_lines_is_too_long(tree: Tree) -> None:
    for length, faults in ((70, 0), (71, 1)):
        body = "    x = 1\n" * (length - 1)
        sources = tree(daemon__a=f"def long():\n{body}")
        assert len(list(tidy.sizes(sources))) == faults


def test_a_file_of_401_lines_is_too_long(tree: Tree) -> None:
    for length, faults in ((400, 0), (401, 1)):
        assert len(list(tidy.sizes(tree(daemon__a="x = 1\n" * length)))) == faults


def test_a_line_of_101_characters_is_too_long(tree: Tree) -> None:
    for length, faults in ((100, 0), (101, 1)):
        assert len(list(tidy.sizes(tree(daemon__a="x = '" + "y" * (length - 6) + "'")))) == faults


@pytest.mark.parametrize(
    ("parameters", "faults"),
    [
        ("self, a, b, c, d, e, f", 0),
        ("a, b, c, d, e, f", 0),
        ("a, b, c, d, e, f, g", 1),
        ("a, b, /, c, d, *, e, f, g", 1),
    ],
)
def test_seven_parameters_are_too_many(tree: Tree, parameters: str, faults: int) -> None:
    assert len(list(tidy.sizes(tree(daemon__a=f"def f({parameters}): ...")))) == faults


@pytest.mark.parametrize(
    "text",
    [
        "def f():\n    import os\n",
        "async def f():\n    from os import path\n",
        "class C:\n    def f(self):\n        if True:\n            import os\n",
        "from os import *\n",
    ],
)
def test_hidden_imports_are_found(tree: Tree, text: str) -> None:
    assert len(list(tidy.hidden_imports(tree(daemon__a=text)))) == 1


def test_a_cycle_is_found_over_three_modules(tree: Tree) -> None:
    sources = tree(
        daemon__a="from daemon import b",
        daemon__b="import daemon.c",
        daemon__c="from daemon.a import name",
    )
    assert len(list(tidy.cycles(sources))) == 1
    assert list(tidy.cycles(sources[:2])) == []


def test_imports_up_and_sideways_are_found(tree: Tree) -> None:
    table = {"daemon.low": 1, "daemon.side": 1, "daemon.high": 2}
    up = tree(daemon__low="from daemon import high", daemon__high="", daemon__side="")
    assert list(tidy.floors(up, table)) == ["daemon.low (floor 1) imports daemon.high (floor 2)"]
    sideways = tree(daemon__low="from daemon.side import x")
    assert len(list(tidy.floors(sideways, table))) == 1
    down = tree(daemon__low="", daemon__high="from daemon.low import x")
    assert list(tidy.floors(down, table)) == []


def test_a_module_without_a_floor_is_found(tree: Tree) -> None:
    assert list(tidy.floors(tree(daemon__new=""), {})) == ["daemon.new: give it a floor in FLOORS"]


def test_the_data_path_may_not_import_the_service(tree: Tree) -> None:
    sources = tree(transfer__plan="from daemon import errors", daemon__errors="")
    assert len(list(tidy.floors(sources))) == 1


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ('"""Map."""\n\nfrom daemon.a import b\n\n__all__ = ["b"]\n', 0),
        ('"""Map."""\n\n\ndef open_it():\n    """Opens."""\n', 0),
        ('"""Map."""\n\n\ndef open_it(): ...\n\n\ndef close_it(): ...\n', 1),
        ("", 1),
    ],
)
def test_a_package_holds_a_map_and_one_opener(tree: Tree, text: str, faults: int) -> None:
    assert len(list(tidy.packages(tree(daemon____init__=text)))) == faults


def test_a_module_may_not_hide_the_standard_library(tree: Tree) -> None:
    assert len(list(tidy.packages(tree(daemon__logging="")))) == 1


@pytest.mark.parametrize(
    "line",
    [
        "# TO" + "DO later",
        "x = '/wo" + "rk/somebody/file'",
        "import os  # no" + "qa: F401",
        "x = f()  # type" + ": ignore[arg-type]",
    ],
)
def test_banned_words_and_silence_without_a_reason_are_found(line: str) -> None:
    assert len(list(tidy.words({"a.py": f"x = 1\n{line}\n"}))) == 1


def test_a_reason_makes_silence_good() -> None:
    assert list(tidy.words({"a.py": "import os  # no" + "qa: F401 - a re-export"})) == []


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("x = 1", 1),
        ('"""Module."""\n\n\ndef public(): ...', 1),
        ('"""Module."""\n\n\ndef _private(): ...', 0),
        ('"""Module."""\n\n\nclass C:\n    """C."""\n\n    def m(self): ...', 1),
        ('"""Module."""\n\n\nclass C(Library[int]):\n    """C."""\n\n    def m(self): ...', 0),
    ],
)
def test_missing_contracts_are_found(tree: Tree, text: str, faults: int) -> None:
    assert len(list(tidy.docstrings(tree(daemon__a=text)))) == faults


def test_a_method_of_a_documented_protocol_needs_no_words_of_its_own(tree: Tree) -> None:
    documented = '"""A."""\n\n\nclass {}:\n    """C."""\n\n    def m(self):\n        """M."""\n'
    bare = '"""B."""\n\n\nclass {}:\n    """C."""\n\n    def m(self): ...\n'
    sources = tree(daemon__a=documented.format("P(Protocol)"), daemon__b=bare.format("C(P)"))
    assert list(tidy.docstrings(sources)) == []


def test_a_setting_that_nothing_reads_is_found(tree: Tree) -> None:
    sources = tree(daemon__a="print(config.transfer.exporters)")
    names = ["transfer.exporters", "transfer.unread"]
    assert list(tidy.unread(names, sources)) == ["transfer.unread: nothing reads it"]
    assert list(tidy.unread(names, sources, frozenset({"transfer.unread"}))) == []
    assert len(list(tidy.unread(names, sources, frozenset(names)))) == 1


def test_links_that_lead_nowhere_are_found(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# One\n[a](there.md) [b](gone.md) [c](https://x.y)\n")
    (tmp_path / "there.md").write_text("# One\n\n# Two\n")
    faults = list(tidy.links(tmp_path, ["README.md", "there.md", "missing.md"]))
    assert faults == [
        "README.md: links to gone.md, which does not exist",
        "there.md: has one heading of the first level",
        "missing.md: is missing",
    ]


def test_lines_are_counted_by_folder(tree: Tree) -> None:
    prose = '"""What it is,\nand why."""\n\n# because\n'
    sources = tree(daemon__a=prose + "x = 1\n" * 3, transfer__b="x = 1\n" * 2)
    assert tidy.line_count(sources, ["daemon"]) == 3
    assert tidy.line_count(sources, tidy.CODE) == 5
