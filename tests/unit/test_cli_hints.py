"""What `hoody` says to do next: it must be a refusal that exists and a command that exists."""

from __future__ import annotations

import re
import shlex

import pytest
from click.testing import CliRunner

from daemon.api.errors import ApiError
from daemon.cli import hoodyd
from daemon.client import Json, Refused
from daemon.client_cli import hoody
from daemon.commands.hints import IMPORT_ROOTS, NEXT, hint, of_job, told

WEB = "507f1f77bcf86cd799439044"


def codes(kind: type[ApiError] = ApiError) -> set[str]:
    below = set().union(*(codes(one) for one in kind.__subclasses__()))
    return below | ({kind.code} if hasattr(kind, "code") else set())


def commands(sentence: str) -> list[str]:
    """The commands in a hint, each part of a pipe by itself; what is in parentheses is no part."""
    found = re.sub(r" \([^)]*\)", "", sentence).removeprefix("; run: ")
    return re.split(r" \| |, or: ", found)


def must_exist(command: str) -> None:
    program, *words = shlex.split(command)
    verbs = words[: next((at for at, word in enumerate(words) if word[0] == "-"), None)]
    group = {"hoody": hoody, "hoodyd": hoodyd}[program]
    shown = CliRunner().invoke(group, [*verbs, "--help"])
    assert shown.exit_code == 0, shown.output
    for option in (word for word in words if word.startswith("--")):
        assert option in shown.output


@pytest.mark.parametrize("code", NEXT)
def test_a_hint_names_a_command_that_there_is(code: str) -> None:
    assert code in codes()
    for command in NEXT[code].split(" | "):
        must_exist(command)


CASES = [
    ("INSUFFICIENT_PERMISSIONS", {"source_path": "is for admins"}, "/containers", " --admin |"),
    ("INSUFFICIENT_PERMISSIONS", {"scope": "needs 'admin'"}, "/servers", " --admin |"),
    (
        "INSUFFICIENT_PERMISSIONS",
        {"scope": "needs 'containers'"},
        f"/containers/{WEB}/copy",
        " --scope read --scope containers |",
    ),
    (
        "OPERATION_STATE_CONFLICT",
        {"status": "error"},
        f"/containers/{WEB}/start",
        f"containers sync {WEB} (tries a copy again), or: hoody containers delete {WEB}",
    ),
    (
        "OPERATION_STATE_CONFLICT",
        {"status": "copying"},
        f"/containers/{WEB}/stop",
        f"run: hoody jobs list --container {WEB}",
    ),
    (
        "OPERATION_STATE_CONFLICT",
        {},
        f"/containers/{WEB}/sync",
        f"run: hoody jobs list --container {WEB}",
    ),
    (
        "OPERATION_STATE_CONFLICT",
        {"status": "stopped"},
        f"/containers/{WEB}/stop",
        f"run: hoody containers show {WEB}",
    ),
    (
        "RESOURCE_NOT_FOUND",
        {"name": "names no snapshot of the container"},
        f"/containers/{WEB}/snapshots/old",
        f"run: hoody snapshots list {WEB}",
    ),
    (
        "RESOURCE_NOT_FOUND",
        {"source_snapshot": "names no snapshot of the container"},
        f"/containers/{WEB}/copy",
        f"run: hoody snapshots list {WEB}",
    ),
    (
        "RESOURCE_NOT_FOUND",
        {"target_server_id": "names no server"},
        f"/containers/{WEB}/copy",
        "run: hoody servers list",
    ),
    ("RESOURCE_NOT_FOUND", {}, f"/jobs/{WEB}", "run: hoody jobs list"),
    ("RESOURCE_NOT_FOUND", {}, f"/proxy/aliases/{WEB}", "run: hoody proxy list"),
    (
        "OPERATION_STATE_CONFLICT",
        {"status": "deleting"},
        "/proxy/aliases",
        "run: hoody containers list",
    ),
    (
        "SNAPSHOT_ALIAS_AMBIGUOUS",
        {"snapshots": ["snap-1", "snap-2"]},
        f"/containers/{WEB}/snapshots/a1",
        f"(snapshots: snap-1, snap-2); run: hoody snapshots list {WEB}",
    ),
    ("IMAGE_NOT_FREE", {}, f"/images/import/{WEB}", f"run: hoody images purchase {WEB}"),
    ("IMAGE_IS_FREE", {}, f"/images/purchase/{WEB}", f"run: hoody images import {WEB}"),
    ("RESOURCE_NOT_FOUND", {}, f"/images/rate/{WEB}", "run: hoody images list"),
    (
        "SERVICE_UNAVAILABLE",
        {"server_id": "two is offline"},
        f"/containers/{WEB}/snapshots",
        "(server_id: two is offline); run: hoody servers list",
    ),
]


@pytest.mark.parametrize(("code", "details", "path", "words"), CASES)
def test_a_hint_fits_what_was_refused(
    code: str, details: dict[str, object], path: str, words: str
) -> None:
    assert code in codes()
    refused = Refused(400, code, "It cannot be.", details, path=path)
    assert words in told(refused)
    assert told(refused).startswith(f"{code}: It cannot be")
    assert ".; run" not in told(refused)
    for command in commands(hint(refused)):
        must_exist(command)


def test_faults_of_a_server_send_the_reader_to_its_log() -> None:
    assert "/readyz" in hint(Refused(503, "SERVICE_UNAVAILABLE", "Service unavailable"))
    assert "log" in hint(Refused(500, "INTERNAL_ERROR", "Internal server error"))
    late = Refused(503, "SERVICE_UNAVAILABLE", "not yet", {"job": "goes on"}, job_id=WEB)
    assert hint(late) == f"; run: hoody jobs watch {WEB}"


def test_a_directory_that_is_under_no_import_root_names_the_key() -> None:
    reason = "is not under an import root of this server"
    message = f"Invalid source_path: {reason}"
    refused = Refused(400, "VALIDATION_ERROR", message, {"source_path": reason})
    assert told(refused) == f"VALIDATION_ERROR: {message}; {IMPORT_ROOTS}"
    assert "storage.import_roots" in IMPORT_ROOTS
    failed: Json = {"message": "source_path is under no import root", "code": "SOURCE_PATH_INVALID"}
    assert of_job({"id": WEB}, failed) == f"; {IMPORT_ROOTS}"
    assert of_job({"id": WEB}, {"message": "no answer"}) == f"; run: hoody jobs show {WEB}"


def test_details_are_told_once() -> None:
    said = told(Refused(400, "VALIDATION_ERROR", "Bad: expiry must be", {"expiry": "must be"}))
    assert said == "VALIDATION_ERROR: Bad: expiry must be"
    said = told(Refused(400, "VALIDATION_ERROR", "Bad: expiry must be", {"a": 1, "b": [2, 3]}))
    assert said == "VALIDATION_ERROR: Bad: expiry must be (a: 1; b: 2, 3)"


def test_where_no_command_helps_nothing_is_said() -> None:
    assert hint(Refused(400, "VALIDATION_ERROR", "no")) == ""
    assert hint(Refused(404, "RESOURCE_NOT_FOUND", "no", path="/projects")) == ""
    assert hint(Refused(401, "TOKEN_EXPIRED", "no")).startswith("; run: hoodyd token")
