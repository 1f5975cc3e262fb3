"""`freezing.py`, whose daemon forks its children (tests/acceptance/nursery.py).

python -m tests.fault.forking run --config …
"""

from __future__ import annotations

from tests.acceptance.nursery import fork_children
from tests.fault.freezing import run

if __name__ == "__main__":
    fork_children()
    run()
