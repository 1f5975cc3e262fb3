from __future__ import annotations
import asyncio
import pytest
from tests.acceptance.cluster import Cluster, MakeCluster
from tests.fault.disturbing import *
from tests.fault.disturbing import _kill_and_start

@pytest.fixture(scope="module")
def cluster(make_cluster: MakeCluster) -> Cluster:
    return make_cluster(2, SLOW)

async def test_early(cluster: Cluster) -> None:
    source = await source_on_a(cluster, "early")
    async with cluster.api(0) as api:
        started = await api.start_copy(source, cluster.daemons[1].server_id)
        before=None
        for n in range(3):
            job = await in_the_middle(api, started.job_id, [3<<20, 1, 1][n], None)
            kill_target(cluster)
            await next_attempt(api, started.job_id, job["attempt"])
        try:
            await api.done(started.job_id, 40)
        except TimeoutError:
            import subprocess
            print(await api.job(started.job_id))
            print(subprocess.run("ps -efww --forest; zfs list -t all", shell=True, capture_output=True, text=True).stdout)
            for p in cluster.daemons[1].children("worker"):
                print(p, p.status(), p.children(recursive=True))
                print(subprocess.run(f"/tmp/venv0/bin/py-spy dump -p {p.pid}; cat /proc/{p.pid}/task/*/wchan; ls -l /proc/{p.pid}/fd; cat /proc/locks", shell=True, capture_output=True, text=True).stdout)
            raise
