"""The layers that are measured (bench/shapes.py) against the oracle, scaled down, and what the sets promise."""

from __future__ import annotations

import pytest

from bench.shapes import ALL_SHAPES, DOCUMENTED, KINDS, SETS, Shape, scaled
from tests.kernels.problems import check_conv

#: Layers that differ in more than their name and the number of their channels' whole vectors.
SCALED = {scaled(shape).problem(): scaled(shape) for shape in ALL_SHAPES}.values()


@pytest.mark.parametrize("shape", SCALED, ids=lambda shape: shape.name)
@pytest.mark.parametrize("form", [("channels_last", "HWIO"), ("channels_first", "OIHW")], ids="-".join)
def test_named_shapes(shape: Shape, form: tuple[str, str]) -> None:
    check_conv(shape.problem(*form))  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", ALL_SHAPES, ids=lambda shape: shape.name)
def test_scaled_shapes_are_small_and_of_the_same_kind(shape: Shape) -> None:
    whole, small = shape.problem(), scaled(shape).problem()
    assert small.multiply_adds <= min(whole.multiply_adds, 6e7)
    assert min(small.output) >= 1
    for field in ("kernel", "stride", "padding", "dilation", "rank"):
        assert getattr(small, field) == getattr(whole, field)
    assert small.C % small.G == small.K % small.G == 0
    assert (small.G == small.C) == (whole.G == whole.C)
    # What is left after whole vectors of 16 channels, and whether a map is even, decide on the edges of tiles.
    assert (small.C // small.G - whole.C // whole.G) % 16 == (small.K // small.G - whole.K // whole.G) % 16 == 0
    assert all((a - b) % 2 == 0 for a, b in zip(small.size, whole.size))


def test_every_layer_is_there_once() -> None:
    assert (
        len({shape.name for shape in ALL_SHAPES}) == len({shape.problem() for shape in ALL_SHAPES}) == len(ALL_SHAPES)
    )
    problems = {shape.problem() for shape in ALL_SHAPES}
    for name, shapes in (SETS | KINDS | {"conv": DOCUMENTED}).items():
        assert shapes, name
        assert {shape.problem() for shape in shapes} <= problems


def test_shapes_that_do_not_fit_their_axes() -> None:
    with pytest.raises(AssertionError, match=r"odd: 2 axes; received \(1, 2, 3\)"):
        Shape("odd", 1, 1, (1, 2, 3), 1, 1).problem()
