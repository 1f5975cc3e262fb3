"""A real API over a real SQLite catalogue: two users, three servers, no engine. Jobs stay queued,
and the rows are looked at; where an answer waits for a job's end, `played_engine` ends it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from aiohttp.test_utils import TestClient

from daemon.actions import ACTIONS
from daemon.api.deps import Deps
from daemon.auth import USER_SCOPES, Scope, TokenKeys, issue
from daemon.config import Config, LimitsSection, ServerSection, StorageSection
from daemon.metrics import Metrics
from daemon.model import (
    Container,
    Job,
    JobState,
    JobType,
    Project,
    ProxyAlias,
    Server,
    Status,
    User,
    UserSnapshot,
    new_id,
    now,
)
from daemon.news import News
from daemon.store import accounts, containers, jobs, proxy_aliases, servers, user_snapshots
from daemon.store.database import Database
from daemon.store.sequence import next_sequence
from tests.contract.api.described import hold

KEYS = TokenKeys("HS256", b"0123456789abcdef0123456789abcdef")
SEALING_KEY = b"s" * 32
ROOMY_BYTES = 1 << 40
V1 = "/api/v1"


def make_server(name: str, backend: str = "dir", **columns: Any) -> Server:
    columns.setdefault("available_bytes", ROOMY_BYTES)
    columns.setdefault("last_heartbeat_at", now())
    facts = {"country": "US", "country_name": "United States", "disk_gb": 20, "is_free": True}
    return Server(
        id=new_id(),
        name=name,
        peer_address=f"{name}:8471",
        peer_key="ssh-ed25519 AAAA",
        backend=backend,
        domain="containers.example",
        facts=facts,
        **columns,
    )


@dataclass
class Reply:
    """An answer: `data` of a success, `code` and `details` of a failure."""

    status: int
    body: dict[str, Any]
    headers: Any

    @property
    def data(self) -> Any:
        assert "data" in self.body, self.body
        return self.body["data"]

    @property
    def refusal(self) -> tuple[int, str]:
        assert self.body["statusCode"] == self.status
        return self.status, self.body.get("code", "none")


@dataclass
class World:
    """What a test starts from and asks with."""

    db: Database
    here: Server = field(default_factory=lambda: make_server("here"))
    there: Server = field(default_factory=lambda: make_server("there"))
    pool: Server = field(default_factory=lambda: make_server("pool", "zfs"))
    alice: User = field(default_factory=lambda: User(id=new_id()))
    bob: User = field(default_factory=lambda: User(id=new_id()))
    limits: LimitsSection = field(default_factory=LimitsSection)
    import_roots: tuple[str, ...] = ()
    health: dict[str, str | None] = field(default_factory=lambda: {"storage": None})
    news: News = field(default_factory=News)
    metrics: Metrics = field(default_factory=Metrics)

    def __post_init__(self) -> None:
        at = now() - timedelta(days=1)
        self.home = Project(new_id(), self.alice.id, "home", "home", at)
        self.work = Project(new_id(), self.alice.id, "work", "work", at)
        self.bobs = Project(new_id(), self.bob.id, "home", "home", at)

    async def fill(self) -> None:
        async with self.db.write() as tx:
            for user in (self.alice, self.bob):
                await accounts.put_user(tx, user)
            for project in (self.home, self.work, self.bobs):
                await accounts.put_project(tx, project)
            for server in (self.here, self.there, self.pool):
                await servers.put(tx, server)

    @property
    def deps(self) -> Deps:
        storage = StorageSection(backend="dir", root="/nowhere", import_roots=self.import_roots)
        config = Config(server=ServerSection(id=self.here.id), storage=storage, limits=self.limits)
        return Deps(
            db=self.db,
            config=config,
            server_id=self.here.id,
            token_keys=KEYS,
            sealing_key=SEALING_KEY,
            metrics=self.metrics,
            news=self.news,
            health=lambda: self.health,
            abandon={kind: action.abandon for kind, action in ACTIONS.items()},
        )

    def token(self, user: User | None = None, scopes: Any = USER_SCOPES) -> str:
        return issue(KEYS, (user or self.alice).id, scopes, ttl_seconds=600, at=now())

    @property
    def admin(self) -> str:
        return self.token(self.bob, [Scope.ADMIN])

    async def container(self, name: str = "web", **columns: Any) -> Container:
        """A container of alice's, running on `here` unless told otherwise."""
        made = Container(
            id=new_id(),
            project_id=self.home.id,
            owner_id=self.alice.id,
            server_id=self.here.id,
            name=name,
            status=Status.RUNNING,
            generation_id=new_id(),
        )
        made = replace(made, **columns)
        async with self.db.write() as tx:
            await containers.insert(tx, made)
        return made

    async def copy_of(self, source: Container, name: str = "copy", **columns: Any) -> Container:
        return await self.container(name, **{"source_container_id": source.id} | columns)

    async def job(self, container: Container, kind: JobType = JobType.SYNC, **columns: Any) -> Job:
        made = Job(
            id=new_id(),
            type=kind,
            state=JobState.QUEUED,
            container_id=container.id,
            server_id=container.server_id,
            user_id=container.owner_id,
        )
        async with self.db.write() as tx:
            return await jobs.insert(tx, replace(made, **columns))

    async def snapshot(
        self, container: Container, name: str = "snap-20250115-103000", **columns: Any
    ) -> UserSnapshot:
        """A snapshot that the container lists, newer than the one before."""
        async with self.db.write() as tx:
            sequence = await next_sequence(tx)
            made = UserSnapshot(
                container_id=container.id,
                id=new_id(),
                name=name,
                guid=str(10**18 + sequence),
                sequence=sequence,
                created_at=now(),
            )
            made = replace(made, **columns)
            await user_snapshots.insert(tx, made)
        return made

    async def alias(self, container: Container, name: str = "www", **columns: Any) -> ProxyAlias:
        """A proxy alias that leads to the container."""
        at = (new_id(), container.project_id, container.id)
        made = replace(ProxyAlias(*at, name, program="web", index=1, target_path="/"), **columns)
        async with self.db.write() as tx:
            await proxy_aliases.insert(tx, made)
        return made

    async def listed(self, container: Container) -> list[UserSnapshot]:
        """What the container lists, newest first."""
        async with self.db.read() as tx:
            return await user_snapshots.listed(tx, container.id)

    async def stored(self, container_id: str) -> Container | None:
        async with self.db.read() as tx:
            return await containers.get(tx, container_id)

    async def all_containers(self) -> list[Container]:
        async with self.db.read() as tx:
            return (await containers.page(tx, containers.ContainerFilter(), 1, 1000))[0]

    async def all_jobs(self) -> list[Job]:
        async with self.db.read() as tx:
            return (await jobs.page(tx, jobs.JobFilter(), 1, 1000))[0]

    async def the_job(self) -> Job:
        (job,) = await self.all_jobs()
        return job


class Api:
    """Asks with alice's token unless another (or None) is given."""

    def __init__(self, world: World, client: TestClient[Any, Any]) -> None:
        self.world = world
        self.client = client

    async def ask(
        self, method: str, path: str, json: Any = None, *, token: str | None = "alice", **given: Any
    ) -> Reply:
        headers = dict(given.pop("headers", {}))
        if token is not None:
            token = self.world.token() if token == "alice" else token
            headers.setdefault("Authorization", f"Bearer {token}")
        if json is not None:
            given["json"] = json
        path = path if path.startswith(("/healthz", "/readyz", "/metrics")) else V1 + path
        async with self.client.request(method, path, headers=headers, **given) as answer:
            body = await answer.json()
            hold(method, answer.url.raw_path, answer.status, answer.headers, body)
            return Reply(answer.status, body, answer.headers)

    async def get(self, path: str, **given: Any) -> Reply:
        return await self.ask("GET", path, **given)

    async def post(self, path: str, json: Any = None, **given: Any) -> Reply:
        return await self.ask("POST", path, json, **given)

    async def patch(self, path: str, json: Any = None, **given: Any) -> Reply:
        return await self.ask("PATCH", path, json, **given)

    async def put(self, path: str, json: Any = None, **given: Any) -> Reply:
        return await self.ask("PUT", path, json, **given)

    async def delete(self, path: str, **given: Any) -> Reply:
        return await self.ask("DELETE", path, **given)
