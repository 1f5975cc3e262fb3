"""What is planned for containers that stand on an image."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.unit.test_plan import dataset, kinds
from transfer.model import Forest
from transfer.plan import Here, plan


@pytest.mark.parametrize("clones", [1, 2])
@pytest.mark.parametrize("branches", [False, True])
def test_an_image_is_never_passed_over(clones: int, branches: bool) -> None:
    """Not even with its first container, where branches are had: the next one stands on it."""
    image = dataset("images/i", "1")
    image = replace(image, snapshots=(replace(image.snapshots[0], clones=clones),))
    source = Forest.of([image, dataset("containers/c/g", "2", origin="1")])
    found = plan(source, ["2"], Here(Forest()), native=True, branches=branches)
    assert kinds(found.steps) == [("full", "1", None), ("incremental", "2", "1")]


def test_a_second_container_needs_its_difference_alone() -> None:
    source = Forest.of([dataset("images/i", "1"), dataset("containers/c/g", "3", origin="1")])
    here = Here(Forest.of([dataset("mirrors/i", "1")]))
    for native in (True, False):
        (step,) = plan(source, ["3"], here, native=native, branches=native).steps
        assert (step.snapshot, step.base) == ("3", "1")
