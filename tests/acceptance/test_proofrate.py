import time, asyncio
from pathlib import Path
import psutil
from tests.acceptance import trees
async def test_rate(make_cluster):
    cluster = make_cluster(1, {"transfer": {"max_concurrent": 4}})
    daemon = cluster.daemons[0]
    async with cluster.api() as api:
        tree = cluster.tree("t")
        trees.make(tree, files=5, big_bytes=1000)
        async def one():
            src = await api.create(tree)
            near, _ = await api.copy(src)
            return src, near
        pairs = [await one() for _ in range(8)]
        def cpu():
            out = {}
            for p in [psutil.Process(daemon.pid), *psutil.Process(daemon.pid).children()]:
                c = p.cpu_times(); out[p.cmdline()[3]] = out.get(p.cmdline()[3],0)+c.user+c.system+c.children_user+c.children_system
            return out
        for k in (1, 4, 8):
            n = 6
            async def loop(src, near):
                for i in range(n):
                    Path(await api.rootfs(src), "srv/last").write_text(f"{i:08}")
                    st = await api.start_sync(near)
                    while True:
                        job = await api.job(st.job_id)
                        if job["state"] not in ("queued", "running"): break
                        await asyncio.sleep(0.02)
                    assert job["state"] == "succeeded", job
                return job
            c0 = cpu(); t = time.monotonic()
            jobs = await asyncio.gather(*(loop(*p) for p in pairs[:k]))
            dt = time.monotonic() - t; c1 = cpu()
            print("RATE", cluster.backend, k, "per sync", dt / n / k, jobs[0]["result"]["seconds"], {x: round((c1[x]-c0.get(x,0))/n/k, 3) for x in c1})
