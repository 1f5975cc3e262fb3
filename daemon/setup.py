"""What `hoodyd init` does: directories, keys, the catalogue and this server's row in it.

Safe to repeat: what exists is kept, and a key is never overwritten.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from daemon import keyfiles, keys
from daemon.config import SERVER_ID_FILE, Config, load, server_facts
from daemon.config_default import default_toml
from daemon.errors import StartError
from daemon.model import Project, Server, User, new_id
from daemon.store import accounts, servers
from daemon.store.database import Database, Tx
from daemon.store.migrate import migrate
from transfer.errors import PermissionMissing, StorageError
from transfer.storage import open_storage

FIRST_PROJECT = "default"
_PROJECTS_MAX = 100
_SQLITE = "sqlite:///"


@dataclass(frozen=True, slots=True)
class Report:
    """What init found or made."""

    config: Config
    user: User
    project: Project


async def init(
    path: str, environ: Mapping[str, str], made: Callable[[str], None] = lambda _path: None
) -> Report:
    """Makes everything that `hoodyd run` needs; tells `made` of each file and directory that was
    not there. No key is written before the storage has been opened.

    Raises ConfigError, StartError or CatalogueError; what was made until then stays.
    """
    if not os.path.lexists(path):
        make_directory(os.path.dirname(os.path.abspath(path)), 0o755)
        write_once(path, default_toml(path).encode())
        made(path)
    config = load(path, environ)
    for directory in make_directories(config):
        made(directory)
    await check_storage(config)
    for file in make_keys(config):
        made(file)
    config = load(path, environ)  # again, for the server's id is known now
    database = Database(config.database.url)
    try:
        await migrate(database)
        async with database.write() as tx:
            await register(tx, config)
            user, project = await first_account(tx)
    finally:
        await database.close()
    return Report(config, user, project)


def make_directories(config: Config) -> Iterator[str]:
    """The state directory, SQLite's, and for `dir` the storage's root; yields those that were
    missing."""
    wanted = {config.server.state_dir: 0o700, config.storage.mount_root: 0o755}
    if config.storage.backend == "dir":
        wanted[config.storage.root] = 0o700
    if config.database.url.startswith(_SQLITE):
        wanted[os.path.dirname(config.database.url.removeprefix(_SQLITE))] = 0o700
    yield from (path for path, mode in wanted.items() if make_directory(path, mode))


def make_keys(config: Config) -> Iterator[str]:
    """The server's id and secrets, each only where its file is absent; yields the new files."""
    server_id = config.server.id or new_id()
    wanted = {
        os.path.join(config.server.state_dir, SERVER_ID_FILE): f"{server_id}\n".encode(),
        config.peer_key_file: keys.generate(server_id).private_text.encode(),
        config.auth.sealing_key_file: secrets.token_bytes(keys.SEALING_KEY_BYTES),
    }
    if config.auth.algorithm == "HS256":
        wanted[config.auth.secret_file] = f"{secrets.token_urlsafe(48)}\n".encode()
    for path in wanted:
        make_directory(os.path.dirname(path), 0o755)
    yield from (path for path, content in wanted.items() if write_once(path, content))


async def check_storage(config: Config) -> None:
    """Raises StartError where the configured backend cannot be opened."""
    storage = config.storage
    try:
        await open_storage(
            storage.backend, storage.root, storage.mount_root, config.server.state_dir
        )
    except StorageError as error:
        hint = ""
        if storage.backend == "zfs" and not isinstance(error, PermissionMissing):
            create = f"zfs create -o mountpoint=none -o atime=off {storage.root}"
            hint = f"; run: {create}, or set storage.backend to dir and storage.root to a directory"
        raise StartError(f"storage.root: {error.message}{hint}") from None


def describe(config: Config) -> Server:
    """This server as the catalogue shows it to the others.

    Raises StartError before init, ConfigError where a key file is wrong.
    """
    if not config.server.id:
        raise StartError("server.id: this server has none yet; run: hoodyd init")
    secret = ""
    if config.auth.algorithm == "HS256":
        secret = keys.fingerprint(keyfiles.read_token_secret(config))
    return Server(
        id=config.server.id,
        name=config.server.name,
        peer_address=config.peer.advertise,
        peer_key=keys.load_peer_key(config.peer_key_file).key_id,
        backend=config.storage.backend,
        domain=config.server.domain,
        facts=server_facts(config),
        max_containers=config.server.max_containers,
        secret_fingerprint=secret,
        sealing_fingerprint=keys.fingerprint(keyfiles.read_sealing_key(config)),
    )


async def register(tx: Tx, config: Config) -> Server:
    """Writes this server's row, so that others see its address and key as they are now.

    Raises StartError where its secrets are not those of the cluster, or its name is taken.
    """
    mine = describe(config)
    others = [server for server in await servers.every(tx) if server.id != mine.id]
    check_cluster(config, mine, others)
    await servers.put(tx, mine)
    return mine


def check_cluster(config: Config, mine: Server, others: Sequence[Server]) -> None:
    """All servers share both secrets, and no two share a name. Raises StartError."""
    for other in others:
        if other.name == mine.name:
            raise StartError(f"server.name: {mine.name} is the name of server {other.id} already")
        wrong = []
        if other.secret_fingerprint != mine.secret_fingerprint:
            wrong.append(("auth.secret_file", config.auth.secret_file))
        if other.sealing_fingerprint != mine.sealing_fingerprint:
            wrong.append(("auth.sealing_key_file", config.auth.sealing_key_file))
        if wrong:
            told = [f"{key}: copy {file} from server {other.name}" for key, file in wrong]
            place = "its config names its own file under the same key; this is where it goes here"
            raise StartError(f"{'; '.join(told)} ({place})")


async def first_account(tx: Tx) -> tuple[User, Project]:
    """The first user and their project `default`, made where they are absent."""
    user = await accounts.first_user(tx)
    if user is None:
        user = User(id=new_id())
        await accounts.put_user(tx, user)
    projects, _total = await accounts.projects_page(tx, user.id, 1, _PROJECTS_MAX)
    for project in projects:
        if project.name == FIRST_PROJECT:
            return user, project
    project = Project(id=new_id(), owner_id=user.id, name=FIRST_PROJECT, alias=FIRST_PROJECT)
    await accounts.put_project(tx, project)
    return user, project


def make_directory(path: str, mode: int) -> bool:
    """Makes a directory and those above it; says whether it was missing. Raises StartError."""
    if os.path.isdir(path):
        return False
    try:
        os.makedirs(path, mode)
    except OSError as error:
        raise StartError(f"{path}: cannot be made: {error.strerror}") from None
    return True


def write_once(path: str, content: bytes) -> bool:
    """Writes a file of mode 0600 whole or not at all; says False where there is one already.

    A link refuses an existing name, which a rename would replace. Raises StartError.
    """
    if os.path.lexists(path):
        return False
    draft = f"{path}.{secrets.token_hex(6)}"
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.link(draft, path)
        finally:
            os.unlink(draft)
    except FileExistsError:
        return False
    except OSError as error:
        raise StartError(f"{path}: cannot be written: {error.strerror}") from None
    return True
