"""How large the benchmarks are."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.numbers import GB, MIB

_SIZES_GB = (1, 2, 4, 8, 10, 50, 100)


@dataclass(frozen=True, slots=True)
class Options:
    """`quick`: tiny sizes, to see that all runs. `gigabytes`: the largest container."""

    quick: bool = False
    gigabytes: int = 8

    @property
    def sizes_bytes(self) -> list[int]:
        """Of the containers whose copies are timed."""
        if self.quick:
            return [GB // 100, GB // 50]
        smaller = [size for size in _SIZES_GB if size < self.gigabytes]
        return [size * GB for size in (*smaller, self.gigabytes)]

    @property
    def dir_sizes_bytes(self) -> list[int]:
        """The same on `dir`, where a copy on one server takes as long as its bytes."""
        return [size // 2 for size in self.sizes_bytes[:2]]

    @property
    def tree_bytes(self) -> int:
        """Of the trees that peers copy."""
        return (6 if self.quick else 200) * MIB

    @property
    def dir_tree_bytes(self) -> int:
        """The same on `dir`, where each file costs, and all take longer."""
        return (6 if self.quick else 64) * MIB

    @property
    def rounds(self) -> int:
        """How often each peer has its turn."""
        return 1 if self.quick else 5

    @property
    def pipe_bytes(self) -> int:
        """What goes through the pipe from memory to memory."""
        return (8 if self.quick else 192) * MIB

    @property
    def takes(self) -> int:
        """How often each way through the pipe is taken."""
        return 1 if self.quick else 3

    @property
    def containers(self) -> int:
        """How many containers one server has."""
        return 20 if self.quick else 1000

    @property
    def snapshots(self) -> int:
        """How many each of them lists."""
        return 2 if self.quick else 10

    @property
    def repeats(self) -> int:
        """How often what is short is done."""
        return 2 if self.quick else 3
