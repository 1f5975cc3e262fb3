"""What the API refuses, each with its status and code: the only place that knows HTTP statuses
of failures.

ApiError
├── 400  ValidationFailed InvalidRating InvalidId InvalidContainerName ServerContainerLimit
│        ImageNotFree ImageAlreadyOwned ImageIsFree InsufficientBalance
├── 401  MissingToken InvalidToken ExpiredToken
├── 403  InsufficientPermissions AccountBanned
├── 404  ResourceNotFound ContainerNotFound SourceContainerNotFound
├── 405  MethodNotAllowed
├── 409  StateConflict ContainerNameInUse KeyInUse HostPortInUse ProjectNameInUse
│        ProxyAliasInUse ContainerNotCopied JobNotCancellable JobCancelled SnapshotAmbiguous
│        IdempotencyInProgress
├── 410  KeyAlreadyRetrieved
├── 413  PayloadTooLarge
├── 415  UnsupportedMediaType
├── 422  IdempotencyKeyReused
├── 429  RateLimited
├── 500  InternalError
├── 503  ServiceUnavailable
└── 507  StorageInsufficient

Status and `code` are contract, `message` is for people. `details` maps the field (or the fact)
at fault to the reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from daemon.errors import Conflict, DaemonError
from daemon.model import Container


class ApiError(DaemonError):
    """The root of the tree; never raised itself."""

    status: ClassVar[int]
    code: ClassVar[str]
    text: ClassVar[str]

    def __init__(
        self,
        message: str | None = None,
        *,
        details: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message or self.text)
        self.details = dict(details or {})
        self.headers = dict(headers or {})


class ValidationFailed(ApiError):
    """A parameter or the body is not what the contract says; `details` names the field."""

    status, code, text = 400, "VALIDATION_ERROR", "Invalid input parameters"


class InvalidRating(ValidationFailed):
    """A rating that is no number of stars."""

    text = "Invalid rating value (must be 0-5)"


class InvalidId(ApiError):
    """An id that is not 24 lower-case hex digits."""

    status, code, text = 400, "INVALID_ID_FORMAT", "Invalid ID format"


class InvalidContainerName(ApiError):
    """A container name of wrong length or letters."""

    status, code, text = 400, "INVALID_CONTAINER_NAME", "Invalid container name"


class ServerContainerLimit(ApiError):
    """The target server has `max_containers` live containers."""

    status, code, text = 400, "SERVER_CONTAINER_LIMIT", "Server container limit reached"


class ImageNotFree(ApiError):
    """Import of an image that has a price."""

    status, code, text = 400, "IMAGE_NOT_FREE", "The image is not free"


class ImageAlreadyOwned(ApiError):
    """Import or purchase of an image that the user has imported or bought."""

    status, code, text = 400, "IMAGE_ALREADY_OWNED", "The image is owned already"


class ImageIsFree(ApiError):
    """Purchase of an image that has no price."""

    status, code, text = 400, "IMAGE_IS_FREE", "The image is free"


class InsufficientBalance(ApiError):
    """Purchase of an image that costs more than the user has."""

    status, code, text = 400, "INSUFFICIENT_BALANCE", "Insufficient balance"


class Unauthorized(ApiError):
    """Any 401: says how to authenticate."""

    status = 401

    def __init__(self) -> None:
        super().__init__(headers={"WWW-Authenticate": "Bearer"})


class MissingToken(Unauthorized):
    """No bearer token was given."""

    code, text = "MISSING_TOKEN", "Authentication token required"


class InvalidToken(Unauthorized):
    """The token is malformed, wrongly signed, revoked, or its user is unknown."""

    code, text = "INVALID_TOKEN", "Invalid authentication token"


class ExpiredToken(Unauthorized):
    """The token is past its `exp`."""

    code, text = "TOKEN_EXPIRED", "Authentication token expired"


class InsufficientPermissions(ApiError):
    """The token lacks the scope, or the account an image that must be purchased."""

    status, code, text = 403, "INSUFFICIENT_PERMISSIONS", "Insufficient permissions"


class AccountBanned(ApiError):
    """The user is banned."""

    status, code, text = 403, "ACCOUNT_BANNED", "Account banned"


class ResourceNotFound(ApiError):
    """Unknown, or somebody else's, path, job, snapshot, project or server."""

    status, code, text = 404, "RESOURCE_NOT_FOUND", "Resource not found"


class ContainerNotFound(ApiError):
    """Unknown, or somebody else's, container."""

    status, code, text = 404, "CONTAINER_NOT_FOUND", "Container not found"


class SourceContainerNotFound(ApiError):
    """The container to copy, or the one that a copy came from, is unknown or somebody else's."""

    status, code, text = 404, "SOURCE_CONTAINER_NOT_FOUND", "Source container not found"


class MethodNotAllowed(ApiError):
    """The path exists, for other methods."""

    status, code, text = 405, "METHOD_NOT_ALLOWED", "Method not allowed"


class StateConflict(ApiError):
    """The container's state does not allow the verb; `details.status` names the state."""

    status, code, text = 409, "OPERATION_STATE_CONFLICT", "Container State Conflict"

    @classmethod
    def of(cls, container: Container, verb: str) -> StateConflict:
        """`verb` does not work on `container` now."""
        message = f"Container State Conflict: {verb} is not possible while {container.status}"
        return cls(message, details={"status": container.status.value})


class ContainerNameInUse(ApiError):
    """The project has a container of this name."""

    status, code = 409, "CONTAINER_NAME_IN_USE"
    text = "Container name already in use within the project"


class KeyInUse(ApiError):
    """Another container has this key."""

    status, code, text = 409, "SSH_PUBLIC_KEY_IN_USE", "SSH public key already in use"


class HostPortInUse(ApiError):
    """Another container of the same server forwards the port; `details` names it."""

    status, code, text = 409, "HOST_PORT_IN_USE", "Another container's rules have this host_port"


class ProjectNameInUse(ApiError):
    """The owner has a project of this name."""

    status, code, text = 409, "PROJECT_NAME_IN_USE", "Project name already in use"


class ProxyAliasInUse(ApiError):
    """The container's project has a proxy alias of this name."""

    status, code = 409, "PROXY_ALIAS_IN_USE"
    text = "Proxy alias already in use within the project"


class ContainerNotCopied(ApiError):
    """Sync of a container that is no copy."""

    status, code = 409, "CONTAINER_NOT_COPIED"
    text = "Container was not created from a copy, sync is not possible."


class JobNotCancellable(ApiError):
    """The job has ended, or is switching already."""

    status, code, text = 409, "JOB_NOT_CANCELLABLE", "It is too late to cancel the job"


class JobCancelled(ApiError):
    """The job that the request waited for was cancelled."""

    status, code, text = 409, "JOB_CANCELLED", "The job was cancelled"


class SnapshotAmbiguous(ApiError):
    """Several snapshots have the alias, and what is asked cannot be undone."""

    status, code, text = 409, "SNAPSHOT_ALIAS_AMBIGUOUS", "Several snapshots have this alias"


class IdempotencyInProgress(ApiError):
    """The first request with this Idempotency-Key still waits for its job."""

    status, code = 409, "IDEMPOTENCY_IN_PROGRESS"
    text = "The first request with this Idempotency-Key has not been answered yet"


class KeyAlreadyRetrieved(ApiError):
    """A generated private key is given out once."""

    status, code, text = 410, "KEY_ALREADY_RETRIEVED", "The private key was retrieved already"


class PayloadTooLarge(ApiError):
    """The body is larger than `limits.body_bytes`."""

    status, code, text = 413, "PAYLOAD_TOO_LARGE", "Request body too large"


class UnsupportedMediaType(ApiError):
    """A Content-Type that is not read as JSON."""

    status, code, text = 415, "UNSUPPORTED_MEDIA_TYPE", "Unsupported media type"


class IdempotencyKeyReused(ApiError):
    """The Idempotency-Key came with another query or body before."""

    status, code = 422, "IDEMPOTENCY_KEY_REUSED"
    text = "The Idempotency-Key was used for another request"


class RateLimited(ApiError):
    """Too many requests, or too many unfinished jobs."""

    status, code, text = 429, "RATE_LIMITED", "Too many requests"

    @classmethod
    def after(cls, seconds: int, message: str | None = None) -> RateLimited:
        """Try again in `seconds`."""
        return cls(message, headers={"Retry-After": str(seconds)})


class InternalError(ApiError):
    """A fault of ours. The log has the traceback, under the request's id."""

    status, code, text = 500, "INTERNAL_ERROR", "Internal server error"


class ServiceUnavailable(ApiError):
    """The catalogue or the container's server does not answer, or not in time."""

    status, code, text = 503, "SERVICE_UNAVAILABLE", "Service unavailable"


class StorageInsufficient(ApiError):
    """The target server has no room for what would come."""

    status, code, text = 507, "INSUFFICIENT_STORAGE", "Insufficient storage on the target server"


_BY_RULE: dict[str, type[ApiError]] = {
    "container_name": ContainerNameInUse,
    "ssh_key": KeyInUse,
    "project_name": ProjectNameInUse,
    "proxy_alias": ProxyAliasInUse,
    "job": StateConflict,
}


def from_conflict(conflict: Conflict) -> ApiError:
    """The refusal for a unique rule of the catalogue that two requests raced for."""
    return _BY_RULE[conflict.rule]()
