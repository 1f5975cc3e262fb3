"""What to do next where the API refuses: the command that shows why, or mends it."""

from __future__ import annotations

from collections.abc import Mapping

LOGIN = "hoodyd token --config FILE | hoody login --url URL"

NEXT: Mapping[str, str] = {
    "MISSING_TOKEN": LOGIN,
    "INVALID_TOKEN": LOGIN,
    "TOKEN_EXPIRED": LOGIN,
    "INSUFFICIENT_PERMISSIONS": "hoodyd token --config FILE --scope SCOPE | hoody login --url URL",
    "CONTAINER_NOT_FOUND": "hoody containers list",
    "SOURCE_CONTAINER_NOT_FOUND": "hoody containers tree",
    "CONTAINER_NOT_COPIED": "hoody containers tree",
    "CONTAINER_NAME_IN_USE": "hoody containers list",
    "OPERATION_STATE_CONFLICT": "hoody jobs list",
    "JOB_NOT_CANCELLABLE": "hoody jobs list",
    "PROJECT_NAME_IN_USE": "hoody projects list",
    "SERVER_CONTAINER_LIMIT": "hoody servers list",
    "INSUFFICIENT_STORAGE": "hoody servers list",
    "SERVICE_UNAVAILABLE": "hoody servers list",
}


def hint(code: str) -> str:
    """`; run: COMMAND` for a refusal that a command helps with, else nothing."""
    return f"; run: {NEXT[code]}" if code in NEXT else ""
