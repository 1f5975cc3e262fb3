"""The house is tidy: the rules of `tidy.py`, held against this repository."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from daemon.config import Config
from tests.house import tidy

ROOT = Path(__file__).parents[2]
SOURCES = tidy.read_sources(ROOT)
CODE = [source for source in SOURCES if source.name.split(".")[0] in tidy.CODE]
DOCUMENTS = ("README.md", "ARCHITECTURE.md", "CHANGELOG.md")
TEXT_SUFFIXES = (".py", ".md", ".toml", ".lock", ".service", ".sh", ".mako", "")

# Settings of the contract whose feature is not built yet. The list only gets shorter.
SETTINGS_AHEAD: frozenset[str] = frozenset()


def none_of(faults: Iterable[str]) -> None:
    found = list(faults)
    assert not found, "\n".join(["", *found])


def project_texts() -> dict[str, str]:
    """The texts of the repository, without what git ignores."""
    found = {}
    folders = [ROOT / folder for folder in (*tidy.CHECKED, "systemd", ".ci")]
    files = [path for folder in folders for path in folder.rglob("*")]
    for path in [*files, *ROOT.glob("*")]:
        if path.is_file() and path.suffix in TEXT_SUFFIXES and "__pycache__" not in path.parts:
            found[str(path.relative_to(ROOT))] = path.read_text(encoding="utf-8")
    return found


def test_functions_files_lines_and_parameter_lists_are_short() -> None:
    none_of(tidy.sizes(SOURCES))


def test_no_import_is_hidden() -> None:
    none_of(tidy.hidden_imports(SOURCES))


def test_there_are_no_import_cycles() -> None:
    none_of(tidy.cycles(SOURCES))


def test_imports_go_down() -> None:
    none_of(tidy.floors(CODE))


def test_the_data_path_does_not_know_the_service() -> None:
    graph = tidy.import_graph(CODE)
    up = {
        (name, other)
        for name, imported in graph.items()
        for other in imported
        if name.startswith("transfer") and other.startswith("daemon")
    }
    assert not up


def test_the_engine_is_given_its_actions() -> None:
    graph = tidy.import_graph(CODE)
    assert not [name for name in graph.get("daemon.engine", ()) if "daemon.actions" in name]


def test_folders_have_maps_and_modules_names_of_their_own() -> None:
    none_of(tidy.packages(SOURCES))


def test_no_banned_words_nor_paths_of_a_machine() -> None:
    none_of(tidy.words(project_texts()))


def test_public_things_have_a_contract() -> None:
    none_of(tidy.docstrings(CODE))


def test_every_setting_has_a_reader() -> None:
    names = [
        f"{section}.{key}"
        for section, field in Config.model_fields.items()
        for key in getattr(field.annotation, "model_fields", {})
    ]
    readers = [source for source in CODE if source.name != "daemon.config_default"]
    none_of(tidy.unread(names, readers, SETTINGS_AHEAD))


def test_every_metric_is_moved_by_something() -> None:
    (metrics,) = [source for source in CODE if source.name == "daemon.metrics"]
    names = [
        target.attr
        for node in ast.walk(metrics.tree)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)
        for target in node.targets
        if isinstance(target, ast.Attribute)
    ]
    assert names
    # What makes them also names them: only what it does at a job's end moves any.
    moves = [one for one in ast.walk(metrics.tree) if getattr(one, "name", "") == "ended"]
    movers = [replace(metrics, tree=ast.Module([one], [])) for one in moves]
    none_of(tidy.unread(names, [*movers, *(one for one in CODE if one is not metrics)]))


def test_there_is_at_least_as_much_test_as_code() -> None:
    code = tidy.line_count(SOURCES, tidy.CODE)
    tests = tidy.line_count(SOURCES, ["tests"])
    assert tests >= code, f"{tests} lines of tests for {code} lines of code"


def test_documents_exist_and_their_links_lead_somewhere() -> None:
    none_of(tidy.links(ROOT, DOCUMENTS))


def test_the_lock_names_versions_and_nothing_else() -> None:
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    odd = [line for line in lines if not re.fullmatch(r"#.*|[a-z0-9._-]+==[\w.]+", line)]
    assert not odd
    assert not [line for line in lines if "://" in line]


@pytest.mark.parametrize(
    "script", [".ci/run", "systemd/install", "systemd/uninstall", "tests/install-parts"]
)
def test_scripts_can_be_run(script: str) -> None:
    assert (ROOT / script).stat().st_mode & 0o111
