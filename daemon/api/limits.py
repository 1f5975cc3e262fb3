"""How often one user may ask: a token bucket a user, in this process only."""

from __future__ import annotations

import math
from dataclasses import dataclass

USERS_MAX = 10_000


@dataclass(frozen=True, slots=True)
class _Bucket:
    tokens: float
    at_seconds: float


class RateLimit:
    """`per_minute` requests at once, refilled evenly. Times are a monotonic clock's seconds."""

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self._buckets: dict[str, _Bucket] = {}

    def take(self, user_id: str, now_seconds: float) -> int:
        """Counts one request: 0 where it may pass, else the whole seconds to wait."""
        left = self._left(user_id, now_seconds)
        if left < 1:
            return math.ceil((1 - left) * 60 / self._per_minute)
        if len(self._buckets) >= USERS_MAX:
            self._forget_full(now_seconds)
        self._buckets[user_id] = _Bucket(left - 1, now_seconds)
        return 0

    def _left(self, user_id: str, now_seconds: float) -> float:
        bucket = self._buckets.get(user_id)
        if bucket is None:
            return self._per_minute
        refilled = (now_seconds - bucket.at_seconds) * self._per_minute / 60
        return min(self._per_minute, bucket.tokens + refilled)

    def _forget_full(self, now_seconds: float) -> None:
        """A full bucket says no more than an absent one; if none is full, the oldest go."""
        full = [user for user in self._buckets if self._left(user, now_seconds) == self._per_minute]
        for user in full or list(self._buckets)[: USERS_MAX // 2]:
            del self._buckets[user]
