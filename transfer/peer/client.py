"""Another server's storage as a `Source`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Self, TypeVar, cast

from transfer.errors import StreamCorrupt
from transfer.model import Forest, Guid, Snapshot, Step, Traits
from transfer.peer import messages
from transfer.peer.link import SMALL_WINDOW_BYTES, Link, LinkSettings, open_link
from transfer.peer.messages import PeerRequest, TreeRequest, Want
from transfer.peer.traffic import Traffic
from transfer.pipeline import receive_blocks, receive_records

T = TypeVar("T")


class PeerSource:
    """A `Source` over one link, for one job.

    Beside what `Source` says, every method raises PeerUnreachable, PeerRefused, TransferStalled
    and StreamCorrupt.
    """

    def __init__(self, link: Link, job_id: str) -> None:
        self._link = link
        self._job_id = job_id
        self._whole = False

    @classmethod
    @asynccontextmanager
    async def connect(
        cls,
        address: str,
        *,
        host_key: str,
        client_key: str,
        server_id: str,
        job_id: str,
        settings: LinkSettings,
    ) -> AsyncIterator[Self]:
        """The peer at `host:port` whose public key is `host_key`; we are `server_id` and prove it
        by `client_key` (OpenSSH's private text). Raises PeerHostKeyMismatch too."""
        async with open_link(address, host_key, client_key, server_id, settings) as link:
            yield cls(link, job_id)

    @property
    def traffic(self) -> Traffic:
        """What has moved so far."""
        return self._link.traffic

    def begins(self, step: Step) -> None:
        """What is asked for from now on is for this step."""
        self._whole = step.base is None

    async def traits(self) -> Traits:
        """See `Source.traits`."""
        return await self._ask(messages.GetTraits(self._job_id), Traits)

    async def lineage(self, guids: Sequence[Guid]) -> Forest:
        """See `Source.lineage`."""
        return await self._ask(messages.GetLineage(self._job_id, tuple(guids)), Forest)

    async def snapshot(self, path: str, name: str, tag: str) -> Snapshot:
        """See `Source.snapshot`. The peer makes the tag from the job's id itself."""
        self._check(tag)
        return await self._ask(messages.TakeSnapshot(self._job_id, path, name), Snapshot)

    async def unchanged(self, path: str, since: str, name: str) -> Guid | None:
        """See `Source.unchanged`."""
        request = messages.AskUnchanged(self._job_id, path, since, name)
        return await self._ask(request, cast("type[Guid | None]", str | None))

    async def hold(self, guids: Sequence[Guid], tag: str) -> None:
        """See `Source.hold`."""
        self._check(tag)
        await self._ask(messages.Hold(self._job_id, tuple(guids)), None)

    async def release(self, guids: Sequence[Guid], tag: str) -> None:
        """See `Source.release`."""
        self._check(tag)
        await self._ask(messages.Release(self._job_id, tuple(guids)), None)

    async def size(self, step: Step) -> int:
        """See `Source.size`."""
        return await self._ask(messages.GetSize(self._job_id, step), int)

    async def tree_root(self, guid: Guid) -> bytes:
        """See `TreeSource.tree_root`."""
        return await self._ask(messages.GetTreeRoot(self._job_id, guid), bytes)

    async def send(self, step: Step) -> AsyncGenerator[bytes, None]:
        """See `Source.send`."""
        request = messages.Send(*self._stream(), step)
        async with self._link.ask(request, self._link.settings.window_bytes) as channel:
            frames = channel.frames(self._link.settings.stall_seconds)
            async with aclosing(channel.meter.counted(receive_blocks(frames))) as blocks:
                async for block in blocks:
                    yield block

    def tree_nodes(self, guid: Guid, paths: Sequence[bytes]) -> AsyncGenerator[bytes, None]:
        """See `TreeSource.tree_nodes`."""
        request = messages.TreeNodes(*self._tree(guid), tuple(paths))
        return self._records(request, len(paths))

    def tree_chunk_lists(self, guid: Guid, paths: Sequence[bytes]) -> AsyncGenerator[bytes, None]:
        """See `TreeSource.tree_chunk_lists`."""
        request = messages.TreeChunkLists(*self._tree(guid), tuple(paths))
        return self._records(request, len(paths))

    def tree_chunks(self, guid: Guid, wants: Sequence[Want]) -> AsyncGenerator[bytes, None]:
        """See `TreeSource.tree_chunks`."""
        request = messages.TreeChunks(*self._tree(guid), tuple(wants))
        return self._records(request, sum(count for _, _, count in wants))

    def _stream(self) -> tuple[str, str, int]:
        """What every StreamRequest begins with."""
        settings = self._link.settings
        return self._job_id, str(settings.compression), settings.limit_bytes_per_second

    def _tree(self, guid: Guid) -> tuple[str, str, int, Guid, bool]:
        """What every TreeRequest begins with."""
        return *self._stream(), guid, self._whole

    def _check(self, tag: str) -> None:
        if tag != messages.hold_tag(self._job_id):
            raise ValueError(f"{tag} is not the tag of job {self._job_id}")

    async def _ask(self, request: PeerRequest, kind: type[T] | None) -> T:
        async with self._link.ask(request, SMALL_WINDOW_BYTES) as channel:
            frames = channel.frames(self._link.settings.stall_seconds)
            async with aclosing(frames):
                async for frame in frames:
                    return messages.read_answer(kind, frame)
        raise StreamCorrupt("the peer ended without an answer")

    async def _records(self, request: TreeRequest, count: int) -> AsyncGenerator[bytes, None]:
        seen = 0
        async with self._link.ask(request, self._link.settings.window_bytes) as channel:
            frames = channel.frames(self._link.settings.stall_seconds)
            async with aclosing(channel.meter.counted(receive_records(frames))) as records:
                async for record in records:
                    seen += 1
                    yield record
        if seen != count:
            raise StreamCorrupt("the peer sent another number of records", asked=count, came=seen)
