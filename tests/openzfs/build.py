"""`make openzfs-image`: makes what the machines start from, where it is not there yet."""

from __future__ import annotations

import sys

from tests.openzfs.cache import cache_root
from tests.openzfs.debian import NoPackages, chosen_suite
from tests.openzfs.disks import python_disk
from tests.openzfs.image import image


def main() -> int:
    """Makes the image and the Python's disk; 1 where the packages cannot be had."""
    try:
        cache = cache_root()
        image(cache, chosen_suite())
        python_disk(cache)
    except NoPackages as error:
        print(f"openzfs: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
