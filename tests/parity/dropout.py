"""Calls of the dropouts: both libraries draw masks of their own, so what they drop is not compared."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from pycnn_kernels.problem import is_floating
from tests.parity.call import Call, Case, arrays, seldom, shapes


@st.composite
def _calls(draw: st.DrawFn) -> Call:
    """Nearly any call whose result is the same for every mask, and others."""
    shape = draw(st.sampled_from([shapes(most=6, side=3), shapes(2, 5, 3), shapes(2, 3, 3), shapes(3, 3, 3)]))
    x = draw(arrays(shape))
    if seldom(draw, 5):
        x = x.astype(draw(st.sampled_from([np.int64, np.uint8])))
    p = draw(st.sampled_from([0, 0.0, 0, 0.0, 1, 1.0, 1, 1.0, 0.5, 0.5, -0.1, 1.5, "half"]))
    training = draw(st.sampled_from([(), (False,), (False,), (True,)]))
    return Call((x, p, *training)) if draw(st.booleans()) or not training else Call((x, p), {"training": training[0]})


def _case(training: bool) -> Case:
    def differs(call: Call) -> str | None:
        x, p = call.arguments[0], call.arguments[1] if len(call.arguments) > 1 else 0.5
        trains: Any = call.arguments[2] if len(call.arguments) > 2 else call.keywords.get("training", training)
        if trains and p == 0.5 and is_floating(x.dtype) and x.size and x.ndim >= 2:
            return "both draw numbers of their own"
        if x.ndim < 2 and trains and p == 0.5:
            return "both draw numbers of their own where they draw"
        return None

    return Case(_calls(), differs=differs)


CASES = {
    "dropout": _case(training=True),
    "dropout1d": _case(training=True),
    "dropout2d": _case(training=True),
    "dropout3d": _case(training=True),
    "alpha_dropout": _case(training=False),
    "feature_alpha_dropout": _case(training=False),
}
