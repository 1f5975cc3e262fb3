"""Everything that can go wrong on the data path.

TransferError
├── PeerError
│   ├── PeerUnreachable        PEER_UNREACHABLE            retryable
│   ├── PeerRefused            PEER_REFUSED
│   └── PeerHostKeyMismatch    PEER_HOST_KEY_MISMATCH
├── StreamCorrupt              STREAM_CORRUPT              retryable
├── TransferStalled            TRANSFER_STALLED            retryable
├── InsufficientStorage        INSUFFICIENT_STORAGE
├── SourceChanged              SOURCE_CHANGED              retryable
├── SourcePathInvalid          SOURCE_PATH_INVALID
├── ArchiveInvalid             ARCHIVE_INVALID
├── VerifyMismatch             VERIFY_MISMATCH
├── CannotExpress              STRATEGY_UNAVAILABLE
├── EncryptionMismatch         ENCRYPTION_MISMATCH
├── KeyUnavailable             ENCRYPTION_KEY_UNAVAILABLE
└── StorageError               STORAGE_ERROR
    ├── CommandFailed          STORAGE_ERROR               retryable
    ├── DatasetBusy            DATASET_BUSY                retryable
    ├── DatasetMissing         DATASET_MISSING
    ├── SnapshotMissing        SNAPSHOT_MISSING
    └── PermissionMissing      PERMISSION_MISSING

`code` is contract (a job's `error.code`), `message` is for people, `evidence` holds the facts
that led to it as plain JSON values.
"""

from __future__ import annotations

from typing import ClassVar

Evidence = dict[str, object]


class TransferError(Exception):
    """The root of the tree; never raised itself."""

    code: ClassVar[str] = "INTERNAL_ERROR"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, **evidence: object) -> None:
        super().__init__(message)
        self.message = message
        self.evidence: Evidence = evidence


class PeerError(TransferError):
    """Something between two servers went wrong."""


class PeerUnreachable(PeerError):
    """No connection to the peer, or it was cut."""

    code = "PEER_UNREACHABLE"
    retryable = True


class PeerRefused(PeerError):
    """The peer answered that we may not have this."""

    code = "PEER_REFUSED"


class PeerHostKeyMismatch(PeerError):
    """The peer's host key is not the one that the catalogue pins."""

    code = "PEER_HOST_KEY_MISMATCH"


class StreamCorrupt(TransferError):
    """A frame or a whole stream does not match its length or digest."""

    code = "STREAM_CORRUPT"
    retryable = True


class TransferStalled(TransferError):
    """A stage made no progress within its deadline."""

    code = "TRANSFER_STALLED"
    retryable = True


class InsufficientStorage(TransferError):
    """The storage has no room for what would come."""

    code = "INSUFFICIENT_STORAGE"


class SourceChanged(TransferError):
    """What was planned on is gone from the source; a new plan helps."""

    code = "SOURCE_CHANGED"
    retryable = True


class SourcePathInvalid(TransferError):
    """The directory to take in is not an absolute, readable directory under an import root."""

    code = "SOURCE_PATH_INVALID"


class ArchiveInvalid(TransferError):
    """A root filesystem's archive is damaged, or holds what cannot be unpacked; `evidence` says
    which entry."""

    code = "ARCHIVE_INVALID"


class VerifyMismatch(TransferError):
    """What arrived is not what the source has."""

    code = "VERIFY_MISMATCH"


class CannotExpress(TransferError):
    """The backends at hand cannot serve what was asked for."""

    code = "STRATEGY_UNAVAILABLE"


class EncryptionMismatch(TransferError):
    """One side of a lineage came encrypted and the other did not: no increment joins them."""

    code = "ENCRYPTION_MISMATCH"


class KeyUnavailable(TransferError):
    """The key of an encrypted dataset is not loaded on the server that has to mount it."""

    code = "ENCRYPTION_KEY_UNAVAILABLE"


class StorageError(TransferError):
    """The storage backend failed."""

    code = "STORAGE_ERROR"


class CommandFailed(StorageError):
    """A child process ended with a failure that has no better name."""

    retryable = True


class DatasetBusy(StorageError):
    """The dataset is mounted, held, cloned or in use; `evidence` says which, by `causes` where
    ZFS itself does not."""

    code = "DATASET_BUSY"
    retryable = True


class DatasetMissing(StorageError):
    """No such dataset."""

    code = "DATASET_MISSING"


class SnapshotMissing(StorageError):
    """No such snapshot."""

    code = "SNAPSHOT_MISSING"


class PermissionMissing(StorageError):
    """The user that we run as may not do this with the storage."""

    code = "PERMISSION_MISSING"


def from_code(code: str, message: str, evidence: Evidence) -> TransferError:
    """The error that a peer named by its code, as this side raises it."""
    kind = _BY_CODE.get(code, StorageError)
    return kind(message, **evidence)


def _leaves(kind: type[TransferError]) -> list[type[TransferError]]:
    found = [kind]
    for child in kind.__subclasses__():
        found += _leaves(child)
    return found


_BY_CODE = {kind.code: kind for kind in reversed(_leaves(TransferError))}
