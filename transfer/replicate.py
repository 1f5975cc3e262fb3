"""ensure(): make snapshots of a source exist on this server.

One loop: look at both sides, plan, hold; then for each missing step take the turn, plan it again,
ship it, hold what landed. Where another job has shipped what was planned, or less came than was,
it looks again. Every attempt plans afresh from what the storages say, so it may be killed at any
line and started again. It sees only `Source` and `Storage`; what the catalogue has to know, it
tells a `Ledger`.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass, field
from typing import Protocol

from transfer.at_once import at_once
from transfer.errors import (
    CannotExpress,
    InsufficientStorage,
    KeyUnavailable,
    SnapshotMissing,
    SourceChanged,
    VerifyMismatch,
)
from transfer.model import Forest, Guid, Plan, Progress, Receipt, Step, StepKind
from transfer.plan import Here, flagged, locked, place, plan
from transfer.storage.base import Source, Storage

OnProgress = Callable[[Progress], None]

# A plan may change while it is carried out (another job ships a part of it), but it only ever
# gets shorter: a round ships a step, or finds that another job did. More rounds than the longest
# history has snapshots and origins mean that it does not converge.
ROUNDS_MAX = 4000


class Ledger(Protocol):
    """What replication must write down, and where it waits its turn."""

    async def mirrors(self, source: Forest) -> dict[str, tuple[str, ...]]:
        """For each dataset of the source the datasets here that may have snapshots of it,
        oldest first."""
        ...

    async def new_mirror(self, step: Step, here: Forest) -> str:
        """The path for a new mirror, registered before it is made; the one that an earlier
        attempt of the same job has begun, if that is still without a snapshot `here`."""
        ...

    def turn(self, step: Step) -> AbstractAsyncContextManager[None]:
        """The one shipper's turn for the step's generation on this server; waits for it."""
        ...

    async def begins(self, step: Step, path: str, here: Forest) -> None:
        """Something is about to be written to `path`, and may stay half-made; `here` has the
        step's base."""
        ...

    async def landed(self, step: Step, path: str) -> None:
        """The step's snapshot is on this server, at `path`."""
        ...


@dataclass(frozen=True)
class Request:
    """What shall exist: the snapshots `wanted`, on whatever branches of the source they lie.

    `tag` names the holds; those of `held` the source has already. `full` asks that nothing of this
    server be a base. `reserve_bytes` must stay free here.
    """

    wanted: tuple[Guid, ...]
    tag: str
    full: bool = False
    reserve_bytes: int = 0
    held: frozenset[Guid] = frozenset()


@dataclass(frozen=True)
class Together:
    """What the two storages can do with each other; see Traits."""

    native: bool = False
    flags: str = ""
    resumes: bool = False
    unlocks: bool = False
    branches: bool = False
    runs: bool = False


@dataclass
class Outcome:
    """What ensure did: the receipts of the shipped steps, the source as it was planned on, the
    guids that it held on both sides, and the time that went into looking and planning."""

    source: Forest = field(default_factory=Forest)
    receipts: list[Receipt] = field(default_factory=list)
    held: set[Guid] = field(default_factory=set)
    plan_seconds: float = 0.0

    @property
    def strategy(self) -> str:
        """`clone` where nothing moved, `full` where a root came whole, else how the difference
        to what was here came."""
        if not self.receipts:
            return "clone"
        if any(receipt.step.base is None for receipt in self.receipts):
            return "full"
        content = any(receipt.step.kind is StepKind.CONTENT for receipt in self.receipts)
        return "content-diff" if content else "incremental"

    @property
    def logical_bytes(self) -> int:
        """Bytes before compression, of all steps."""
        return sum(receipt.logical_bytes for receipt in self.receipts)


class Replication:
    """One ensure() between a source and this server's storage."""

    def __init__(
        self, source: Source, storage: Storage, ledger: Ledger, on_progress: OnProgress
    ) -> None:
        self._source = source
        self._storage = storage
        self._ledger = ledger
        self._on_progress = on_progress
        self._together = Together()
        self._held_here: set[Guid] = set()
        self._held_there: set[Guid] = set()
        self._shipped: set[Guid] = set()
        self._done_bytes = 0
        self._total_bytes = 0

    async def ensure(self, request: Request) -> Outcome:
        """Returns when every wanted snapshot is here and held on both sides with the tag.

        Raises what the source and the storage raise; SourceChanged where planning afresh helps.
        """
        await self._agree()
        self._held_there |= request.held
        outcome = Outcome(held=set(request.wanted))
        planned = False
        for _ in range(ROUNDS_MAX):
            began = time.monotonic()
            source = outcome.source = await self._source.lineage(request.wanted)
            here = await self._look(source, request.full)
            todo = self._plan(source, request.wanted, here)
            outcome.plan_seconds += time.monotonic() - began
            try:
                await self._hold(request.tag, outcome.held | todo.guids, source, here.forest)
            except SnapshotMissing:
                continue  # somebody let go of what a step stands on, between the look and the hold
            outcome.held |= todo.guids
            if not todo.steps:
                return outcome
            if not planned:
                await self._admit(todo, source, here.forest, request.reserve_bytes)
                planned = True
            if await self._carry_out(todo, source, request, outcome):
                return outcome
        raise SourceChanged("the plan does not converge", rounds=ROUNDS_MAX)

    async def _carry_out(
        self, todo: Plan, source: Forest, request: Request, outcome: Outcome
    ) -> bool:
        """Whether the whole plan was carried out here and as it was: then all that is wanted is
        here, and held."""
        for step in todo.steps:
            receipt = await self._take_turn(step, source, request)
            if receipt is not None:
                outcome.receipts.append(receipt)
            if receipt is None or receipt.step.makes != step.makes:
                return False
        return True

    async def _agree(self) -> None:
        theirs, ours = await self._source.traits(), await self._storage.traits()
        if theirs.kind != ours.kind:
            raise CannotExpress("the backends differ", source=theirs.kind, target=ours.kind)
        self._together = Together(
            native=ours.native,
            flags="".join(flag for flag in theirs.sends if flag in ours.takes),
            resumes=theirs.resumes,
            unlocks=ours.unlocks,
            branches=theirs.branches and ours.branches,
            runs=theirs.runs and ours.runs,
        )

    def _plan(self, source: Forest, wanted: Sequence[Guid], here: Here) -> Plan:
        can = self._together
        return plan(source, wanted, here, native=can.native, branches=can.branches, runs=can.runs)

    async def _look(self, source: Forest, full: bool) -> Here:
        mirrors = await self._ledger.mirrors(source)
        paths = sorted({path for group in mirrors.values() for path in group})
        forest = await self._storage.inspect(paths)
        return Here(forest, mirrors, bases=self._shipped if full else None)

    async def _hold(self, tag: str, guids: set[Guid], source: Forest, here: Forest) -> None:
        """Holds, before use, what the plan reads on the source and stands on here.

        A content diff may stand on a base that the source has let go.
        """
        ours = {guid for guid in guids - self._held_here if here.find(guid)}
        theirs = {guid for guid in guids - self._held_there if source.find(guid)}
        await at_once(
            self._hold_on(self._storage, ours, self._held_here, tag),
            self._hold_on(self._source, theirs, self._held_there, tag),
        )

    async def _hold_on(self, side: Source, guids: set[Guid], held: set[Guid], tag: str) -> None:
        if guids:
            await side.hold(sorted(guids), tag)
            held |= guids

    async def _admit(self, todo: Plan, source: Forest, here: Forest, reserve_bytes: int) -> None:
        """What must be so before the first byte moves: what comes can be mounted, and there is
        room for it. Its size is the total for progress."""
        closed = locked(todo, source, here)
        if closed and not self._together.unlocks:
            raise KeyUnavailable("the key of what is encrypted is not on this server", guids=closed)
        steps = [flagged(step, source, here, self._together.flags) for step in todo.steps]
        self._total_bytes = sum([await self._source.size(step) for step in steps])
        room = await self._storage.capacity()
        if room.available_bytes < self._total_bytes + reserve_bytes:
            raise InsufficientStorage(
                "not enough room for what would come",
                needed_bytes=self._total_bytes + reserve_bytes,
                available_bytes=room.available_bytes,
            )
        self._on_progress(Progress(0, self._total_bytes))

    async def _take_turn(self, step: Step, source: Forest, request: Request) -> Receipt | None:
        """Ships the step, unless another job did so while this one waited for its turn. What
        it reads on the source is held and as it was, so only this side is looked at again."""
        async with self._ledger.turn(step):
            here = await self._look(source, request.full)
            todo = self._plan(source, step.makes, here)
            if not todo.steps or todo.steps[0].snapshot != step.snapshot:
                return None
            placed = place(todo.steps[0], source, here.forest)
            if placed.run and placed.into is None:
                # Only one snapshot makes a dataset; the rest of the run goes on top of it.
                first = self._plan(source, step.makes[:1], here).steps[0]
                placed = place(first, source, here.forest)
            placed = flagged(placed, source, here.forest, self._together.flags)
            path = placed.into or await self._ledger.new_mirror(placed, here.forest)
            return await self._ship(placed, path, here.forest, request.tag)

    async def _ship(self, step: Step, path: str, here: Forest, tag: str) -> Receipt:
        before = self._done_bytes
        await self._ledger.begins(step, path, here)
        if step.kind is StepKind.CONTENT:
            snapshot = await self._storage.apply(step, path, self._source, self._moved)
        else:
            step = await self._resumed(step, path)
            async with aclosing(self._counted(step)) as blocks:
                snapshot = await self._storage.receive(step, path, blocks)
        if snapshot.guid != step.snapshot:
            raise VerifyMismatch("another snapshot arrived", wanted=step.snapshot)
        await self._storage.hold(step.makes, tag)
        self._held_here.update(step.makes)
        self._shipped.update(step.makes)
        await self._ledger.landed(step, path)
        return Receipt(step, snapshot, self._done_bytes - before)

    async def _resumed(self, step: Step, path: str) -> Step:
        """The step, to be gone on with where an earlier attempt was cut and the source can."""
        resumed = await self._storage.resume_point(step, path)
        if resumed is None:
            return step
        if self._together.resumes and await self._fits(resumed):
            return resumed
        await self._storage.discard(path)
        return step

    async def _fits(self, resumed: Step) -> bool:
        try:
            await self._source.size(resumed)
        except SourceChanged:
            return False
        return True

    async def _counted(self, step: Step) -> AsyncGenerator[bytes, None]:
        async with aclosing(self._source.send(step)) as blocks:
            async for block in blocks:
                yield block
                self._moved(len(block))

    def _moved(self, count: int) -> None:
        self._done_bytes += count
        self._total_bytes = max(self._total_bytes, self._done_bytes)
        self._on_progress(Progress(self._done_bytes, self._total_bytes))
