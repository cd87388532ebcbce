"""Calls of activations."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.parity.call import Call, Case, arrays, shapes

CASES = {
    "relu": Case(st.builds(lambda x: Call((x,)), arrays(shapes()))),
}
