"""Runs what the product's guide (Copy & Sync) prints, as it is printed: its commands in a shell
where `hoody` and `curl` are those programs, its JavaScript in node. Only the host is another one,
and what the guide has in braces or capitals stands for ids. Each container runs a process."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import sys
from pathlib import Path

import pytest

from tests.acceptance import boxes, trees
from tests.acceptance.api import Api, Json
from tests.acceptance.cluster import Cluster, Daemon

HOST = "https://api.hoody.icu"
RUN_SECONDS = 180.0
ROOT = Path(__file__).parents[2]
_BRACED = re.compile(r"\{([a-z_]+)\}")


def program(name: str, package: str) -> str:
    """The path of a program. The test is skipped where it is missing; under CI=true it fails."""
    found = shutil.which(name)
    if found is None:
        reason = f"no {name}: install the package {package}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    return found


class Reader:
    """Somebody who follows the guide, with a token of their own, on the first of the servers."""

    def __init__(self, cluster: Cluster, api: Api) -> None:
        self.api = api
        self._cluster = cluster
        self._url = cluster.daemons[0].url
        programs = cluster.directory / "bin"
        programs.mkdir(exist_ok=True)
        hoody = programs / "hoody"
        hoody.write_text(f'#!/bin/sh\nexec {sys.executable} -m daemon.client_cli "$@"\n')
        hoody.chmod(0o755)
        self._environment = {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "HOME": str(cluster.directory),
            "PYTHONPATH": str(ROOT),
            "HOODY_API_URL": self._url,
            "HOODY_TOKEN": cluster.daemons[0].admin_token(),
        }

    async def create(self, name: str) -> str:
        """A container with a tree in it on the first server, which runs; its id."""
        tree = self._cluster.tree(name)
        trees.make(tree, files=20, big_bytes=1 << 20)
        boxes.make(tree)
        return await self.api.create(tree, name=name, command=boxes.SLEEP)

    async def change(self, container_id: str, seed: int) -> int:
        """Work in a container: the bytes of the files that are new or changed."""
        return trees.change(await self.api.rootfs(container_id), seed)

    async def project(self, name: str) -> str:
        """A new project's id."""
        return str((await self.api.call("POST", "/projects", name=name))["id"])

    async def shell(self, text: str, **names: str) -> str:
        """What commands print. `names` are the words in braces, and variables in capitals."""
        curl = program("curl", "curl")
        script = _filled(text.replace(HOST, self._url), names).replace("curl ", f"{curl} -fsS ")
        return await self._run(["sh", "-ec", script], {key.upper(): names[key] for key in names})

    async def node(self, text: str, **names: str) -> str:
        """What JavaScript prints; `names` are variables of its environment."""
        node = program("node", "nodejs")
        script = text.replace(HOST, self._url)
        return await self._run([node, "--no-warnings", "-e", script], names)

    async def named(self, name: str, project_id: str) -> Json:
        """The container that has this name in a project."""
        path = f"/containers?project_id={project_id}&limit=100"
        found = (await self.api.call("GET", path))["containers"]
        return next(one for one in found if one["name"] == name)

    async def alias(self, container_id: str, name: str) -> Json:
        """A proxy alias that leads to a container, as the guide makes them."""
        where = {"container_id": container_id, "alias": name, "program": "web"}
        return await self.api.call("POST", "/proxy/aliases", **where, index=1, target_path="/")

    async def aliases(self, project_id: str) -> list[Json]:
        """The proxy aliases of a project."""
        found = await self.api.call("GET", f"/proxy/aliases?project_id={project_id}")
        return list(found["aliases"])

    async def leads(self, project_id: str, alias: Json, container_id: str) -> None:
        """Makes sure that the project has this one alias, which leads to the container by now."""
        (found,) = await self.aliases(project_id)
        anew = {"id": found["id"], "created_at": found["created_at"], "container_id": container_id}
        assert found == alias | anew
        assert found["id"] != alias["id"]

    async def settled(self, container_id: str) -> Json:
        """The container's newest job once it has ended, and well."""
        newest = (await self.api.call("GET", f"/jobs?container_id={container_id}"))["jobs"][0]
        return await self.api.done(str(newest["id"]))

    async def same(self, source_id: str, copy_id: str) -> None:
        """Makes sure that a copy has what its source has, and runs."""
        source, copy = await self.api.rootfs(source_id), await self.api.rootfs(copy_id)
        trees.assert_equal(source, copy, zfs=self._cluster.zfs)
        shown = await self.api.container(copy_id)
        assert shown["status"] == "running"
        assert boxes.lives(boxes.pid_of(self._on(str(shown["server_id"])), copy_id))

    def _on(self, server_id: str) -> Daemon:
        return next(one for one in self._cluster.daemons if one.server_id == server_id)

    async def _run(self, argv: list[str], names: dict[str, str]) -> str:
        process = await asyncio.create_subprocess_exec(
            *argv,
            env=self._environment | names,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(RUN_SECONDS):
            out, err = await process.communicate()
        assert process.returncode == 0, (argv[-1], out.decode(), err.decode())
        return out.decode()


def _filled(text: str, names: dict[str, str]) -> str:
    """The text with the names that stand in braces; none may be left."""
    return _BRACED.sub(lambda found: names[found[1]], text)
