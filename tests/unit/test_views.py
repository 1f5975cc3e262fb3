"""What the API shows of the catalogue's values."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from daemon import views
from daemon.model import (
    Container,
    DatasetRow,
    Job,
    JobState,
    JobType,
    Project,
    Role,
    Server,
    Status,
    UserSnapshot,
)

AT = datetime(2026, 1, 15, 10, 30, tzinfo=UTC)
PROJECT = Project("1" * 24, "9" * 24, "production", "production", AT)
SERVER = Server("2" * 24, "node-sg-sin-1", "h:1", "key", "zfs", "containers.hoody.icu")
COPY = Container(
    id="3" * 24,
    project_id=PROJECT.id,
    owner_id=PROJECT.owner_id,
    server_id=SERVER.id,
    name="web-app-staging",
    status=Status.COPYING,
    source_container_id="4" * 24,
    created_at=AT,
    updated_at=AT,
)
SOURCE = replace(COPY, id="4" * 24, source_container_id=None)
JOB = Job("5" * 24, JobType.COPY, JobState.RUNNING, COPY.id, SERVER.id, "9" * 24, created_at=AT)

SNAPSHOT = UserSnapshot(COPY.id, "8" * 24, "snap-20260115-103000", "77", 5, AT)

# The fields of the copy page's example, and those that API.md adds.
PAGE = frozenset(
    {"id", "name", "status", "source_container_id", "project_id", "project_alias", "server_id"}
    | {"server_name", "subserver_name", "server", "ssh_hostname", "color", "container_image"}
    | {"ai", "hoody_kit", "dev_kit", "autostart", "ramdisk", "prespawn", "is_default", "volumes"}
    | {"container_image_id", "environment_vars", "ssh_public_key", "comment", "realm_ids"}
    | {"copy_firewall_rules", "copy_network_rules", "created_at", "updated_at"}
)
ADDED = frozenset(
    {"status_reason", "exit_code", "disk_used_bytes", "last_synced_at", "sync_state"}
    | {"source_snapshot", "current_job_id", "sync_schedule"}
)
AROUND = views.Surroundings(PROJECT, SERVER)


def view(container: Container = COPY, job: Job | None = None) -> dict[str, object]:
    return views.container_view(container, replace(AROUND, job=job))


def test_the_container_object_has_the_pages_fields_and_what_is_added() -> None:
    shown = view()
    assert shown.keys() >= PAGE | ADDED
    assert shown["created_at"] == "2026-01-15T10:30:00.000Z"
    assert shown["ssh_hostname"] == (
        f"{PROJECT.id}-{COPY.id}-ssh.node-sg-sin-1.containers.hoody.icu"
    )
    assert shown["subserver_name"] == COPY.name
    assert (shown["volumes"], shown["realm_ids"]) == ({}, [])


def test_a_snapshot_that_was_never_used_and_never_expires() -> None:
    assert views.snapshot_view(replace(SNAPSHOT, referenced_bytes=9, unique_bytes=4)) == {
        "name": "snap-20260115-103000",
        "alias": None,
        "created_at": "2026-01-15T10:30:00.000Z",
        "last_used_at": None,
        "expires_at": None,
        "stateful": False,
        "size": 9,
        "guid": "77",
        "inherited": False,
        "unique_bytes": 4,
        "inconsistent_files": 0,
    }


def test_a_snapshot_with_everything() -> None:
    full = replace(
        SNAPSHOT,
        alias="baseline",
        last_used_at=AT + timedelta(hours=1),
        expires_at=AT + timedelta(days=0.5),
        inherited=True,
        inconsistent_files=2,
    )
    shown = views.snapshot_view(full)
    assert (shown["alias"], shown["inherited"], shown["inconsistent_files"]) == (
        "baseline",
        True,
        2,
    )
    assert shown["last_used_at"] == "2026-01-15T11:30:00.000Z"
    assert shown["expires_at"] == "2026-01-15T22:30:00.000Z"


def test_secrets_of_a_container_are_never_shown() -> None:
    secret = replace(COPY, ssh_private_sealed=b"sealed", ssh_key_id="ssh-ed25519 AAAA")
    assert "sealed" not in str(view(secret))
    assert "AAAA" not in str(view(secret))


def test_flags_that_were_never_set_are_false() -> None:
    shown = view(replace(COPY, flags={"ai": True}))
    assert {name: shown[name] for name in views.FLAGS} == {
        **dict.fromkeys(views.FLAGS, False),
        "ai": True,
    }


def test_the_job_that_has_not_ended_is_named() -> None:
    assert view()["current_job_id"] is None
    assert view(job=JOB)["current_job_id"] == JOB.id


def test_times_are_utc_with_milliseconds() -> None:
    east = datetime(2026, 1, 15, 12, 30, 0, 7_999, tzinfo=timezone(timedelta(hours=2)))
    assert views.time_text(east) == "2026-01-15T10:30:00.007Z"
    assert views.optional_time(None) is None


@pytest.mark.parametrize(
    ("synced", "source_changed", "state"),
    [(None, 0, "behind"), (5, 5, "current"), (5, 4, "current"), (5, 6, "behind")],
)
def test_a_copy_is_behind_what_changed_after_it_was_synced(
    synced: int | None, source_changed: int, state: str
) -> None:
    synced_at = None if synced is None else AT + timedelta(seconds=synced)
    changed_at = AT + timedelta(seconds=source_changed)
    copied = replace(COPY, last_synced_at=synced_at)
    unnoted = replace(SOURCE, updated_at=changed_at)
    assert views.sync_state(copied, replace(AROUND, source=unnoted)) == state
    # What was noted of the filesystem counts, and not a later change of the record.
    edited = replace(SOURCE, updated_at=AT + timedelta(days=1))
    noted = replace(AROUND, source=edited, source_written_at=changed_at)
    assert views.sync_state(copied, noted) == state


def test_only_copies_have_a_sync_state_and_one_without_its_source_is_orphaned() -> None:
    assert views.sync_state(SOURCE, AROUND) is None
    assert views.sync_state(COPY, AROUND) == "orphaned"


@pytest.mark.parametrize(
    ("progress", "percent", "eta"),
    [
        ({}, 0.0, None),
        ({"bytes_done": 0, "bytes_total": 0}, 0.0, None),
        ({"bytes_done": 413, "bytes_total": 1000, "rate_bytes_per_second": 100}, 41.3, 6),
        ({"bytes_done": 999_999, "bytes_total": 1_000_000}, 99.9, None),
        ({"bytes_done": 20, "bytes_total": 10, "rate_bytes_per_second": 1}, 100.0, None),
        ({"bytes_done": "rubbish", "bytes_total": 10}, 0.0, None),
    ],
)
def test_progress_never_promises_too_much(
    progress: dict[str, object], percent: float, eta: int | None
) -> None:
    shown = views.job_view(replace(JOB, progress=progress))["progress"]
    assert isinstance(shown, dict)
    assert (shown["percent"], shown["eta_seconds"]) == (percent, eta)


def test_a_job_that_succeeded_is_complete_whatever_was_estimated() -> None:
    done = replace(JOB, state=JobState.SUCCEEDED, progress={"bytes_done": 4, "bytes_total": 9})
    shown = views.job_view(done)["progress"]
    assert isinstance(shown, dict)
    assert shown["percent"] == 100.0


def test_checkpoints_and_parameters_of_a_job_stay_inside() -> None:
    inside = replace(JOB, params={"source_path": "/srv/x"}, checkpoint={"mirror": "m"})
    assert not {"params", "checkpoint", "user_id", "sequence"} & views.job_view(inside).keys()
    assert "/srv/x" not in str(views.job_view(inside))


def test_paths_and_addresses_are_for_admins() -> None:
    live = DatasetRow(
        "6" * 24,
        SERVER.id,
        Role.GENERATION,
        "6" * 24,
        f"containers/{COPY.id}/{'6' * 24}",
        origin_guid="77",
        storage_name="tank/hoody/x",
        rootfs="/srv/hoody/x",
    )
    mirror = replace(live, id="7" * 24, role=Role.MIRROR)
    container = replace(COPY, generation_id=live.id, referenced_bytes=5, unique_bytes=3)
    for_admin = views.storage_view(container, SERVER, [live, mirror], for_admin=True)
    for_others = views.storage_view(container, SERVER, [live, mirror], for_admin=False)
    assert (for_admin["dataset"], for_admin["rootfs"]) == ("tank/hoody/x", "/srv/hoody/x")
    assert (for_others["dataset"], for_others["rootfs"]) == (None, None)
    assert for_admin["generations"] == for_others["generations"] == 1
    assert for_others["origin_guid"] == "77"
    shown = [
        views.server_view(SERVER, online=True, live_containers=1, for_admin=admin)["peer_address"]
        for admin in (True, False)
    ]
    assert shown == ["h:1", None]
