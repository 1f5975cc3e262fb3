"""The house rules that have a number, as functions: sources in, sentences about what breaks out.

`FLOORS` is the order of the house: a file imports only from lower floors, or its own folder.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

FUNCTION_LINES = 70
FILE_LINES = 400
LINE_LENGTH = 100
PARAMETERS = 6

CODE = ("daemon", "transfer")
CHECKED = (*CODE, "tests", "benchmarks")

FLOORS: Mapping[str, int] = {
    "transfer.at_once": 0,
    "transfer.errors": 0,
    "transfer.model": 1,
    "transfer.command": 2,
    "transfer.frames": 2,
    "transfer.effort": 2,
    "transfer.records": 2,
    "transfer.plan": 2,
    "transfer.retain": 2,
    "transfer.rootfs": 2,
    "transfer.tree.source": 2,
    "transfer.storage.base": 3,
    "transfer.codec": 3,
    "transfer.pipeline": 4,
    "transfer.tree": 5,
    "transfer.storage": 6,
    "transfer.peer": 7,
    "transfer.replicate": 8,
    "daemon.errors": 10,
    "daemon.model": 11,
    "daemon.model_images": 12,
    "daemon.money": 11,
    "daemon.client": 11,
    "daemon.config_types": 11,
    "daemon.news": 12,
    "daemon.views": 12,
    "daemon.views_images": 13,
    "daemon.states": 12,
    "daemon.commands": 12,
    "daemon.client_cli": 13,
    "daemon.config": 13,
    "daemon.config_default": 14,
    "daemon.keyfiles": 14,
    "daemon.keys": 14,
    "daemon.logs": 14,
    "daemon.metrics": 14,
    "daemon.retry": 14,
    "daemon.schedule": 14,
    "daemon.lines": 14,
    "daemon.locks": 14,
    "daemon.notify": 15,
    "daemon.watchdog": 16,
    "daemon.children": 15,
    "daemon.auth": 15,
    "daemon.store": 15,
    "daemon.traffic": 15,
    "daemon.runtime": 16,
    "daemon.runtime.places": 15,
    "daemon.runtime.driver": 17,
    "daemon.network": 16,
    "daemon.pool": 16,
    "daemon.condition": 16,
    "daemon.verbs": 17,
    "daemon.engine": 18,
    "daemon.actions": 18,
    "daemon.setup": 18,
    "daemon.sweep": 19,
    "daemon.api": 19,
    "daemon.scheduler": 20,
    "daemon.worker": 20,
    "daemon.exporter": 20,
    "daemon.keeper": 20,
    "daemon.doctor": 20,
    "daemon.service": 21,
    "daemon.demo": 22,
    "daemon.cli_common": 22,
    "daemon.cli_accounts": 23,
    "daemon.cli_containers": 23,
    "daemon.cli_images": 23,
    "daemon.cli": 24,
    "daemon.__main__": 25,
}

# Spelled in two halves, so that this file does not break its own rule.
_BANNED = {
    "TO" + "DO": "do it, or open an issue",
    "FIX" + "ME": "fix it",
    "XX" + "X": "say what is meant",
    "HA" + "CK": "say why it must be so",
    "/wo" + "rk/": "a path of one machine",
    "/Us" + "ers/": "a path of one machine",
}
_BANNED_PATTERN = re.compile("|".join(rf"(?<![\w.]){re.escape(word)}" for word in _BANNED))
_UNREASONED = re.compile(r"#\s*(noqa|type: ignore)(?!.*[-#] \w+)")
_LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)")

_PLAIN_BASES = frozenset({"Protocol", "StrEnum", "Enum", "Exception", "BaseModel"})

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Source:
    """A Python file: `name` is its dotted name, a package's `__init__` has the package's."""

    path: str
    name: str
    text: str
    tree: ast.Module

    @property
    def is_package(self) -> bool:
        """Whether it is an `__init__`."""
        return self.path.endswith("__init__.py")


def read_sources(root: Path, folders: Iterable[str] = CHECKED) -> list[Source]:
    """Every Python file of these folders."""
    found = []
    for folder in folders:
        for path in sorted((root / folder).rglob("*.py")):
            relative = path.relative_to(root)
            parts = relative.with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            text = path.read_text(encoding="utf-8")
            found.append(Source(str(relative), name, text, ast.parse(text)))
    return found


def sizes(sources: Sequence[Source]) -> Iterator[str]:
    """Files, lines, functions and parameter lists that are too long."""
    for source in sources:
        lines = source.text.splitlines()
        if len(lines) > FILE_LINES:
            yield f"{source.path}: {len(lines)} lines, at most {FILE_LINES}"
        for number, line in enumerate(lines, 1):
            if len(line) > LINE_LENGTH:
                yield f"{source.path}:{number}: {len(line)} characters, at most {LINE_LENGTH}"
        for node in _functions(source.tree):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            where = f"{source.path}:{node.lineno}: {node.name}"
            if length > FUNCTION_LINES:
                yield f"{where} has {length} lines, at most {FUNCTION_LINES}"
            count = _parameter_count(node)
            if count > PARAMETERS:
                yield f"{where} has {count} parameters, at most {PARAMETERS}"


def hidden_imports(sources: Sequence[Source]) -> Iterator[str]:
    """Imports inside functions, and `import *`."""
    for source in sources:
        for function in _functions(source.tree):
            for node in ast.walk(function):
                if isinstance(node, ast.Import | ast.ImportFrom):
                    yield f"{source.path}:{node.lineno}: import inside {function.name}"
        for node in ast.walk(source.tree):
            if isinstance(node, ast.ImportFrom) and any(part.name == "*" for part in node.names):
                yield f"{source.path}:{node.lineno}: import *"


def import_graph(sources: Sequence[Source]) -> dict[str, set[str]]:
    """For each module, the modules among `sources` that it names in its imports."""
    names = {source.name for source in sources}
    return {source.name: set(_imported(source, names)) - {source.name} for source in sources}


def cycles(sources: Sequence[Source]) -> Iterator[str]:
    """The first import cycle, if there is one."""
    try:
        TopologicalSorter(import_graph(sources)).prepare()
    except CycleError as error:
        yield f"import cycle: {' -> '.join(reversed(error.args[1]))}"


def floors(sources: Sequence[Source], table: Mapping[str, int] = FLOORS) -> Iterator[str]:
    """Imports that go up or sideways, and modules that have no floor."""
    for name, imported in import_graph(sources).items():
        here = _entry(name, table)
        if here is None:
            if name not in CODE:
                yield f"{name}: give it a floor in FLOORS"
            continue
        for other in sorted(imported):
            there = _entry(other, table)
            if there is not None and there != here and table[there] >= table[here]:
                yield f"{name} (floor {table[here]}) imports {other} (floor {table[there]})"


def packages(sources: Sequence[Source]) -> Iterator[str]:
    """An `__init__` without its docstring map, or with more code than one opener; module names
    that hide one of the standard library."""
    for source in sources:
        folder, _, stem = source.name.rpartition(".")
        # Deeper down a plain verb may stand (`actions.copy`): it is only met with its folder.
        if folder in CODE and stem in sys.stdlib_module_names and stem != "__main__":
            yield f"{source.path}: hides the standard library's {stem}"
        if not source.is_package:
            continue
        if source.name.split(".")[0] in CODE and not ast.get_docstring(source.tree):
            yield f"{source.path}: says what the folder holds"
        if sum(map(_is_code, source.tree.body)) > 1:
            yield f"{source.path}: holds re-exports and one opener at most"


def words(texts: Mapping[str, str]) -> Iterator[str]:
    """Banned words, and silenced checks that give no reason."""
    for path, text in texts.items():
        for number, line in enumerate(text.splitlines(), 1):
            for found in _BANNED_PATTERN.findall(line):
                yield f"{path}:{number}: {found}: {_BANNED[found]}"
            if _UNREASONED.search(line):
                yield f"{path}:{number}: a silenced check gives its reason"


def docstrings(sources: Sequence[Source]) -> Iterator[str]:
    """Public modules, classes, functions and methods without a contract. A method needs none
    where another class has it documented under the same name (a protocol's), nor in a class
    that is made of a library's, whose contract stands there."""
    classes = {node.name for source in sources for node in _classes(source)} | _PLAIN_BASES
    methods = [pair for source in sources for pair in _methods(source, classes)]
    documented = {node.name for _source, node in methods if ast.get_docstring(node)}
    for source in sources:
        if not ast.get_docstring(source.tree):
            yield f"{source.path}: has no docstring"
        for node in source.tree.body:
            named = isinstance(node, ast.ClassDef | Function)
            if named and not node.name.startswith("_") and not ast.get_docstring(node):
                yield f"{source.path}:{node.lineno}: {node.name} has no docstring"
    for source, node in methods:
        if not node.name.startswith("_") and node.name not in documented:
            yield f"{source.path}:{node.lineno}: {node.name} has no docstring"


def unread(
    names: Iterable[str], sources: Sequence[Source], ahead: frozenset[str] = frozenset()
) -> Iterator[str]:
    """Names (`section.key`, or a metric's) that no code reads by their last part, beside those
    in `ahead`; and those in `ahead` that are read by now."""
    read = {word for source in sources for word in _words_read(source.tree)}
    for name in names:
        has_reader = name.rpartition(".")[2] in read
        if not has_reader and name not in ahead:
            yield f"{name}: nothing reads it"
        if has_reader and name in ahead:
            yield f"{name}: is read by now; take it off the list"


def links(root: Path, documents: Iterable[str]) -> Iterator[str]:
    """Missing documents, links to files that do not exist, and second first-level headings."""
    for document in documents:
        path = root / document
        if not path.exists():
            yield f"{document}: is missing"
            continue
        text = path.read_text(encoding="utf-8")
        for target in _LINK.findall(text):
            if not (path.parent / target).exists():
                yield f"{document}: links to {target}, which does not exist"
        prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
        if len(re.findall(r"^# ", prose, flags=re.MULTILINE)) != 1:
            yield f"{document}: has one heading of the first level"


def line_count(sources: Sequence[Source], folders: Iterable[str]) -> int:
    """The lines of code in these folders: prose (docstrings, comments) and blank lines aside, for
    a contract that is explained at length is no reason for a longer test."""
    wanted = tuple(f"{folder}/" for folder in folders)
    return sum(_code_lines(one) for one in sources if one.path.startswith(wanted))


def _code_lines(source: Source) -> int:
    prose: set[int] = set()
    for node in ast.walk(source.tree):
        value = node.value if isinstance(node, ast.Expr) else None
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            prose.update(range(value.lineno, (value.end_lineno or value.lineno) + 1))
    return sum(
        bool(line.strip()) and not line.lstrip().startswith("#") and number not in prose
        for number, line in enumerate(source.text.splitlines(), 1)
    )


def _functions(tree: ast.AST) -> Iterator[Function]:
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def _parameter_count(function: Function) -> int:
    given = function.args
    names = [one.arg for one in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    return len([name for name in names if name not in ("self", "cls")])


def _imported(source: Source, names: set[str]) -> Iterator[str]:
    """The modules that the imports name; `from package import module` names the module."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            yield from (part.name for part in node.names if part.name in names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for part in node.names:
                inner = f"{node.module}.{part.name}"
                if inner in names:
                    yield inner
                elif node.module in names:
                    yield node.module


def _entry(name: str, table: Mapping[str, int]) -> str | None:
    """The table's entry for a module: its own, or the nearest folder's."""
    while name:
        if name in table:
            return name
        name = name.rpartition(".")[0]
    return None


def _is_code(node: ast.stmt) -> bool:
    if isinstance(node, ast.Import | ast.ImportFrom):
        return False
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return False
    targets = node.targets if isinstance(node, ast.Assign) else []
    return not any(isinstance(one, ast.Name) and one.id.startswith("_") for one in targets)


def _classes(source: Source) -> Iterator[ast.ClassDef]:
    return (node for node in source.tree.body if isinstance(node, ast.ClassDef))


def _methods(source: Source, classes: set[str]) -> Iterator[tuple[Source, Function]]:
    for node in _classes(source):
        bases = {ast.unparse(one).partition("[")[0] for one in node.bases}
        if not node.name.startswith("_") and bases <= classes:
            yield from ((source, inner) for inner in node.body if isinstance(inner, Function))


def _words_read(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
