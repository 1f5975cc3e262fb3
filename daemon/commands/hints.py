"""What to do next where the API refuses: the command that shows why, or mends it."""

from __future__ import annotations

from collections.abc import Mapping

from daemon.client import Json, Refused

ISSUE = "hoodyd token --config FILE"
LOGIN = "hoody login --url URL"
BUSY = frozenset({"creating", "copying", "restoring", "deleting"})
IMPORT_ROOTS = (
    "list the directory or one above it in storage.import_roots of that server's hoodyd.toml, "
    "and start its hoodyd again"
)

NEXT: Mapping[str, str] = {
    "MISSING_TOKEN": f"{ISSUE} | {LOGIN}",
    "INVALID_TOKEN": f"{ISSUE} | {LOGIN}",
    "TOKEN_EXPIRED": f"{ISSUE} | {LOGIN}",
    "CONTAINER_NOT_FOUND": "hoody containers list",
    "SOURCE_CONTAINER_NOT_FOUND": "hoody containers tree",
    "CONTAINER_NOT_COPIED": "hoody containers tree",
    "CONTAINER_NAME_IN_USE": "hoody containers list",
    "JOB_NOT_CANCELLABLE": "hoody jobs list",
    "PROJECT_NAME_IN_USE": "hoody projects list",
    "PROXY_ALIAS_IN_USE": "hoody proxy list",
    "IMAGE_ALREADY_OWNED": "hoody images mine",
    "INSUFFICIENT_BALANCE": "hoodyd user credit ID AMOUNT",
    "SERVER_CONTAINER_LIMIT": "hoody servers list",
    "INSUFFICIENT_STORAGE": "hoody servers list",
}

# A field that names nothing: the noun whose list has what it may name.
_LISTS = {
    "project_id": "projects",
    "target_project_id": "projects",
    "server_id": "servers",
    "target_server_id": "servers",
    "image": "images",
}


def told(refused: Refused) -> str:
    """A refusal in one line: what, which fields and why, and what to do next."""
    message = refused.message.rstrip(".")
    return f"{refused.code}: {message}{_reasons(message, refused.details)}{hint(refused)}"


def hint(refused: Refused) -> str:
    """`; run: COMMAND` for a refusal that a command helps with, another sentence for one that
    an operator mends, else nothing."""
    details = refused.details if isinstance(refused.details, dict) else {}
    of_code = {
        "INSUFFICIENT_PERMISSIONS": _permission,
        "OPERATION_STATE_CONFLICT": _conflict,
        "RESOURCE_NOT_FOUND": _missing,
        "IMAGE_NOT_FREE": _other_way,
        "IMAGE_IS_FREE": _other_way,
        "SNAPSHOT_ALIAS_AMBIGUOUS": _missing,
        "SERVICE_UNAVAILABLE": _unavailable,
    }
    if refused.code in of_code:
        return of_code[refused.code](refused, details)
    if "import root" in str(details.get("source_path")):
        return f"; {IMPORT_ROOTS}"
    if refused.code == "INTERNAL_ERROR":
        return "; the log of that server's hoodyd says why"
    return f"; run: {NEXT[refused.code]}" if refused.code in NEXT else ""


def of_job(job: Json, fault: Json) -> str:
    """The same for a job that failed."""
    show = f"; run: hoody jobs show {job.get('id')}"
    return f"; {IMPORT_ROOTS}" if "import root" in str(fault.get("message")) else show


def _permission(_refused: Refused, details: Json) -> str:
    """The scope that is needed, beside `read`, by which things are found by their names; or the
    image."""
    if "image" in details:
        return "; run: hoody images purchase ID"
    scope = str(details.get("scope", "")).removeprefix("needs ").strip("'")
    admin = "source_path" in details or scope == "admin"
    option = "--admin" if admin or not scope else f"--scope read --scope {scope}"
    return f"; run: {ISSUE} {option} | {LOGIN}"


def _conflict(refused: Refused, details: Json) -> str:
    container = _container(refused)
    if not container:
        return "; run: hoody containers list"
    if details.get("status") == "error":
        sync, delete = (f"hoody containers {verb} {container}" for verb in ("sync", "delete"))
        return f"; run: {sync} (tries a copy again), or: {delete}"
    if details.get("status") in BUSY or not details:
        return f"; run: hoody jobs list --container {container}"
    return f"; run: hoody containers show {container}"


def _missing(refused: Refused, details: Json) -> str:
    for field, noun in _LISTS.items():
        if field in details:
            return f"; run: hoody {noun} list"
    noun, *below = refused.path.lstrip("/").split("/")
    if noun in ("images", "jobs", "projects", "proxy", "servers") and below:
        return f"; run: hoody {noun} list"
    is_snapshot = noun == "containers" and below and details
    return f"; run: hoody snapshots list {_container(refused)}" if is_snapshot else ""


def _other_way(refused: Refused, _details: Json) -> str:
    """What cannot be had in one way can be in the other: `/images/import/ID`."""
    verb = "purchase" if refused.code == "IMAGE_NOT_FREE" else "import"
    return f"; run: hoody images {verb} {refused.path.rpartition('/')[2]}"


def _unavailable(refused: Refused, details: Json) -> str:
    if "server_id" in details:
        return "; run: hoody servers list"
    if refused.job_id is not None:
        return f"; run: hoody jobs watch {refused.job_id}"
    return "; /readyz at that URL and the log of its hoodyd say why"


def _container(refused: Refused) -> str:
    """The container that was asked for, `/containers/ID/...`; "" where a path names none."""
    noun, _, below = refused.path.removeprefix("/").partition("/")
    return below.partition("/")[0] if noun == "containers" else ""


def _reasons(message: str, details: object) -> str:
    """Which fields and why, where the message does not say so already."""
    if not isinstance(details, dict):
        return f" ({details})" if details else ""
    new = [
        f"{key}: {', '.join(map(str, value)) if isinstance(value, list) else value}"
        for key, value in details.items()
        if not (str(key) in message and str(value) in message)
    ]
    return f" ({'; '.join(new)})" if new else ""
