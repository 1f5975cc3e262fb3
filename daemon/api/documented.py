"""What each endpoint answers with beyond what follows from its route: the shape of its data, and
the refusals that not all of its kind have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus

from daemon.api import schemas, schemas_images
from daemon.api.errors import (
    ApiError,
    ContainerNameInUse,
    ContainerNotCopied,
    ContainerNotFound,
    HostPortInUse,
    IdempotencyInProgress,
    ImageAlreadyOwned,
    ImageIsFree,
    ImageNotFree,
    InsufficientBalance,
    InvalidContainerName,
    InvalidId,
    JobCancelled,
    JobNotCancellable,
    KeyAlreadyRetrieved,
    KeyInUse,
    ProjectNameInUse,
    ProxyAliasInUse,
    ResourceNotFound,
    ServerContainerLimit,
    SnapshotAmbiguous,
    SourceContainerNotFound,
    StateConflict,
    StorageInsufficient,
)

Refusals = tuple[type[ApiError], ...]

NAMING: Refusals = (InvalidContainerName, ContainerNameInUse, KeyInUse)
PLACING: Refusals = (ResourceNotFound, ServerContainerLimit, StorageInsufficient)
WAITING: Refusals = (StateConflict, JobCancelled, StorageInsufficient)


@dataclass(frozen=True, slots=True)
class Documented:
    """`data` is the shape of a success; None for what is no JSON, which is a stream of events but
    for an icon (`is_png`). `has_job`: whether the
    answer names a job in its `Location`. `is_finite`: whether the stream may have ended before
    it was asked for."""

    data: type[schemas.Shape] | None
    refusals: Refusals = ()
    status: int = HTTPStatus.OK
    has_job: bool = False
    is_finite: bool = False
    is_png: bool = False

    @property
    def waits(self) -> bool:
        """Whether the answer comes once the job has ended; a refusal may name the job too then."""
        return JobCancelled in self.refusals


_CONTAINER = "/containers/{id}"
_SNAPSHOTS = "/containers/{id}/snapshots"
_SNAPSHOT = "/containers/{id}/snapshots/{name}"
_POWER = Documented(schemas.ContainerObject, (StateConflict,), has_job=True)

ANSWERS: Mapping[tuple[str, str], Documented] = {
    ("POST", "/containers"): Documented(
        schemas.ContainerObject, (InvalidId, *NAMING, *PLACING), HTTPStatus.CREATED, has_job=True
    ),
    ("GET", "/containers"): Documented(schemas.ContainerList, (InvalidId,)),
    ("GET", _CONTAINER): Documented(schemas.ContainerObject),
    ("PATCH", _CONTAINER): Documented(schemas.ContainerObject, (*NAMING, StateConflict)),
    ("DELETE", _CONTAINER): Documented(schemas.DeleteStarted, (StateConflict,), has_job=True),
    ("POST", f"{_CONTAINER}/copy"): Documented(
        schemas.ContainerObject,
        (*NAMING, *PLACING, StateConflict),
        HTTPStatus.CREATED,
        has_job=True,
    ),
    ("POST", f"{_CONTAINER}/sync"): Documented(
        schemas.SyncStarted,
        (*PLACING, SourceContainerNotFound, ContainerNotCopied, StateConflict),
        has_job=True,
    ),
    ("GET", _SNAPSHOTS): Documented(schemas.SnapshotList),
    ("POST", _SNAPSHOTS): Documented(
        schemas.ContainerSnapshot,
        (*WAITING, ResourceNotFound, IdempotencyInProgress),
        has_job=True,
    ),
    ("PATCH", _SNAPSHOT): Documented(schemas.Restored, WAITING, has_job=True),
    ("PATCH", f"{_SNAPSHOT}/alias"): Documented(schemas.ContainerSnapshot, (StateConflict,)),
    ("DELETE", _SNAPSHOT): Documented(
        schemas.SnapshotGone, (*WAITING, SnapshotAmbiguous), has_job=True
    ),
    ("POST", f"{_CONTAINER}/start"): _POWER,
    ("POST", f"{_CONTAINER}/stop"): _POWER,
    ("POST", f"{_CONTAINER}/restart"): _POWER,
    ("GET", f"{_CONTAINER}/firewall-rules"): Documented(schemas.FirewallRules),
    ("PUT", f"{_CONTAINER}/firewall-rules"): Documented(schemas.FirewallRules, (StateConflict,)),
    ("GET", f"{_CONTAINER}/network-rules"): Documented(schemas.NetworkRules),
    ("PUT", f"{_CONTAINER}/network-rules"): Documented(
        schemas.NetworkRules, (StateConflict, HostPortInUse)
    ),
    ("GET", f"{_CONTAINER}/storage"): Documented(schemas.StorageObject),
    ("GET", f"{_CONTAINER}/ssh-private-key"): Documented(
        schemas.PrivateKey, (ResourceNotFound, StateConflict, KeyAlreadyRetrieved)
    ),
    ("GET", "/projects"): Documented(schemas.ProjectList),
    ("POST", "/projects"): Documented(
        schemas.ProjectObject, (ProjectNameInUse,), HTTPStatus.CREATED
    ),
    ("GET", "/projects/{id}"): Documented(schemas.ProjectObject),
    ("GET", "/proxy/aliases"): Documented(schemas.ProxyAliasList, (InvalidId,)),
    ("POST", "/proxy/aliases"): Documented(
        schemas.ProxyAliasObject,
        (InvalidId, ContainerNotFound, StateConflict, ProxyAliasInUse),
        HTTPStatus.CREATED,
    ),
    ("DELETE", "/proxy/aliases/{id}"): Documented(schemas.ProxyAliasObject),
    ("GET", "/images/public"): Documented(schemas_images.PublicImageList),
    ("GET", "/images/public/{id}"): Documented(schemas_images.ImageDetails),
    ("GET", "/images/{id}/icon"): Documented(None, is_png=True),
    ("GET", "/images/user"): Documented(schemas_images.UserImageList),
    ("POST", "/images/import/{id}"): Documented(
        schemas_images.Imported, (ImageNotFree, ImageAlreadyOwned)
    ),
    ("POST", "/images/purchase/{id}"): Documented(
        schemas_images.Purchased, (InsufficientBalance, ImageAlreadyOwned, ImageIsFree)
    ),
    ("POST", "/images/rate/{id}"): Documented(schemas_images.Rated),
    ("GET", "/servers"): Documented(schemas.ServerList),
    ("GET", "/servers/{id}"): Documented(schemas.ServerObject),
    ("GET", "/jobs"): Documented(schemas.JobList, (InvalidId,)),
    ("GET", "/jobs/{id}"): Documented(schemas.JobObject),
    ("GET", "/jobs/{id}/wait"): Documented(schemas.JobObject),
    ("POST", "/jobs/{id}/cancel"): Documented(schemas.JobObject, (JobNotCancellable,)),
    ("GET", "/jobs/{id}/events"): Documented(None, is_finite=True),
    ("GET", "/events"): Documented(None),
}
