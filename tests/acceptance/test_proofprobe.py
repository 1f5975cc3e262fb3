import time
from pathlib import Path
from tests.acceptance import trees
async def test_cost(cluster):
    async with cluster.api() as api:
        tree = cluster.tree("t")
        trees.make(tree, files=20, big_bytes=100000)
        src = await api.create(tree)
        near, _ = await api.copy(src)
        far, _ = await api.copy(src, cluster.daemons[1].server_id)
        for label, copy in (("near", near), ("far", far)):
            for write in (False, True):
                t = time.monotonic(); n = 8
                for i in range(n):
                    if write:
                        Path(await api.rootfs(src), "srv/last").write_text(f"{i:08}")
                    job = await api.sync(copy)
                print(cluster.backend, label, "write" if write else "nochange", (time.monotonic()-t)/n, job["result"]["seconds"], job["result"]["strategy"], job["started_at"], job["created_at"], job["finished_at"])
