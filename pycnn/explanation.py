"""Which algorithm computes an operation, and why not another one."""

from __future__ import annotations

from typing import Any

from pycnn.console import table_lines
from pycnn.functional.arguments import one_of
from pycnn.functional.conv import linear_part, problem_of
from pycnn_kernels import plan
from pycnn_kernels.plan import Verdict
from pycnn_kernels.problem import STORAGE_DTYPES, ConvProblem

OPERATIONS = {
    "forward": "conv_forward",
    "input gradient": "conv_input_gradient",
    "weight gradient": "conv_weight_gradient",
}

HEADER = ("operation", "algorithm", "chosen", "why not, or what it is", "workspace")


class Explanation:
    """The verdicts on all algorithms for one call; prints as a table.

    Attributes:
        problem: what the call describes.
        verdicts: for "forward", "input gradient" and "weight gradient" the algorithms in the order they are asked.
    """

    def __init__(self, problem: ConvProblem):
        self.problem = problem
        bare = linear_part(problem)
        self.verdicts: dict[str, list[Verdict]] = {
            name: plan.explain(operation, problem if name == "forward" else bare)
            for name, operation in OPERATIONS.items()
        }

    def chosen(self, operation: str = "forward") -> str:
        """The name of the algorithm that an operation gets."""
        one_of("operation", operation, tuple(OPERATIONS))
        return next(verdict.name for verdict in self.verdicts[operation] if verdict.chosen)

    @property
    def title(self) -> str:
        p = self.problem
        widened = " (widened to float32)" if p.dtype in STORAGE_DTYPES else ""
        return (
            f"input {p.x_shape}, weight {p.w_shape}, {p.layout}, {p.dtype}{widened}: "
            f"{p.multiply_adds / 1e6:,.1f} million multiply-adds"
        )

    @property
    def rows(self) -> list[tuple[str, ...]]:
        """The cells of the table below HEADER."""
        return [
            (operation, v.name, "yes" if v.chosen else "no", v.reason or v.summary, _size(v.workspace_bytes))
            for operation, verdicts in self.verdicts.items()
            for v in verdicts
        ]

    def __repr__(self) -> str:
        return "\n".join([self.title, *table_lines(HEADER, self.rows)])


def _size(size: int | None) -> str:
    return "" if size is None else f"{size / 1024:,.0f} KB"


def explain(
    operation: str,
    input: tuple[int, ...],
    weight: tuple[int, ...],
    bias: bool = False,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    *,
    data_format: str = "channels_first",
    weight_format: str = "OIHW",
    activation: str | None = None,
    dtype: str = "float32",
) -> Explanation:
    """Say which algorithm a call of an operation gets, and what keeps the others from it.

    Args:
        operation: "conv2d".
        input, weight: the shapes of the arrays.
        bias: whether there is one.
        stride, padding, dilation, groups, data_format, weight_format, activation: as in the operation.
        dtype: "float32", "float64", "float16" or "bfloat16". The last two are widened to float32, whose algorithms
            they get; the workspace is then with the widened arrays.

    Raises:
        ValueError: no such operation or dtype; and whatever the operation itself would say to the arguments.
        TypeError: shapes that are not tuples of integers.

    >>> explain("conv2d", (1, 64, 56, 56), (64, 64, 3, 3), padding=1).chosen()
    'winograd'
    >>> explain("conv2d", (1, 64, 56, 56), (64, 64, 1, 1)).chosen("weight gradient")
    'direct'
    """
    one_of("operation", operation, ("conv2d",))
    one_of("dtype", dtype, ("float32", "float64", *STORAGE_DTYPES))
    x_shape, w_shape = _shape("input", input), _shape("weight", weight)
    K = w_shape[0 if weight_format == "OIHW" else -1]
    return Explanation(
        problem_of(
            dtype, x_shape, w_shape, (K,) if bias else None, stride, padding, dilation, groups,
            data_format, weight_format, activation,
        )
    )  # fmt: skip


def _shape(name: str, value: Any) -> tuple[int, ...]:
    if not isinstance(value, tuple | list) or not value or not all(type(size) is int and size >= 0 for size in value):
        raise TypeError(f"{name} must be a shape, a tuple of integers of at least 0; received {value!r}")
    return tuple(value)
