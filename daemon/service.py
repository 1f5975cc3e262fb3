"""The composition root of `hoodyd run`: the only file that builds the parts and joins them."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Coroutine
from datetime import timedelta

from aiohttp import web

from daemon import locks, logs, scheduler, setup, sweep
from daemon.actions import ACTIONS
from daemon.api.app import make_app, make_metrics_app
from daemon.api.deps import Deps
from daemon.api.runner import Runner
from daemon.auth import load_keys
from daemon.children import Child, keep_alive
from daemon.condition import Condition
from daemon.config import Config, Limits
from daemon.config_types import Address
from daemon.engine import Engine
from daemon.engine import Rules as EngineRules
from daemon.errors import CatalogueError, SchemaUnknown, StartError, StartLater
from daemon.keyfiles import read_sealing_key, read_tls
from daemon.lines import Message
from daemon.metrics import Metrics
from daemon.model import Job, now
from daemon.news import News
from daemon.notify import Manager
from daemon.pool import Pool
from daemon.retry import Policy
from daemon.runtime import driver
from daemon.states import ENDED
from daemon.store import servers
from daemon.store.database import Database
from daemon.store.listen import listen
from daemon.store.sole import Lock, sole
from daemon.traffic import Counting
from daemon.watchdog import Lifeline, Watchdog

KEEPER_SILENT_SECONDS = 60.0
SHUTDOWN_SECONDS = 2.0

log = logs.get(__name__)


class _Stopped(Exception):
    """Somebody asked the daemon to stop."""


def run(config: Config, config_path: str) -> int:
    """Runs the daemon until SIGTERM or SIGINT. Raises StartError where it cannot be run, and
    StartLater where that may be otherwise soon."""
    try:
        asyncio.run(_run(config, config_path))
    except SchemaUnknown:
        raise
    except CatalogueError as error:
        raise StartLater(f"database.url: {error.message}") from None
    return 0


async def _run(config: Config, config_path: str) -> None:
    if not config.server.id:
        raise StartError("server.id: this server has none yet; run: hoodyd init")
    driver.check(config)
    directory_lock = locks.take_daemon_lock(config.server.state_dir)
    db = Database(config.database.url)
    try:
        await locks.wait_for_children(config.server.state_dir)
        _check_free("server.listen", config.listen)
        _check_free("peer.listen", config.peer_listen)
        if config.metrics_listen is not None:
            _check_free("server.metrics_listen", config.metrics_listen)
        await db.check()
        async with sole(config.database.url, config.server.id) as lock:
            async with db.write() as tx:
                await setup.register(tx, config)
            await Service(config, config_path, db, lock).run()
    finally:
        await db.close()
        os.close(directory_lock)


def _check_free(key: str, address: Address) -> None:
    """Exporters share their port among themselves; so a stranger on it is looked for here."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address.host, address.port))
        except OSError as error:
            raise StartError(f"{key}: cannot listen on {address}: {error.strerror}") from None


class Service:
    """One server's daemon, with everything that it runs."""

    def __init__(self, config: Config, config_path: str, db: Database, lock: Lock) -> None:
        self._config = config
        self._config_path = config_path
        self._db = db
        self._lock = lock
        self._tls = read_tls(config)
        self._condition = Condition()
        self._news = News()
        self._manager = Manager.from_environment(os.environ)
        self._metrics = Metrics()
        self._counting = Counting(self._metrics)
        self._exporters = [Lifeline(f"exporter {n}") for n in range(config.transfer.exporters)]
        self._abandon = {job_type: action.abandon for job_type, action in ACTIONS.items()}
        policy = Policy(config.timing.retry_attempts, config.timing.retry_seconds)
        self._pool = Pool(config_path, config.transfer.max_concurrent, self._counting)
        self._engine = Engine(
            db,
            config.server.id,
            self._pool,
            EngineRules(policy, self._abandon),
            news=self._news,
            on_settled=self._settled,
        )

    async def run(self) -> None:
        """Starts everything; ends it, and leaves running jobs to the next start, when told to
        stop or when a part fails. Raises StartLater where another daemon runs as this server."""
        displaced: list[Exception] = []
        deps = self._deps()
        runner = Runner(make_app(deps), access_log=None, shutdown_timeout=SHUTDOWN_SECONDS)
        await runner.setup()
        try:
            async with asyncio.TaskGroup() as group:
                for part in self._parts(runner, deps):
                    group.create_task(part)
        except* _Stopped:
            log.info("stopped")
        except* StartError as found:
            displaced.extend(found.exceptions)
        finally:
            await runner.cleanup()
        for error in displaced:
            log.error("stopped", reason=str(error))
            raise error

    def _parts(self, runner: Runner, deps: Deps) -> list[Coroutine[None, None, None]]:
        return [
            self._until_told(),
            self._keeper(),
            *(self._exporter(number, line) for number, line in enumerate(self._exporters)),
            self._serve(runner),
            self._serve_metrics(deps),
            self._beat(),
            self._say_ready(),
            self._watch_keeper(),
            self._sweep(),
            self._expire(),
            self._keep_schedules(),
            listen(self._config.database.url, self._news),
        ]

    def _deps(self) -> Deps:
        return Deps(
            db=self._db,
            config=self._config,
            server_id=self._config.server.id,
            token_keys=load_keys(self._config),
            sealing_key=read_sealing_key(self._config),
            metrics=self._metrics,
            news=self._news,
            health=self._condition.health,
            abandon=self._abandon,
        )

    async def _serve(self, runner: Runner) -> None:
        """The API answers from the beginning, so that a long start can be watched; jobs begin
        when everything is mounted."""
        await self._listen(runner, self._config.listen)
        await self._condition.mounted.wait()
        await self._pool.warm()
        await self._engine.run()

    async def _serve_metrics(self, deps: Deps) -> None:
        address = self._config.metrics_listen
        if address is None:
            return
        runner = Runner(make_metrics_app(deps), access_log=None, shutdown_timeout=SHUTDOWN_SECONDS)
        await runner.setup()
        try:
            await self._listen(runner, address)
            await asyncio.Event().wait()  # until it is cancelled
        finally:
            await runner.cleanup()

    async def _listen(self, runner: Runner, address: Address) -> None:
        await web.TCPSite(runner, address.host, address.port, ssl_context=self._tls).start()
        log.info("listening", address=str(address))

    def _settled(self, job: Job) -> None:
        if job.state in ENDED:
            self._metrics.ended(job)
        self._condition.collect_after(job)

    async def _keeper(self) -> None:
        await keep_alive(
            "keeper",
            self._config_path,
            self._condition.keeper_started,
            self._condition.keeper_said,
        )

    async def _exporter(self, number: int, line: Lifeline) -> None:
        def started(child: Child) -> None:
            self._condition.listening.discard(number)
            self._counting.gone(line.name)
            line.started(child)

        async def said(message: Message) -> None:
            line.heard()
            if not self._counting.heard(line.name, message) and "listening" in message:
                self._condition.listening.add(number)
                log.info("listening", address=str(self._config.peer_listen), by=line.name)

        await keep_alive("exporter", self._config_path, started, said)

    async def _beat(self) -> None:
        """The heartbeat: this server lives, nobody else runs as it, and its storage has this
        much room."""
        await self._condition.mounted.wait()
        while True:
            try:
                await self._lock.check()
                if self._condition.capacity is not None:
                    async with self._db.write() as tx:
                        await servers.beat(
                            tx, self._config.server.id, self._condition.capacity, now()
                        )
                    self._condition.announced = True
            except CatalogueError as error:
                log.error("no heartbeat", reason=error.message)
            await self._condition.changed(self._config.timing.heartbeat_seconds)

    async def _say_ready(self) -> None:
        """Tells the log and the service manager once what readyz tells who asks, and keeps the
        manager's watchdog quiet from then on. The engine begins when the API listens."""
        await self._condition.all_well()
        await self._engine.begun.wait()
        log.info("ready")
        self._manager.tell("READY=1", "STATUS=ready")
        silent_seconds, port = self._engine.silent_seconds, self._config.peer_listen
        await Watchdog(self._manager, silent_seconds, port, self._exporters).run()

    async def _watch_keeper(self) -> None:
        """Ends a keeper that is silent: something that it touches hangs. A new one is started."""
        while True:
            await asyncio.sleep(self._config.timing.heartbeat_seconds)
            keeper, silent = self._condition.keeper, self._condition.silent_seconds()
            if keeper is not None and silent > KEEPER_SILENT_SECONDS:
                self._condition.storage_failure = f"no answer for {int(silent)} s"
                await keeper.kill()

    async def _sweep(self) -> None:
        timing = self._config.timing
        lost = timedelta(seconds=timing.server_lost_seconds)
        offline = timedelta(seconds=Limits.missed_heartbeats * timing.heartbeat_seconds)
        while True:
            try:
                async for job in sweep.fail_lost(self._db, lost, self._abandon):
                    self._metrics.ended(job)
                async for job in sweep.end_cancelled(self._db, offline, self._abandon):
                    self._metrics.ended(job)
                await sweep.forget_old(self._db)
            except CatalogueError as error:
                log.error("sweep failed", reason=error.message)
            await asyncio.sleep(timing.sweep_seconds)

    async def _expire(self) -> None:
        await self._condition.mounted.wait()
        pause_seconds = self._config.timing.sweep_seconds
        await sweep.expire_in_time(self._db, self._config.server.id, pause_seconds, self._news.tell)

    async def _keep_schedules(self) -> None:
        await self._condition.mounted.wait()
        await scheduler.sync_in_time(self._db, self._config, self._news.tell)

    async def _until_told(self) -> None:
        """Raises _Stopped at SIGTERM or SIGINT, which ends the other parts."""
        told = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, told.set)
        await told.wait()
        self._manager.tell("STOPPING=1", "STATUS=stopping; jobs go on at the next start")
        raise _Stopped
