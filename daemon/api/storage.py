"""GET /containers/{id}/storage and /containers/{id}/ssh-private-key."""

from __future__ import annotations

from daemon.api.access import known_server, visible_container
from daemon.api.errors import KeyAlreadyRetrieved, ResourceNotFound, StateConflict
from daemon.api.fields import Nothing
from daemon.api.routing import Answer, AnyRoute, Plain, Route
from daemon.auth import Scope
from daemon.keys import unseal
from daemon.store import containers, datasets
from daemon.views import storage_view


async def get_storage(call: Plain) -> Answer:
    """Where the container's filesystem is and what it takes."""
    async with call.deps.db.read() as tx:
        found = await visible_container(tx, call.caller, call.id)
        server = await known_server(tx, found.server_id, "server_id")
        rows = await datasets.of_container(tx, found.id)
    data = storage_view(found, server, rows, for_admin=call.caller.is_admin)
    return Answer(data, "Container storage retrieved successfully")


async def get_private_key(call: Plain) -> Answer:
    """Gives a generated private key out, once: it is erased in the same transaction."""
    async with call.deps.db.write() as tx:
        found = await visible_container(tx, call.caller, call.id)
        if found.ssh_private_fetched:
            raise KeyAlreadyRetrieved
        if found.ssh_public_key is None:
            raise StateConflict.of(found, "reading the private key, which is not made yet,")
        if found.ssh_private_sealed is None:
            raise ResourceNotFound("The container's key was not generated")
        private = unseal(call.deps.sealing_key, found.ssh_private_sealed)
        await containers.change(tx, found.id, ssh_private_sealed=None, ssh_private_fetched=True)
    data = {"container_id": found.id, "ssh_private_key": private}
    headers = {"Cache-Control": "no-store"}
    return Answer(data, "SSH private key retrieved successfully", headers=headers)


ROUTES: tuple[AnyRoute, ...] = (
    Route("GET", "/containers/{id}/storage", Scope.READ, get_storage, Nothing, Nothing),
    Route("GET", "/containers/{id}/ssh-private-key", Scope.KEYS, get_private_key, Nothing, Nothing),
)
