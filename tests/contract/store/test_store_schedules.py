"""When scheduled syncs begin: one row a container, found by its server and time."""

from __future__ import annotations

from daemon.model import ScheduleRow
from daemon.store import containers, schedules
from tests.contract.store.catalogue import Catalogue, after


async def test_a_server_finds_what_is_due_and_what_is_next(catalogue: Catalogue) -> None:
    here, there = catalogue.here.id, catalogue.there.id
    late, soon, later = [await catalogue.add_container(f"c{number}") for number in range(3)]
    far = await catalogue.add_container("far", server_id=there)
    for container, seconds in ((soon, 10), (late, 5), (later, 20), (far, 1)):
        await catalogue.write(schedules.put, container.id, after(seconds))
    assert await catalogue.read(schedules.due, here, after(4)) == []
    due = await catalogue.read(schedules.due, here, after(10))
    assert due == [ScheduleRow(late.id, after(5)), ScheduleRow(soon.id, after(10))]
    assert await catalogue.read(schedules.next_after, here, after(10)) == after(20)
    assert await catalogue.read(schedules.next_after, here, after(20)) is None
    assert await catalogue.read(schedules.next_after, there, after(0)) == after(1)


async def test_a_schedule_moves_ends_and_goes_with_its_container(catalogue: Catalogue) -> None:
    ended, gone = [await catalogue.add_container(f"c{number}") for number in range(2)]
    for seconds in (5, 7):
        for container in (ended, gone):
            await catalogue.write(schedules.put, container.id, after(seconds))
    assert await catalogue.read(schedules.get, gone.id) == ScheduleRow(gone.id, after(7))
    await catalogue.write(containers.delete, gone.id)
    await catalogue.write(schedules.put, ended.id, None)
    assert await catalogue.read(schedules.due, catalogue.here.id, after(9)) == []
