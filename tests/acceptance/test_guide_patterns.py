"""The guide's patterns, each as it is written there: three of automation, which are JavaScript, and
three common ones."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from random import Random

import pytest

from tests.acceptance import boxes
from tests.acceptance.cluster import Cluster, MakeCluster
from tests.acceptance.guide import Reader
from tests.wires import Wires

SLACK_BYTES = 64 << 10
UPDATE_BYTES = 12 << 20
WIRE_BYTES_PER_SECOND = 4 << 20
LOOK_SECONDS = 0.2  # instead of the 60 between two looks at a source
WRITTEN = "snap-20251109-143045"  # in the guide, for the snapshot's name

NIGHTLY = """
// Automated sync script (run via cron at 2 AM)
async function syncStaging() {
  const token = process.env.HOODY_TOKEN;
  const stagingCopyId = process.env.STAGING_CONTAINER_ID;

  console.log('Starting nightly staging sync...');

  // Sync staging with production
  const response = await fetch(
    `https://api.hoody.icu/api/v1/containers/${stagingCopyId}/sync`,
    {
      method: 'POST',
      headers: { 'Authorization': `Bearer ${token}` }
    }
  );

  const result = await response.json();

  if (response.ok) {
    console.log('Staging synced successfully');
    console.log(`Sync status: ${result.data.status}`);
  } else {
    console.error('Sync failed:', result.message);
    // Send alert via hoody-notifications
  }
}
"""

TEAM = """
// Sync all developer environments with template updates
async function syncTeamEnvironments(templateId, teamCopyIds) {
  const token = process.env.HOODY_TOKEN;
  const headers = { 'Authorization': `Bearer ${token}` };

  // Sync all copies in parallel
  const syncs = await Promise.all(
    teamCopyIds.map(copyId =>
      fetch(`https://api.hoody.icu/api/v1/containers/${copyId}/sync`, {
        method: 'POST',
        headers
      }).then(r => r.json())
    )
  );

  console.log(`Synced ${syncs.length} team environments`);

  // Notify team of updates via Slack/email
}
"""

CONDITIONAL = """
// Only sync if source has recent updates
async function conditionalSync(sourceId, copyId) {
  const token = process.env.HOODY_TOKEN;
  const headers = { 'Authorization': `Bearer ${token}` };

  // Get source container details
  const source = await fetch(
    `https://api.hoody.icu/api/v1/containers/${sourceId}`,
    { headers }
  ).then(r => r.json());

  // Get copy details
  const copy = await fetch(
    `https://api.hoody.icu/api/v1/containers/${copyId}`,
    { headers }
  ).then(r => r.json());

  // Compare update times
  const sourceUpdated = new Date(source.data.updated_at);
  const copyUpdated = new Date(copy.data.updated_at);

  // Sync only if source is newer
  if (sourceUpdated > copyUpdated) {
    console.log('Source has updates, syncing...');
    await fetch(
      `https://api.hoody.icu/api/v1/containers/${copyId}/sync`,
      { method: 'POST', headers }
    );
  } else {
    console.log('Copy is current, no sync needed');
  }
}
"""


@pytest.fixture(scope="module")
def cluster(wires: Wires, make_cluster: MakeCluster) -> Iterator[Cluster]:
    """Three servers, US, EU and Asia, on a wire where an update takes its time."""
    wire = {"bandwidth_limit_bytes_per_second": WIRE_BYTES_PER_SECOND}
    settings = {"timing": {"sweep_seconds": LOOK_SECONDS}, "transfer": wire}
    yield from boxes.running(wires, make_cluster, 3, settings)


@pytest.fixture
async def reader(cluster: Cluster) -> AsyncIterator[Reader]:
    async with cluster.api() as api:
        yield Reader(cluster, api)


# --- automation ----------------------------------------------------------------------------------


async def test_automation_pattern_1_nightly_staging_sync(reader: Reader) -> None:
    prod = await reader.create("prod-1")
    staging, _job = await reader.api.copy(prod)
    for night in (1, 2):
        await reader.change(prod, night)
        printed = await reader.node(f"{NIGHTLY}syncStaging();", STAGING_CONTAINER_ID=staging)
        assert printed.splitlines() == [
            "Starting nightly staging sync...",
            "Staging synced successfully",
            "Sync status: copying",
        ]
        await reader.settled(staging)
        await reader.same(prod, staging)


async def test_automation_pattern_2_team_environment_sync(cluster: Cluster, reader: Reader) -> None:
    """The template's update travels once, for the three live on one other server."""
    template = await reader.create("template-2")
    server = cluster.daemons[1].server_id
    team = [(await reader.api.copy(template, server))[0] for _ in range(3)]
    changed_bytes = await reader.change(template, 1)
    # Run after template updates
    call = f"syncTeamEnvironments('{template}', {team});"
    assert await reader.node(TEAM + call) == "Synced 3 team environments\n"
    jobs = [await reader.settled(copy) for copy in team]
    wire_bytes = sum(job["result"]["bytes_wire"] for job in jobs)
    assert 0 < wire_bytes <= changed_bytes + len(team) * SLACK_BYTES
    for copy in team:
        await reader.same(template, copy)


async def test_team_environments_are_synced_by_one_command(
    cluster: Cluster, reader: Reader
) -> None:
    """The same by `sync --copies-of`, for copies on all three servers: the update travels once to
    each of the two others, also while another sync there already waits for it."""
    template = await reader.create("template-3")
    servers = [daemon.server_id for daemon in cluster.daemons]
    near, *far = [
        (await reader.api.copy(template, server))[0]
        for server in (servers[0], *[servers[1]] * 3, servers[2])
    ]
    update = Path(await reader.api.rootfs(template), "srv/update")
    update.write_bytes(Random(3).randbytes(UPDATE_BYTES))
    await reader.shell("hoody containers sync --copies-of $TEMPLATE_ID", template_id=template)
    jobs = [await reader.settled(copy) for copy in (near, *far)]
    assert jobs[0]["result"]["bytes_wire"] == 0
    wire_bytes = [job["result"]["bytes_wire"] for job in jobs[1:]]
    assert UPDATE_BYTES <= sum(wire_bytes[:3]) <= UPDATE_BYTES + 3 * SLACK_BYTES
    assert UPDATE_BYTES <= wire_bytes[3] <= UPDATE_BYTES + SLACK_BYTES
    for copy in (near, *far):
        await reader.same(template, copy)


async def test_automation_pattern_3_conditional_sync_based_on_source_changes(
    cluster: Cluster, reader: Reader
) -> None:
    source = await reader.create("source-3")
    copy, _job = await reader.api.copy(source, cluster.daemons[1].server_id)
    call = f"conditionalSync('{source}', '{copy}');"
    for day in (1, 2):
        assert await reader.node(CONDITIONAL + call) == "Copy is current, no sync needed\n"
        await reader.change(source, day)
        assert await reader.node(CONDITIONAL + call) == "Source has updates, syncing...\n"
        await reader.settled(copy)
        await reader.same(source, copy)
    assert len(await reader.api.jobs(copy, "sync")) == 2


# --- common ones ---------------------------------------------------------------------------------


async def test_common_pattern_1_production_staging_development(reader: Reader) -> None:
    prod = await reader.create("prod-app")
    staging_project, dev_project = await reader.project("staging"), await reader.project("dev")
    await reader.shell(
        """
        # Weekly: Copy production to staging
        hoody containers copy $PROD_ID \\
          --target-project-id $STAGING_PROJECT --name "staging-app"
        """,
        prod_id=prod,
        staging_project=staging_project,
    )
    staging = str((await reader.named("staging-app", staging_project))["id"])
    await reader.change(prod, 1)
    await reader.shell(
        """
        # Daily: Sync staging with production changes
        hoody containers sync $STAGING_ID

        # Developers: Copy staging to personal envs
        hoody containers copy $STAGING_ID \\
          --target-project-id $DEV_PROJECT --name "alice-dev"
        """,
        staging_id=staging,
        dev_project=dev_project,
    )
    alice = str((await reader.named("alice-dev", dev_project))["id"])
    await reader.same(prod, alice)
    await reader.change(prod, 2)
    tree = await reader.shell(
        """
        hoody containers sync $STAGING_ID
        # As needed: Sync dev envs with staging
        hoody containers sync $ALICE_DEV_ID
        hoody containers tree $PROD_ID
        """,
        staging_id=staging,
        alice_dev_id=alice,
        prod_id=prod,
    )
    await reader.same(prod, alice)
    beginnings = ("prod-app  ", "└── staging-app  ", "    └── alice-dev  ")
    for line, beginning in zip(tree.splitlines(), beginnings, strict=True):
        assert beginning in line


async def test_common_pattern_2_multi_region_deployment(cluster: Cluster, reader: Reader) -> None:
    prod_us, project = await reader.create("prod-region"), reader.api.project_id
    regions = {"prod-eu": cluster.daemons[1], "prod-asia": cluster.daemons[2]}
    copies = []
    for name, daemon in regions.items():
        body = {"target_project_id": project, "target_server_id": daemon.server_id, "name": name}
        made = await reader.api.call("POST", f"/containers/{prod_us}/copy", **body)
        copies.append(str(made["id"]))
    for copy in copies:
        await reader.settled(copy)
    # After US deployment, sync all regions
    await reader.change(prod_us, 1)
    for copy in copies:
        await reader.api.call("POST", f"/containers/{copy}/sync")
    for copy in copies:
        await reader.settled(copy)
        await reader.same(prod_us, copy)


async def test_common_pattern_3_snapshot_copy_deploy(reader: Reader) -> None:
    tested, prod_project = await reader.create("tested"), await reader.project("prod")
    before, _job = await reader.api.copy(tested, target_project_id=prod_project, name="prod-v1")
    alias = await reader.alias(before, "prod")
    await reader.shell(
        """
        # 1. Snapshot tested container
        hoody snapshots create --container $TEST_ID --alias "ready-for-prod"
        """,
        test_id=tested,
    )
    (snapshot,) = await reader.api.snapshots(tested)
    await reader.change(tested, 1)  # what was not tested does not get there
    await reader.shell(
        f"""
        # 2. Copy to production from that snapshot
        hoody containers copy $TEST_ID \\
          --target-project-id $PROD_PROJECT \\
          --name "prod-v2" \\
          --source-snapshot "{WRITTEN}"
        """.replace(WRITTEN, str(snapshot["name"])),
        test_id=tested,
        prod_project=prod_project,
    )
    prod = str((await reader.named("prod-v2", prod_project))["id"])
    await reader.same(before, prod)
    assert await reader.aliases(prod_project) == [alias]
    await reader.shell(
        """
        # 3. Re-point alias to new container (delete + recreate)
        hoody proxy delete $ALIAS_ID
        hoody proxy create --container-id $NEW_PROD_ID \\
          --alias "prod" --program "web" --index 1 --target-path "/"
        """,
        alias_id=str(alias["id"]),
        new_prod_id=prod,
    )
    await reader.leads(prod_project, alias, prod)


async def test_common_pattern_3_by_curl(reader: Reader) -> None:
    """And an alias ends with the container that it leads to."""
    tested, prod_project = await reader.create("tested-curl"), await reader.project("prod-curl")
    before, _job = await reader.api.copy(tested, target_project_id=prod_project, name="prod-v1")
    alias = await reader.alias(before, "prod")
    await reader.shell(
        """
        # 1. Snapshot tested container
        curl -X POST "https://api.hoody.icu/api/v1/containers/{test_id}/snapshots" \\
          -H "Authorization: Bearer $HOODY_TOKEN" \\
          -H "Content-Type: application/json" \\
          -d '{"alias": "ready-for-prod"}'
        """,
        test_id=tested,
    )
    (snapshot,) = await reader.api.snapshots(tested)
    await reader.change(tested, 1)
    printed = await reader.shell(
        """
        # 2. Copy to production from that snapshot
        curl -X POST "https://api.hoody.icu/api/v1/containers/{test_id}/copy" \\
          -H "Authorization: Bearer $HOODY_TOKEN" \\
          -H "Content-Type: application/json" \\
          -d '{
            "target_project_id": "{prod_project}",
            "name": "prod-v2",
            "source_snapshot": "snap-20251109-143045"
          }'
        """.replace(WRITTEN, str(snapshot["name"])),
        test_id=tested,
        prod_project=prod_project,
    )
    prod = str(json.loads(printed)["data"]["id"])
    printed = await reader.shell(
        """
        # 3. Re-point alias to new container (delete + recreate)
        curl -X DELETE "https://api.hoody.icu/api/v1/proxy/aliases/{alias_id}" \\
          -H "Authorization: Bearer $HOODY_TOKEN" > /dev/null
        curl -X POST "https://api.hoody.icu/api/v1/proxy/aliases" \\
          -H "Authorization: Bearer $HOODY_TOKEN" \\
          -H "Content-Type: application/json" \\
          -d '{
            "container_id": "{new_prod_id}",
            "alias": "prod",
            "program": "web",
            "index": 1,
            "target_path": "/"
          }'
        """,
        alias_id=str(alias["id"]),
        new_prod_id=prod,
    )
    assert json.loads(printed)["statusCode"] == 201
    await reader.settled(prod)
    await reader.same(before, prod)
    await reader.leads(prod_project, alias, prod)
    await reader.api.sync(prod)
    await reader.leads(prod_project, alias, prod)
    await reader.api.delete(prod)
    assert await reader.aliases(prod_project) == []
