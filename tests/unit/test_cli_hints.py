"""What `hoody` says to do next: it must be a refusal that exists and a command that exists."""

from __future__ import annotations

import shlex

import pytest
from click.testing import CliRunner

from daemon.api.errors import ApiError
from daemon.cli import hoodyd
from daemon.client_cli import hoody
from daemon.commands.hints import NEXT, hint


def codes(kind: type[ApiError] = ApiError) -> set[str]:
    below = set().union(*(codes(one) for one in kind.__subclasses__()))
    return below | ({kind.code} if hasattr(kind, "code") else set())


@pytest.mark.parametrize("code", NEXT)
def test_a_hint_names_a_command_that_there_is(code: str) -> None:
    assert code in codes()
    for command in NEXT[code].split(" | "):
        program, *words = shlex.split(command)
        verbs = words[: next((at for at, word in enumerate(words) if word[0] == "-"), None)]
        group = {"hoody": hoody, "hoodyd": hoodyd}[program]
        shown = CliRunner().invoke(group, [*verbs, "--help"])
        assert shown.exit_code == 0, shown.output
        for option in (word for word in words if word.startswith("--")):
            assert option in shown.output


def test_where_no_command_helps_nothing_is_said() -> None:
    assert hint("VALIDATION_ERROR") == ""
    assert hint("TOKEN_EXPIRED").startswith("; run: hoodyd token")
