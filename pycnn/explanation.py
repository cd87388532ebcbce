"""Which algorithm computes an operation, and why not another one."""

from __future__ import annotations

from typing import Any

from pycnn import backend as backends
from pycnn.console import table_lines
from pycnn.functional.arguments import one_of
from pycnn.functional.conv_arguments import WEIGHT_FORMATS, problem_of
from pycnn_kernels import plan
from pycnn_kernels.choice import Verdict
from pycnn_kernels.cpu.cost import gflops as assumed_gflops
from pycnn_kernels.cpu.cost import milliseconds
from pycnn_kernels.cpu.launch import get_num_threads
from pycnn_kernels.cuda.device import current_device
from pycnn_kernels.problem import STORAGE_DTYPES, ConvProblem, computed

#: The operations that can be explained, and the spatial axes that each one has.
RANKS = {"conv1d": 1, "conv2d": 2, "conv3d": 3}
DTYPES = ("float32", "float64", *STORAGE_DTYPES)

OPERATIONS = {
    "forward": "conv_forward",
    "input gradient": "conv_input_gradient",
    "weight gradient": "conv_weight_gradient",
}

_HEADER = ("operation", "algorithm", "chosen", "why not, or what it is", "workspace", "peak", "expected")


class Explanation:
    """The verdicts on all algorithms for one call; prints as a table.

    Attributes:
        problem: what the call describes.
        verdicts: for "forward", "input gradient" and "weight gradient", or the one that was asked for, the algorithms
            in the order they are asked.
        gflops: the rate of one core, in billions of operations a second, that expected times assume.
    """

    def __init__(
        self,
        problem: ConvProblem,
        algorithm: str = "auto",
        workspace_limit: int | None = None,
        gflops: float | None = None,
        only: str | None = None,
        backend: str = "cpu",
    ):
        self.problem, self.workspace_limit = problem, workspace_limit
        self.backend = backends.get(backend).name
        self.gflops = assumed_gflops(computed(problem).dtype) if gflops is None else gflops
        #: How many threads were measured, None where nothing was.
        self.threads = get_num_threads() if algorithm == "autotune" else None
        bare = problem.linear
        choice: dict[str, Any] = {
            "backend": self.backend, "algorithm": algorithm, "workspace_limit": workspace_limit
        }  # fmt: skip
        self.verdicts: dict[str, list[Verdict]] = {
            name: plan.explain(operation, problem if name == "forward" else bare, **choice)
            for name, operation in OPERATIONS.items()
            if only in (None, name)
        }

    def chosen(self, operation: str = "forward") -> str:
        """The name of the algorithm that an operation gets."""
        one_of("operation", operation, tuple(self.verdicts))
        return next(verdict.name for verdict in self.verdicts[operation] if verdict.chosen)

    def peak_bytes(self, operation: str = "forward") -> int:
        """The most memory that an operation takes beside its inputs: its result, its workspace and widened copies."""
        one_of("operation", operation, tuple(self.verdicts))
        return next(v.peak_bytes for v in self.verdicts[operation] if v.chosen and v.peak_bytes is not None)

    def expected_ms(self, verdict: Verdict) -> float | None:
        """The expected milliseconds on one core of :attr:`gflops`."""
        return None if verdict.cost is None else milliseconds(verdict.cost, computed(self.problem).dtype, self.gflops)

    @property
    def title(self) -> str:
        """What is explained, and under which conditions."""
        p = self.problem
        widened = " (widened to float32)" if p.dtype in STORAGE_DTYPES else ""
        conditions = [f"expected: on one core at {self.gflops:g} GFLOP/s"]
        if self.backend == "cuda":
            conditions = [f"on {current_device().name}"]
        elif self.threads is not None:
            conditions.append(f"measured: on {self.threads} thread{'s' * (self.threads > 1)}")
        if self.workspace_limit is not None:
            conditions.append(f"workspace: at most {self.workspace_limit:,} bytes")
        return (
            f"input {p.x_shape}, weight {p.w_shape}, {p.layout}, {p.dtype}{widened}: "
            f"{p.multiply_adds / 1e6:,.1f} million multiply-adds\n{'; '.join(conditions)}"
        )

    @property
    def header(self) -> tuple[str, ...]:
        return _HEADER if self.threads is None else (*_HEADER, "measured")

    @property
    def rows(self) -> list[tuple[str, ...]]:
        """The cells of the table below the header."""
        found: list[tuple[str, ...]] = []
        for operation, verdicts in self.verdicts.items():
            for v in verdicts:
                row = (
                    operation, v.name, "yes" if v.chosen else "no", v.reason or v.summary,
                    _size(v.workspace_bytes), _size(v.peak_bytes), _time(self.expected_ms(v)),
                )  # fmt: skip
                found.append(row if self.threads is None else (*row, _measured(v)))
        return found

    def to_dict(self) -> dict[str, Any]:
        """Everything in numbers and strings, ready for ``json.dumps``."""
        return {
            "problem": self.problem._asdict(),
            "backend": self.backend,
            "multiply_adds": self.problem.multiply_adds,
            "workspace_limit": self.workspace_limit,
            "gflops": self.gflops,
            "threads": self.threads,
            "operations": {
                operation: [
                    {
                        "algorithm": v.name,
                        "chosen": v.chosen,
                        "reason": v.reason,
                        "summary": v.summary,
                        "workspace_bytes": v.workspace_bytes,
                        "peak_bytes": v.peak_bytes,
                        "expected_ms": self.expected_ms(v),
                        "measured_ms": None if v.seconds is None else v.seconds * 1e3,
                        "runs": v.runs,
                    }
                    for v in verdicts
                ]
                for operation, verdicts in self.verdicts.items()
            },
        }

    def __repr__(self) -> str:
        return "\n".join([self.title, *table_lines(self.header, self.rows)])


def _size(size: int | None) -> str:
    return "" if size is None else f"{size / 1024:,.0f} KiB"


def _time(ms: float | None) -> str:
    """Three digits of milliseconds: what is expected is no more certain than that."""
    return "" if ms is None else f"{ms:#.3g} ms" if ms < 100 else f"{ms:,.0f} ms"


def _measured(v: Verdict) -> str:
    return "" if v.seconds is None else f"{_time(v.seconds * 1e3)} (runs: {v.runs})"


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
    weight_format: str | None = None,
    activation: str | None = None,
    padding_mode: str = "zeros",
    scale: bool = False,
    residual: bool = False,
    dtype: str = "float32",
    algorithm: str = "auto",
    workspace_limit: int | None = None,
    gflops: float | None = None,
    only: str | None = None,
    backend: str = "cpu",
) -> Explanation:
    """Say which algorithm a call of an operation and its gradients get, and what keeps the others from it.

    Beside the reasons it has the workspace that each algorithm takes, the peak of its memory (the result and the
    workspace, beside the inputs) and the time that it is expected to take on one core. Expected times come from a model
    (``pycnn_kernels/cpu/cost.py``) of a core that multiplies and adds two vectors a cycle at 3.75 GHz; nothing is
    measured but for "autotune".

    Args:
        operation: "conv1d", "conv2d" or "conv3d".
        input, weight: the shapes of the arrays.
        bias, scale, residual: whether there is one.
        stride, padding, dilation, groups, data_format, activation, padding_mode: as in the operation.
        weight_format: as in the operation; None for PyTorch's order, "OIHW" in two dimensions.
        dtype: "float32", "float64", "float16" or "bfloat16". The last two are widened to float32, whose algorithms
            they get; the workspace is then with the widened arrays.
        algorithm, workspace_limit: as in the operation. With "autotune" the algorithms are timed, once for each
            problem, on arrays of their own: a second at most for each of forward, input gradient and weight gradient.
        gflops: the rate of one core to expect times for, in billions of multiplications and additions a second.
        only: "forward", "input gradient" or "weight gradient" to leave the others out; None for all three.
        backend: "cpu" or "cuda"; there are no expected times for a GPU.

    Raises:
        ValueError: no such operation, dtype or algorithm; a limit that no algorithm keeps to; and whatever the
            operation itself would say to the arguments.
        TypeError: shapes that are not tuples of integers, a limit or a rate that is no number.
        BackendError: "cuda", and a package, the driver or a GPU is missing.

    >>> explain("conv2d", (1, 64, 56, 56), (64, 64, 3, 3), padding=1).chosen()
    'winograd'
    >>> explain("conv2d", (1, 64, 56, 56), (64, 64, 1, 1)).chosen("weight gradient")
    'pointwise'
    >>> explain("conv2d", (1, 64, 56, 56), (64, 64, 3, 3), workspace_limit=2_000_000, only="forward").chosen()
    'direct'
    >>> explain("conv1d", (1, 64, 8), (3, 8, 16), data_format="channels_last", weight_format="WIO").peak_bytes()
    3968
    """
    rank = RANKS[one_of("operation", operation, tuple(RANKS))]
    one_of("dtype", dtype, DTYPES)
    one_of("only", only, (None, *OPERATIONS))
    if gflops is not None and (isinstance(gflops, bool) or not isinstance(gflops, int | float)):
        raise TypeError(f"gflops must be None or a number; received {gflops!r}")
    if gflops is not None and not 0 < gflops < float("inf"):
        raise ValueError(f"gflops must be positive; received {gflops!r}")
    x_shape, w_shape = _shape("input", input), _shape("weight", weight)
    order = WEIGHT_FORMATS[rank][0] if weight_format is None else weight_format
    K = w_shape[0 if order == WEIGHT_FORMATS[rank][0] else -1]
    problem = problem_of(
        dtype, x_shape, w_shape, (K,) if bias else None, stride, padding, dilation, groups, data_format, order,
        activation, padding_mode, rank=rank,
    )  # fmt: skip
    return Explanation(
        problem._replace(scale=scale, residual=residual), algorithm, workspace_limit, gflops, only, backend
    )


def _shape(name: str, value: Any) -> tuple[int, ...]:
    if not isinstance(value, tuple | list) or not value or not all(type(size) is int and size >= 0 for size in value):
        raise TypeError(f"{name} must be a shape, a tuple of integers of at least 0; received {value!r}")
    return tuple(value)
