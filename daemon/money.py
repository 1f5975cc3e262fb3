"""Money: whole cents inside, numbers and decimal text of the unit outside. Pure."""

from __future__ import annotations

import re

_CENTS = 100
_TEXT = re.compile(r"([+-]?)([0-9]{1,9})(?:\.([0-9]{1,2}))?")


def cents_of(text: str) -> int:
    """The cents in decimal text: `50`, `44.01`, `-5.5`. Raises ValueError for what is none, has
    more than two decimals, or is a thousand million or more."""
    found = _TEXT.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no amount: at most nine digits and two decimals")
    sign, units, decimals = found.groups()
    cents = int(units) * _CENTS + int((decimals or "").ljust(2, "0"))
    return -cents if sign == "-" else cents


def number(cents: int) -> int | float:
    """The JSON number: 599 is 5.99. It is the double that is nearest, as a client reads it."""
    return cents / _CENTS if cents % _CENTS else cents // _CENTS


def text(cents: int) -> str:
    """Decimal text with two decimals: 599 is `5.99`."""
    units, rest = divmod(abs(cents), _CENTS)
    return f"{'-' if cents < 0 else ''}{units}.{rest:02d}"
