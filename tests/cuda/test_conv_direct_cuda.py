"""Direct convolution on the GPU against the oracle."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from pycnn_kernels.cuda import conv_direct, parts
from pycnn_kernels.cuda.conv_direct import gather_kernel, pack_kernel, weight_gradient_kernel
from pycnn_kernels.cuda.parts import merge_kernel
from pycnn_kernels.plan import plan_for
from tests import reference as oracle
from tests.cuda.sass import ARCHITECTURES, count, sass, spills
from tests.kernels.problems import LAYOUTS, WEIGHT_LAYOUTS, check_conv, conv_arrays, conv_problem, run_on_host

FORMS = [dict(zip(("layout", "weight_layout"), form)) for form in itertools.product(LAYOUTS, WEIGHT_LAYOUTS)]


@pytest.fixture(params=FORMS, ids=lambda form: "-".join(form.values()))
def form(request: pytest.FixtureRequest) -> dict[str, str]:
    """The layouts of a problem."""
    return request.param


#: Strides, paddings on any side, dilations, groups, each rank; kernels larger than images.
GEOMETRIES: dict[str, dict[str, Any]] = {
    "padded": {"C": 3, "K": 2, "size": (4, 5), "kernel": 3, "padding": 1},
    "strided": {"C": 2, "K": 5, "size": (5, 6), "kernel": (3, 2), "stride": (2, 3), "padding": ((0, 1), (2, 0))},
    "dilated": {"C": 2, "K": 3, "size": (6, 5), "kernel": (2, 3), "dilation": (3, 2), "stride": (1, 2), "padding": 2},
    "grouped": {"C": 6, "K": 9, "G": 3, "size": 4, "kernel": 2, "stride": 2, "padding": ((1, 0), (0, 1))},
    "depthwise": {"C": 5, "K": 10, "G": 5, "size": (4, 5), "kernel": 3, "padding": 1},
    "signal": {"C": 4, "K": 3, "size": 11, "kernel": 4, "stride": 2, "padding": ((3, 1),), "rank": 1},
    "volume": {"C": 2, "K": 3, "size": (3, 2, 4), "kernel": (2, 1, 3), "stride": (2, 1, 1), "padding": 1, "rank": 3},
    "small": {"C": 1, "K": 1, "size": 2, "kernel": 5, "padding": 3, "N": 1},
}


@pytest.mark.parametrize("name", GEOMETRIES)
def test_geometries(device: Any, name: str, form: dict[str, str]) -> None:
    check_conv(conv_problem(**{"N": 2, **GEOMETRIES[name]}, **form), backend="cuda")


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_continued_padding(device: Any, mode: str) -> None:
    """The input gradient sums what all positions show of a pixel."""
    for layout, stride in (("channels_last", 1), ("channels_first", 2)):
        check_conv(
            conv_problem(
                N=1, C=2, K=3, size=(4, 5), kernel=(3, 2), stride=stride, padding=((2, 3), (1, 2)),
                padding_mode=mode, layout=layout,
            ),  # fmt: skip
            backend="cuda",
        )
