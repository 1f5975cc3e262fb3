"""A POST's Idempotency-Key: asked twice, done once.

The key is claimed in the transaction that does what the request asks for, and the answer is
stored in it too, so that no crash comes in between: either both are there or nothing was done.
One transaction writes at a time, so of two requests at once, through whatever server, the second
finds the first one's row. An answer that waits for a job is stored once the job has ended; until
then the row names the job, from which any server can make the answer.

A refusal rolls the claim back with everything else: its key may be used again.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from aiohttp import web

from daemon.api.errors import IdempotencyKeyReused, ValidationFailed
from daemon.model import KeyedRow, now
from daemon.store import idempotency
from daemon.store.database import Tx
from daemon.store.idempotency import KeyUse

HEADER = "Idempotency-Key"
REPLAYED = {"Idempotency-Replayed": "true"}
KEY_PATTERN = "[!-~]{1,255}"


class KeyTakenError(Exception):
    """The same request came before this one, while this one was on its way."""

    def __init__(self, first: KeyedRow) -> None:
        super().__init__(f"the key {first.key} is taken")
        self.first = first


@dataclass(frozen=True, slots=True)
class KeyedRequest:
    """A request that brought a key."""

    use: KeyUse
    request_hash: str

    async def first(self, tx: Tx) -> KeyedRow | None:
        """The request that the key came with first. Raises IdempotencyKeyReused where that one
        asked for something else."""
        found = await idempotency.get(tx, self.use, now())
        if found is not None and found.request_hash != self.request_hash:
            raise IdempotencyKeyReused(details={HEADER: "came with another query or body before"})
        return found

    async def claim(self, tx: Tx) -> None:
        """Makes this the key's first request. Raises KeyTakenError and IdempotencyKeyReused."""
        if found := await self.first(tx):
            raise KeyTakenError(found)
        use = self.use
        row = KeyedRow(use.user_id, use.method, use.path, use.key, self.request_hash, now())
        await idempotency.put(tx, row)


def keyed_request(
    request: web.Request, user_id: str, query: Mapping[str, object], body: Mapping[str, object]
) -> KeyedRequest | None:
    """The request with its key; None for one without, and for methods that take none. Raises
    ValidationFailed."""
    keys = request.headers.getall(HEADER, [])
    if request.method != "POST" or not keys:
        return None
    if len(keys) > 1 or not re.fullmatch(KEY_PATTERN, keys[0]):
        raise ValidationFailed(details={HEADER: "must be 1-255 visible ASCII characters, once"})
    use = KeyUse(user_id, request.method, request.path, keys[0])
    return KeyedRequest(use, request_hash(query, body))


def request_hash(query: Mapping[str, object], body: Mapping[str, object]) -> str:
    """What tells requests apart: the parameters and the parsed body, whatever their order, white
    space and escapes. It is a hash, since bodies hold what is nobody's business here."""
    text = json.dumps([query, body], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
