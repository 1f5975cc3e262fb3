"""The world of these tests, which other tests share."""

from __future__ import annotations

from tests.engine_world import AT_ONCE, SEALING_KEY, Link, Place, World

__all__ = ["AT_ONCE", "SEALING_KEY", "Link", "Place", "World"]
