"""`hoodyd demo`: two servers on this machine, and the whole story of a copy.

trees    what is taken in, how it changes, and an independent comparison
servers  two daemons that share a catalogue, dir or zfs
story    the operations, their figures and what each must reach
"""

from __future__ import annotations

from daemon.demo.story import run

__all__ = ["run"]
