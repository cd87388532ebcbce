"""The rule by which an algorithm is chosen, on lists of made-up algorithms and on the real ones."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from bench.shapes import DOCUMENTED, FIRST_LAYERS, MOBILENET, RESNET50, VGG16
from pycnn_kernels import algorithms
from pycnn_kernels.algorithms import ALGORITHMS, Algorithm
from pycnn_kernels.choice import able, choose, explain, workspace_bytes
from pycnn_kernels.cpu import cost
from pycnn_kernels.cpu.host import lanes
from pycnn_kernels.plan import plan_for
from tests.kernels.problems import conv_arrays, conv_problem

PROBLEM = conv_problem()
CONVOLUTIONS = ("conv_forward", "conv_input_gradient", "conv_weight_gradient")


class Idle:
    """A prepared algorithm that takes workspace and does nothing."""

    def __init__(self, workspace: int):
        self.workspace_bytes = workspace

    def run(self, *addresses: int) -> None:
        pass


def made_up(
    name: str,
    *,
    workspace: int = 0,
    supports: str | None = None,
    suits: str | None = None,
    cost: float | None = None,
    margin: float | None = None,
) -> Algorithm:
    return Algorithm(
        name,
        lambda problem: Idle(workspace),
        f"what {name} does",
        lambda problem: supports,
        lambda problem: suits,
        None if cost is None else lambda problem: cost,
        margin,
    )


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Replace the list of "conv_forward"."""

    def put(*candidates: Algorithm) -> None:
        monkeypatch.setitem(algorithms.ALGORITHMS, ("cpu", "conv_forward"), list(candidates))

    return put


def verdicts(**settings: Any) -> list[tuple[str, bool, str | None]]:
    return [(v.name, v.chosen, v.reason) for v in explain("conv_forward", PROBLEM, **settings)]


def test_the_first_that_supports_and_suits(listed: Any) -> None:
    listed(made_up("a", supports="another problem"), made_up("b", suits="a larger one"), made_up("c"), made_up("d"))
    assert choose("conv_forward", PROBLEM).name == "c"
    assert verdicts() == [
        ("a", False, "needs another problem"),
        ("b", False, "needs a larger one"),
        ("c", True, None),
        ("d", False, "c is asked first"),
    ]


def test_by_expected_time(listed: Any) -> None:
    """An algorithm with a margin must be clearly cheaper than each of those behind it that can do the problem."""
    behind = [made_up("cannot", supports="more", cost=1), made_up("unknown"), made_up("direct", cost=100)]
    listed(made_up("winograd", cost=89, margin=0.9), *behind)
    assert choose("conv_forward", PROBLEM).name == "winograd"
    listed(made_up("winograd", cost=150, margin=0.9), *behind)
    assert choose("conv_forward", PROBLEM).name == "unknown"
    assert verdicts()[0] == ("winograd", False, "is expected to take 1.5 times as long as direct")
    assert [v.cost for v in explain("conv_forward", PROBLEM)] == [150, None, None, 100]


def test_a_limit_passes_on(listed: Any) -> None:
    listed(made_up("large", workspace=2001), made_up("fits", workspace=2000), made_up("none"))
    assert choose("conv_forward", PROBLEM, workspace_limit=2001).name == "large"
    assert choose("conv_forward", PROBLEM, workspace_limit=2000).name == "fits"
    assert choose("conv_forward", PROBLEM, workspace_limit=0).name == "none"
    assert choose("conv_forward", PROBLEM, workspace_limit=np.int64(0)).name == "none"
    assert verdicts(workspace_limit=2000) == [
        ("large", False, "needs 2,001 bytes of workspace, the limit is 2,000"),
        ("fits", True, None),
        ("none", False, "fits is asked first"),
    ]
    assert [v.workspace_bytes for v in explain("conv_forward", PROBLEM, workspace_limit=2000)] == [2001, 2000, 0]


def test_one_that_exceeds_the_limit_is_no_competitor(listed: Any) -> None:
    listed(made_up("slow", cost=2, margin=0.9), made_up("quick", cost=1, workspace=10))
    assert choose("conv_forward", PROBLEM).name == "quick"
    assert choose("conv_forward", PROBLEM, workspace_limit=5).name == "slow"


def test_slow_is_better_than_nothing(listed: Any) -> None:
    """Where a limit leaves none that suits, one that does not suit still gives the right result."""
    listed(made_up("slow", suits="another problem"), made_up("last", workspace=10))
    assert choose("conv_forward", PROBLEM, workspace_limit=5).name == "slow"
    assert verdicts(workspace_limit=5)[0] == ("slow", True, None)


def test_no_algorithm_within_the_limit(listed: Any) -> None:
    listed(made_up("a", workspace=5000), made_up("b", workspace=3000), made_up("c", supports="luck", workspace=10))
    message = (
        "no algorithm of conv_forward can do this within the workspace limit of 2,999 bytes: the least that one needs "
        "is 3,000, 'b'"
    )
    for ask in (choose, able, explain, plan_for):
        with pytest.raises(ValueError, match=message):
            ask("conv_forward", PROBLEM, workspace_limit=2999)
    with pytest.raises(ValueError, match="'a' of conv_forward needs 5,000 bytes of workspace, the limit is 2,999"):
        choose("conv_forward", PROBLEM, algorithm="a", workspace_limit=2999)


@pytest.mark.parametrize(
    ("limit", "error", "message"),
    [
        (-1, ValueError, "workspace_limit must be at least 0 bytes; received -1"),
        (1e6, TypeError, "workspace_limit must be None or a number of bytes, an integer; received 1000000.0"),
        (True, TypeError, "received True"),
        ("64MB", TypeError, "received '64MB'"),
    ],
)
def test_limits_that_are_none(limit: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        choose("conv_forward", PROBLEM, workspace_limit=limit)
    with pytest.raises(error, match=message):
        plan_for("conv_forward", conv_problem(N=1), workspace_limit=limit)


def test_asked_for_by_name(listed: Any) -> None:
    listed(made_up("a"), made_up("b", suits="another problem"), made_up("c", supports="luck"))
    assert verdicts(algorithm="b") == [
        ("a", False, "b was asked for"),
        ("b", True, None),
        ("c", False, "needs luck"),
    ]


@pytest.mark.parametrize("operation", CONVOLUTIONS)
def test_a_limit_on_real_algorithms(operation: str) -> None:
    """The plan of a limit keeps to it, and the engine's figures are those that a run takes."""
    p = conv_problem(N=1, C=64, K=64, size=(28, 28), padding=1)
    wanted = plan_for(operation, p)
    assert wanted.algorithm.name == "winograd"
    assert wanted.workspace_bytes == workspace_bytes(wanted.algorithm, operation, p)
    limited = plan_for(operation, p, workspace_limit=wanted.workspace_bytes - 1)
    assert limited.algorithm.name == "direct"
    assert limited.workspace_bytes < wanted.workspace_bytes
    assert plan_for(operation, p, workspace_limit=wanted.workspace_bytes).algorithm.name == "winograd"
    assert plan_for(operation, p) is wanted
    inputs = [conv_arrays(p)[spec.name] if not spec.optional else None for spec in wanted.inputs]
    np.testing.assert_allclose(limited.run(*inputs)[0], wanted.run(*inputs)[0], atol=2e-3)


# -- expected times ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", CONVOLUTIONS)
def test_every_convolution_has_an_expected_time(operation: str) -> None:
    """explain shows it: add a cost to an algorithm of convolution, as cpu/cost.py describes."""
    assert [a.name for a in ALGORITHMS["cpu", operation] if a.cost is None] == []
    for a in ALGORITHMS["cpu", operation]:
        assert a.margin is None or 0 < a.margin <= 1


EDGES = [
    conv_problem(N=0),
    conv_problem(N=1, C=1, K=1, size=(1, 1), kernel=1),
    conv_problem(C=6, K=6, G=6, size=(9, 9), stride=2, padding=1),
    conv_problem(C=4, K=10, size=(300, 300), kernel=(31, 31), padding=15),
    conv_problem(C=4, K=8, size=(5, 6, 7), kernel=3, padding=1, rank=3, layout="channels_first", weight_layout="OIHW"),
    conv_problem(C=4, K=8, size=(9,), kernel=3, dilation=4, rank=1, dtype="float64"),
]


@pytest.mark.parametrize("p", EDGES)
@pytest.mark.parametrize("operation", CONVOLUTIONS)
def test_expected_times_of_any_problem(operation: str, p: Any) -> None:
    for a in able(operation, p):
        assert a.cost is not None
        assert 0 <= a.cost(p) < math.inf


@pytest.mark.parametrize("operation", CONVOLUTIONS)
def test_more_work_takes_longer(operation: str) -> None:
    p = conv_problem(N=2, C=32, K=32, size=(20, 20), padding=1)
    for a in able(operation, p):
        assert a.cost is not None
        for more in (p._replace(N=4), p._replace(C=64), p._replace(K=64), p._replace(size=(1, 40, 20))):
            assert a.cost(more) > a.cost(p)
        other_layout = p._replace(layout="channels_first", weight_layout="OIHW")
        assert a.cost(other_layout) > a.cost(p)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("padding", [0, 1, 4, ((0, 2), (3, 1))])
def test_meetings(stride: int, dilation: int, padding: Any) -> None:
    """The taps inside the input, against a convolution of ones with ones."""
    p = conv_problem(N=2, C=1, K=1, size=(9, 7), kernel=(3, 2), stride=stride, dilation=dilation, padding=padding)
    (y,) = plan_for("conv_forward", p, algorithm="direct").run(
        np.ones(p.x_shape, "float32"), np.ones(p.w_shape, "float32"), None
    )
    assert cost.meetings(p) == y.sum()


def test_milliseconds() -> None:
    """A cost of one second at the rate that the models assume."""
    for dtype in ("float32", "float64"):
        assert cost.milliseconds(cost.VECTORS_PER_SECOND, dtype) == pytest.approx(1000)
        assert cost.milliseconds(cost.VECTORS_PER_SECOND, dtype, rate=cost.gflops(dtype) / 2) == pytest.approx(2000)
    assert cost.gflops("float32") == 2 * cost.gflops("float64")


@pytest.mark.parametrize("operation", CONVOLUTIONS)
def test_expected_times_choose_what_measuring_would(operation: str) -> None:
    """What was measured, with a margin wide enough for other processors: large 3x3 layers, and first layers."""
    for shape in (s for s in VGG16 if s.C >= 64):
        assert choose(operation, shape.problem()).name == "winograd", shape.name
    for shape in RESNET50:
        if shape.kernel == 1:
            assert choose(operation, shape.problem()).name in ("pointwise", "direct"), shape.name
            if shape.stride == 1:  # nothing is turned to another layout
                assert choose(operation, shape.problem("channels_first", "OIHW")).name == "pointwise", shape.name
    for shape in MOBILENET:
        assert choose(operation, shape.problem()).name == "depthwise", shape.name
    for shape in (*DOCUMENTED, *FIRST_LAYERS):
        p = shape.problem()
        assert choose(operation, p).name in [a.name for a in able(operation, p)]


def test_few_filters_of_few_channels() -> None:
    """Whole rows of the kernel in vectors where they fill them; pixels where they do not."""
    images = conv_problem(N=8, C=3, size=120, K=10, kernel=5)
    assert choose("conv_weight_gradient", images).name == "kernel_rows"
    assert choose("conv_weight_gradient", images._replace(C=1)).name != "kernel_rows"
    for problem, reason in (
        (images._replace(K=64), "at most .* filters in one group; received 64 in 1"),
        (images._replace(C=13), "rows of the kernel of at most 64 elements; received 5 x 13"),
        (images._replace(dilation=(1, 1, 2)), "neighbours in a row; received a dilation of 2"),
        (images._replace(size=(3, 9, 9), kernel=(2, 5, 5)), "images without depth; received the depth 3"),
    ):
        with pytest.raises(ValueError, match=reason):
            choose("conv_weight_gradient", problem, algorithm="kernel_rows")


def test_one_row_reads_the_weights_as_they_lie() -> None:
    for layout in ("HWIO", "OIHW"):
        row = conv_problem(N=1, C=4096, size=1, K=4096, kernel=1, weight_layout=layout)
        assert choose("conv_forward", row).name == "pointwise"
        assert choose("conv_forward", row._replace(C=512, K=512)).name == "pointwise"
        assert choose("conv_forward", row._replace(N=6)).name == ("direct" if layout == "HWIO" else "pointwise")


def test_groups_of_few_channels_share_vectors() -> None:
    """Up to where one group fills a vector."""
    for operation in CONVOLUTIONS:
        for channels in (2, 4):
            assert choose(operation, conv_problem(C=32, K=32, G=32 // channels, padding=1)).name == "grouped"
        assert choose(operation, conv_problem(C=24, K=24, G=8, padding=1)).name != "grouped"
    full = conv_problem(C=256, K=256, G=256 // lanes("float32"), padding=1)
    names = [choose(operation, full).name for operation in CONVOLUTIONS]
    assert "grouped" not in names[:2]
    assert names[2] == "grouped"


@pytest.mark.parametrize(
    ("C", "K", "G", "reason"),
    [
        (32, 32, 1, "groups, of more than one channel; received 32 and 32 channels in 1"),
        (8, 8, 8, "groups, of more than one channel; received 8 and 8 channels in 8"),
        (6, 8, 2, "groups of 1, 2, 4 .* channels; received 3 of the source and 4 of the target"),
    ],
)
def test_groups_that_do_not_share_vectors(C: int, K: int, G: int, reason: str) -> None:
    for operation in ("conv_forward", "conv_weight_gradient"):
        with pytest.raises(ValueError, match=reason):
            choose(operation, conv_problem(C=C, K=K, G=G), algorithm="grouped")
