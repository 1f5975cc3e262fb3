"""The guide's four real-world scenarios, each as it is written there."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.acceptance.cluster import Cluster
from tests.acceptance.guide import Reader


@pytest.fixture(scope="module")
def cluster(running: Cluster) -> Cluster:
    """Two servers, US and EU."""
    return running


@pytest.fixture
async def reader(cluster: Cluster) -> AsyncIterator[Reader]:
    async with cluster.api() as api:
        yield Reader(cluster, api)


async def test_scenario_1_staging_synced_with_production(reader: Reader) -> None:
    prod, project = await reader.create("prod-api"), await reader.project("staging-1")
    names = {"prod_id": prod, "staging_project": project}
    await reader.shell(
        """
        # Day 1: Create staging from production
        hoody containers copy $PROD_ID \\
          --target-project-id $STAGING_PROJECT \\
          --name "staging-api"
        """,
        **names,
    )
    staging = str((await reader.named("staging-api", project))["id"])
    await reader.same(prod, staging)
    for week in (1, 2):
        await reader.change(prod, week)
        await reader.shell(
            f"""
            # Week {week}: Sync staging to get production fixes
            hoody containers sync $STAGING_COPY_ID
            """,
            staging_copy_id=staging,
        )
        await reader.same(prod, staging)


async def test_scenario_1_by_curl(reader: Reader) -> None:
    prod, project = await reader.create("prod-curl"), await reader.project("staging-2")
    printed = await reader.shell(
        """
        # Day 1: Create staging from production
        curl -X POST "https://api.hoody.icu/api/v1/containers/{prod_id}/copy" \\
          -H "Authorization: Bearer $HOODY_TOKEN" \\
          -H "Content-Type: application/json" \\
          -d '{"target_project_id": "{staging_project}", "name": "staging-api"}'
        """,
        prod_id=prod,
        staging_project=project,
    )
    made = json.loads(printed)
    assert (made["statusCode"], made["data"]["status"]) == (201, "copying")
    assert made["data"]["source_container_id"] == prod
    staging = made["data"]["id"]
    await reader.settled(staging)
    await reader.change(prod, 1)
    printed = await reader.shell(
        """
        # Week 1: Sync staging to get production fixes
        curl -X POST "https://api.hoody.icu/api/v1/containers/{staging_copy_id}/sync" \\
          -H "Authorization: Bearer $HOODY_TOKEN"
        """,
        staging_copy_id=staging,
    )
    assert json.loads(printed) == {
        "statusCode": 200,
        "message": "Container sync initiated successfully",
        "data": {"container_id": staging, "source_container_id": prod, "status": "copying"},
    }
    await reader.settled(staging)
    await reader.same(prod, staging)


async def test_scenario_2_team_environment_template(reader: Reader) -> None:
    template = await reader.create("template")
    alice_project, bob_project = await reader.project("alice"), await reader.project("bob")
    await reader.shell(
        """
        # New team member Alice joins - copy template
        hoody containers copy $TEMPLATE_ID \\
          --target-project-id $ALICE_PROJECT \\
          --name "alice-dev-env"
        """,
        template_id=template,
        alice_project=alice_project,
    )
    alice = await reader.named("alice-dev-env", alice_project)
    await reader.change(template, 1)
    await reader.shell(
        """
        # Template gets updated - sync Alice's environment
        hoody containers sync $ALICE_COPY_ID

        # Another developer Bob joins
        hoody containers copy $TEMPLATE_ID \\
          --target-project-id $BOB_PROJECT \\
          --name "bob-dev-env"
        """,
        alice_copy_id=str(alice["id"]),
        template_id=template,
        bob_project=bob_project,
    )
    bob = await reader.named("bob-dev-env", bob_project)
    for one in (alice, bob):
        await reader.same(template, str(one["id"]))
    assert alice["ssh_public_key"] != bob["ssh_public_key"]


async def test_scenario_3_geographic_redundancy(cluster: Cluster, reader: Reader) -> None:
    prod = await reader.create("prod-us")
    project, (us, eu) = await reader.project("production-3"), cluster.daemons
    await reader.shell(
        """
        # Copy production to EU for redundancy
        hoody containers copy $PROD_US_ID \\
          --target-project-id $PROJECT_ID \\
          --target-server-id $EU_SERVER_ID \\
          --name "prod-eu-replica"
        """,
        prod_us_id=prod,
        project_id=project,
        eu_server_id=eu.server_id,
    )
    replica = await reader.named("prod-eu-replica", project)
    assert replica["server_id"] == eu.server_id
    changed_bytes = await reader.change(prod, 1)
    await reader.shell(
        """
        # Monthly: Sync EU replica with US changes
        hoody containers sync $PROD_EU_ID
        """,
        prod_eu_id=str(replica["id"]),
    )
    job = await reader.settled(str(replica["id"]))
    assert 0 < job["result"]["bytes_wire"] <= changed_bytes + (128 << 10)
    await reader.same(prod, str(replica["id"]))
    alias = await reader.alias(prod, "prod")
    us.kill()  # "If US datacenter fails": the replica is there, whole and running
    try:
        async with cluster.api(1) as left:
            assert (await left.container(str(replica["id"])))["status"] == "running"
            assert Path(await left.rootfs(str(replica["id"])), "srv/text").is_file()
            # "Switch to EU replica via proxy alias."
            await left.call("DELETE", f"/proxy/aliases/{alias['id']}")
            leading = {key: alias[key] for key in ("alias", "program", "index", "target_path")}
            where = leading | {"container_id": replica["id"]}
            assert (await left.call("POST", "/proxy/aliases", **where))["project_id"] == project
    finally:
        us.start()


async def test_scenario_4_feature_branch_testing(reader: Reader) -> None:
    prod, same_project = await reader.create("prod-4"), reader.api.project_id
    production = await reader.project("production-4")
    printed = await reader.shell(
        """
        # Copy production to test new feature
        curl -X POST "https://api.hoody.icu/api/v1/containers/{prod_id}/copy" \\
          -H "Authorization: Bearer $HOODY_TOKEN" \\
          -d '{
            "target_project_id": "{same_project}",
            "name": "feature-auth-v2"
          }'
        """,
        prod_id=prod,
        same_project=same_project,
    )
    feature = json.loads(printed)["data"]["id"]
    await reader.settled(feature)
    # Work on feature in the copy
    await reader.change(feature, 1)
    # Feature complete? Snapshot it
    path = f"/containers/{feature}"
    await reader.api.call("POST", f"{path}/snapshots", alias="feature-auth-v2-complete")
    # Copy this feature container to production
    made, _job = await reader.api.copy(
        feature, target_project_id=production, name="prod-with-auth-v2"
    )
    await reader.same(feature, made)
    assert [one["alias"] for one in await reader.api.snapshots(made)] == [
        "feature-auth-v2-complete"
    ]
    assert not Path(await reader.api.rootfs(prod), "srv/new-00000001").exists()
