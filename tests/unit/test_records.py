"""Records: byte strings in one stream."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transfer.errors import StreamCorrupt
from transfer.records import RECORD_BYTES_MAX, RecordReader, as_record

RECORDS = st.lists(st.binary(max_size=80), max_size=20)


@given(RECORDS, st.integers(1, 40))
def test_any_split_gives_the_same_records(records: list[bytes], size: int) -> None:
    stream = b"".join(map(as_record, records))
    reader = RecordReader()
    found: list[bytes] = []
    for at in range(0, len(stream), size):
        found += reader.feed(stream[at : at + size])
    reader.finish()
    assert found == records


@given(st.binary(max_size=80), st.data())
def test_a_cut_record_is_corrupt(record: bytes, data: st.DataObject) -> None:
    stream = as_record(record)
    reader = RecordReader()
    reader.feed(stream[: data.draw(st.integers(1, len(stream) - 1))])
    with pytest.raises(StreamCorrupt, match="inside a record"):
        reader.finish()


def test_a_length_beyond_the_limit_is_refused_before_the_record_comes() -> None:
    with pytest.raises(StreamCorrupt, match="too large"):
        RecordReader().feed((RECORD_BYTES_MAX + 1).to_bytes(4, "big"))
