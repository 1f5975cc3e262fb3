import time, os, signal, asyncio
from pathlib import Path
import psutil
from tests.acceptance import trees
async def test_hang(cluster):
    async with cluster.api() as api:
        tree = cluster.tree("t")
        trees.make(tree, files=20, big_bytes=100000)
        src = await api.create(tree)
        far, _ = await api.copy(src, cluster.daemons[1].server_id)
        near, _ = await api.copy(src)
        for i in range(120):
            w = (i // 8) % 2
            copy = (near, far)[(i // 16) % 2]
            if w: Path(await api.rootfs(src), "srv/last").write_text(f"{i:08}")
            st = await api.start_sync(copy)
            try:
                job = await api.done(st.job_id, 15)
            except BaseException as e:
                print("STUCK", i, repr(e), st)
                try:
                    print(await api.job(st.job_id))
                except Exception as e: print(e)
                for d in cluster.daemons:
                    for p in [psutil.Process(d.pid), *psutil.Process(d.pid).children(recursive=True)]:
                        print(d.name, p.pid, p.cmdline()[2:5], p.status())
                        if "python" in p.cmdline()[0]: p.send_signal(signal.SIGUSR1)
                await asyncio.sleep(2)
                for d in cluster.daemons:
                    print("=====", d.name); print(d.log_tail(60000))
                raise
