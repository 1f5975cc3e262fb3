"""`hoodyd token`, `hoodyd user`, `hoodyd server`: who may come in, which servers there are."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import TypeVar

import click

from daemon import auth, money
from daemon.cli_common import checked_id, config_option
from daemon.config import Config, Limits, load
from daemon.errors import StartError
from daemon.model import Server, User, now
from daemon.states import Move
from daemon.store import accounts, jobs, servers
from daemon.store.database import Database, Tx

Result = TypeVar("Result")

_DAY_SECONDS = 86_400


@click.command()
@config_option
@click.option(
    "--user", "user_id", callback=checked_id, help="Whose token; default: the first user's."
)
@click.option("--admin", is_flag=True, help="Add the scope admin.")
@click.option(
    "--scope", "scopes", multiple=True, type=click.Choice([scope.value for scope in auth.Scope])
)
@click.option(
    "--ttl",
    "ttl_seconds",
    type=click.IntRange(1, Limits.token_seconds_max),
    default=_DAY_SECONDS,
    show_default=True,
    help="Seconds until it expires.",
)
def token(
    config_path: str, user_id: str | None, admin: bool, scopes: tuple[str, ...], ttl_seconds: int
) -> None:
    """Print a token for the API, and nothing else."""
    config = load(config_path, os.environ)
    keys = auth.load_keys(config)
    sub = _in_catalogue(config, lambda tx: _user_for_token(tx, user_id))
    granted = {auth.Scope(scope) for scope in scopes} or set(auth.USER_SCOPES)
    if admin:
        granted.add(auth.Scope.ADMIN)
    click.echo(auth.issue(keys, sub.id, granted, ttl_seconds=ttl_seconds, at=now()))


@click.group()
def user() -> None:
    """The accounts; changes are in force on every server within seconds."""


@user.command("list")
@config_option
def user_list(config_path: str) -> None:
    """Print every user: id, state, balance, time of making."""
    click.echo(f"{'ID':<24}  {'STATE':<6}  {'BALANCE':>12}  CREATED")
    for one in _in_catalogue(load(config_path, os.environ), accounts.every_user):
        state = "banned" if one.banned else "active"
        balance = money.text(one.balance_cents)
        click.echo(f"{one.id}  {state}  {balance:>12}  {one.created_at:%Y-%m-%d %H:%M}Z")


@user.command("ban")
@config_option
@click.argument("user_id", metavar="ID", callback=checked_id)
def user_ban(config_path: str, user_id: str) -> None:
    """Refuse everything to a user until `unban`."""
    _change_user(config_path, user_id, lambda tx: accounts.set_banned(tx, user_id, True))


@user.command("unban")
@config_option
@click.argument("user_id", metavar="ID", callback=checked_id)
def user_unban(config_path: str, user_id: str) -> None:
    """Let a banned user in again."""
    _change_user(config_path, user_id, lambda tx: accounts.set_banned(tx, user_id, False))


@user.command("revoke")
@config_option
@click.argument("user_id", metavar="ID", callback=checked_id)
def user_revoke(config_path: str, user_id: str) -> None:
    """End every token that the user has now."""
    _change_user(config_path, user_id, lambda tx: accounts.revoke(tx, user_id, now()))


def _amount(_context: click.Context, _parameter: click.Parameter, value: str) -> int:
    try:
        return money.cents_of(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


# Without this, -5 would be an option that there is not.
@user.command("credit", context_settings={"ignore_unknown_options": True})
@config_option
@click.argument("user_id", metavar="ID", callback=checked_id)
@click.argument("cents", metavar="AMOUNT", callback=_amount)
def user_credit(config_path: str, user_id: str, cents: int) -> None:
    """Add AMOUNT, as 50 or 44.01, to a user's balance; take it away where it is negative, down to
    nothing at most. Prints the new balance."""
    balance = _in_catalogue(load(config_path, os.environ), lambda tx: _credit(tx, user_id, cents))
    click.echo(money.text(balance))


@click.group()
def server() -> None:
    """The servers of this cluster."""


@server.command("list")
@config_option
def server_list(config_path: str) -> None:
    """Print every server: id, name, whether it is online, the address that others dial."""
    config = load(config_path, os.environ)
    click.echo(f"{'ID':<24}  {'NAME':<24}  {'STATE':<7}  ADDRESS")
    for one in _in_catalogue(config, servers.every):
        state = "online" if _is_online(one, config) else "offline"
        click.echo(f"{one.id}  {one.name:<24}  {state:<7}  {one.peer_address}")


@server.command("remove")
@config_option
@click.argument("server_name", metavar="NAME")
def server_remove(config_path: str, server_name: str) -> None:
    """Forget a server that is lost, by name or id, with its containers and its jobs."""
    config = load(config_path, os.environ)
    _in_catalogue(config, lambda tx: remove_server(tx, config, server_name))


async def _user_for_token(tx: Tx, user_id: str | None) -> User:
    if user_id is None:
        first = await accounts.first_user(tx)
        if first is None:
            raise StartError("token: there is no user yet; run: hoodyd init")
        return first
    known = await accounts.get_user(tx, user_id)
    if known is None:
        known = User(id=user_id)
        await accounts.put_user(tx, known)
    return known


async def remove_server(tx: Tx, config: Config, named: str) -> None:
    """Forgets a server that is lost, by its id or its name; what the others keep for it, their
    collectors let go. Raises StartError where there is none, or where it is online."""
    called = [one for one in await servers.every(tx) if one.name == named]
    known = await servers.get(tx, named) or next(iter(called), None)
    if known is None:
        raise StartError(f"server: there is no {named}; run: hoodyd server list")
    if _is_online(known, config):
        raise StartError(f"server: {known.name} is online; stop it first: systemctl stop hoodyd")
    lost: dict[str, object] = {
        "code": "SERVER_LOST",
        "message": f"server {known.name} was removed",
        "retryable": False,
        "evidence": {"server_id": known.id},
    }
    for job in await jobs.of_server_active(tx, known.id):
        await jobs.move(tx, job, Move.FAIL, at=now(), error=lost)
    await servers.remove(tx, known.id)


async def _credit(tx: Tx, user_id: str, cents: int) -> int:
    """The new balance. Raises StartError where there is no such user, or too little."""
    new = await accounts.add_to_balance(tx, user_id, cents)
    if new is not None:
        return new
    known = await accounts.get_user(tx, user_id)
    if known is None:
        raise StartError(f"user: there is no {user_id}; run: hoodyd user list")
    raise StartError(f"user: {user_id} has no more than {money.text(known.balance_cents)}")


def _is_online(known: Server, config: Config) -> bool:
    if known.last_heartbeat_at is None:
        return False
    silence_seconds = (now() - known.last_heartbeat_at).total_seconds()
    return silence_seconds <= Limits.missed_heartbeats * config.timing.heartbeat_seconds


def _change_user(config_path: str, user_id: str, change: Callable[[Tx], Awaitable[bool]]) -> None:
    async def work(tx: Tx) -> None:
        if not await change(tx):
            raise StartError(f"user: there is no {user_id}; run: hoodyd user list")

    _in_catalogue(load(config_path, os.environ), work)


def _in_catalogue(config: Config, work: Callable[[Tx], Awaitable[Result]]) -> Result:
    """Does `work` in one transaction. Raises CatalogueError, also for an old schema."""

    async def session() -> Result:
        database = Database(config.database.url)
        try:
            await database.check()
            async with database.write() as tx:
                return await work(tx)
        finally:
            await database.close()

    return asyncio.run(session())
