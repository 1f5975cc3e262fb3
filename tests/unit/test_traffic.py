"""What children tell of their transfers, and what the daemon makes of it."""

from __future__ import annotations

import pytest

from daemon.lines import Message, encode
from daemon.metrics import Metrics
from daemon.traffic import Counting, Teller
from transfer.model import Landing, Step, StepKind
from transfer.peer.messages import GetTraits, PeerRequest, Send, TreeNodes
from transfer.peer.traffic import Traffic

JOB = "0123456789abcdef01234567"
FULL = Step(StepKind.FULL, "mirrors/a", "2", "h-1", None, Landing.NEW)
INCREMENT = Step(StepKind.INCREMENTAL, "mirrors/a", "2", "h-1", "1", Landing.EXTEND)


class Child:
    """A child that counts, and what it has told."""

    def __init__(self, direction: str = "in") -> None:
        self.traffic = Traffic()
        self.remaining_bytes = 0
        self.told: list[Message] = []
        self._teller = Teller(direction, lambda: self.traffic, lambda: self.remaining_bytes)

    def tell(self, *, ended: bool = False) -> list[Message]:
        """What it tells now."""
        self.told.clear()
        self._teller.tell(self.told.append, ended=ended)
        for message in self.told:
            assert len(encode(message)) < 1024
        return list(self.told)


@pytest.mark.parametrize(
    ("request_", "strategy"),
    [
        (GetTraits(JOB), "none"),
        (Send(JOB, "auto", 0, FULL), "full"),
        (Send(JOB, "auto", 0, INCREMENT), "incremental"),
        (TreeNodes(JOB, "auto", 0, "2", False, ()), "content-diff"),
        (TreeNodes(JOB, "auto", 0, "2", True, ()), "full"),
    ],
)
def test_a_channel_is_counted_by_what_it_is_for(request_: PeerRequest, strategy: str) -> None:
    traffic = Traffic()
    traffic.meter(request_).sent_bytes += 5
    assert list(traffic.meters) == [strategy]
    assert traffic.wire_bytes == 5
    with traffic.underway(request_), traffic.underway(request_):
        assert traffic.jobs_streaming == (strategy != "none")
    assert traffic.jobs_streaming == 0


def test_only_what_is_new_is_told() -> None:
    child = Child()
    assert child.tell() == []
    meter = child.traffic.meter(Send(JOB, "auto", 0, FULL))
    meter.logical_bytes, meter.received_bytes, meter.sent_bytes = 100, 40, 2
    child.remaining_bytes = 900
    (news,) = child.tell()
    told = {"direction": "in", "moved": {"full": [100, 42]}, "stalls": 0}
    assert news == {"traffic": {**told, "streaming": 0, "remaining": 900}}
    assert child.tell() == []
    meter.logical_bytes += 1
    child.traffic.stalls += 1
    child.traffic.meter(GetTraits(JOB)).sent_bytes += 7
    (news,) = child.tell(ended=True)
    told = {"direction": "in", "moved": {"full": [1, 0], "none": [0, 7]}, "stalls": 1}
    assert news == {"traffic": {**told, "streaming": 0, "remaining": 0}}
    meter.logical_bytes += 1
    (news,) = child.tell(ended=True)
    told = {"direction": "in", "moved": {"full": [1, 0]}, "stalls": 0}
    assert news == {"traffic": {**told, "streaming": 0, "remaining": 0}}


def test_before_there_is_a_link_there_is_nothing_to_tell() -> None:
    told: list[Message] = []
    Teller("in", lambda: None).tell(told.append, ended=True)
    assert told == []


def test_what_children_tell_is_added_up_and_what_they_are_about_goes_with_them() -> None:
    metrics = Metrics()
    counting = Counting(metrics)

    def value(name: str, **labels: str) -> float:
        return metrics.registry.get_sample_value(name, labels) or 0.0

    request = Send(JOB, "auto", 0, INCREMENT)
    children = {"job 1": Child(), "job 2": Child(), "exporter 0": Child("out")}
    for name, child in children.items():
        child.traffic.meter(request).received_bytes += 10
        child.traffic.meter(request).logical_bytes += 30
        child.traffic.stalls += 1
        child.remaining_bytes = 50 if child is not children["exporter 0"] else 0
        with child.traffic.underway(request):
            for message in child.tell():
                assert counting.heard(name, message)
    moved = {"strategy": "incremental", "kind": "wire"}
    assert value("hoody_transfer_bytes_total", direction="in", **moved) == 20
    assert value("hoody_transfer_bytes_total", direction="out", **moved) == 10
    unpacked = {"strategy": "incremental", "kind": "logical"}
    assert value("hoody_transfer_bytes_total", direction="in", **unpacked) == 60
    assert value("hoody_transfer_stalls_total") == 3
    assert value("hoody_transfers_active", direction="in") == 2
    assert value("hoody_transfers_active", direction="out") == 1
    assert value("hoody_transfer_bytes_remaining") == 100
    for name in ("job 1", "exporter 0", "job 1", "nobody"):
        counting.gone(name)
    assert value("hoody_transfers_active", direction="in") == 1
    assert value("hoody_transfers_active", direction="out") == 0
    assert value("hoody_transfer_bytes_remaining") == 50
    assert value("hoody_transfer_bytes_total", direction="in", **moved) == 20


def test_other_news_are_not_its_own() -> None:
    counting = Counting(Metrics())
    assert not counting.heard("worker", {"result": None})
    assert not counting.heard("exporter 0", {"listening": True})
