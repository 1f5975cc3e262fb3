"""A program that writes to a catalogue: `writer.py URL NAME COUNT`. It prints the number of each
event after its commit."""

from __future__ import annotations

import asyncio
import sys

from sqlalchemy import insert

from daemon.model import now
from daemon.store import schema
from daemon.store.database import Database
from daemon.store.sequence import next_sequence


async def main(url: str, name: str, count: int) -> None:
    db = Database(url)
    for number in range(count):
        async with db.write() as tx:
            data = {"number": number, "sequence": await next_sequence(tx)}
            await tx.execute(insert(schema.events).values(at=now(), kind=name, data=data))
        print(number, flush=True)
    await db.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
