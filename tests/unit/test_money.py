"""Money: whole cents inside, text and numbers outside."""

from __future__ import annotations

import json

import pytest

from daemon import money


@pytest.mark.parametrize(
    ("text", "cents"),
    [("50", 5000), ("44.01", 4401), ("-5.5", -550), ("+0.09", 9), ("0", 0), ("-0.01", -1)],
)
def test_decimal_text_is_cents(text: str, cents: int) -> None:
    assert money.cents_of(text) == cents


@pytest.mark.parametrize(
    "text", ["", "5.", ".5", "5.001", "1e3", "1 000", "1234567890", "--5", "\u0661", "5\n", "NaN"]
)
def test_what_is_no_amount(text: str) -> None:
    with pytest.raises(ValueError, match="is no amount"):
        money.cents_of(text)


def test_a_number_is_what_its_text_reads_as() -> None:
    for cents in (*range(-300, 2000), 10**11 - 1, 10**11 - 99):
        assert float(money.text(cents)) == money.number(cents)
        assert money.cents_of(money.text(cents)) == cents
        decimals = json.dumps(money.number(cents)).partition(".")[2]
        assert len(decimals) <= 2
    assert json.dumps([money.number(cents) for cents in (0, 599, 5000)]) == "[0, 5.99, 50]"
