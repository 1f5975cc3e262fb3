"""Any text is either refused as a schedule, with a sentence, or has a sync begin."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import example, given, settings
from hypothesis import strategies as st

from daemon.schedule import check, next_sync

T0 = datetime(2026, 1, 15, 10, 30, tzinfo=UTC)
FIFTY_YEARS = timedelta(days=366 * 50)

FIELD = st.one_of(
    st.text("0123456789*/,-#LW", min_size=1, max_size=6),
    st.sampled_from(["*", "*/7", "1-5", "L", "LW", "2#5", "5L", "MON-FRI", "jan", "0", "29", "31"]),
)
CRON = st.lists(FIELD, min_size=4, max_size=6).map(" ".join)


@settings(deadline=None)
@given(text=st.one_of(CRON, st.text(max_size=200)))
@example(text="0 0 */31 2 1L")
@example(text="²L * * * *")
@example(text=f"*/{'9' * 100} * * * *")
def test_a_text_is_refused_or_has_a_sync_begin(text: str) -> None:
    begins = next_sync(text, "5" * 24, T0, T0)
    try:
        check(text, T0)
    except ValueError as refused:
        assert str(refused)
    else:
        assert begins is not None
        assert T0 < begins < T0 + FIFTY_YEARS
