"""The GPU: ``python -m bench.gpu`` runs its tests and prints every table of it, in less than eight minutes.

Convolutions stand beside cuDNN through PyTorch, in float32 with TF32 off on both sides, cuDNN's algorithm chosen by its
own measurement, PyTorch in the better of its two memory formats. Matrix products stand beside cuBLAS, what is bound by
memory beside a copy of as many bytes. Times are CUDA events around one call: sides take turns, medians count; the first
three calls of each do not. Arrays hold normally distributed numbers: on zeros a GPU draws less power and runs faster.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from bench.bandwidth import BATCH_NORMS, POOLINGS
from bench.shapes import FIRST_LAYERS, KINDS, RESNET50, SETS, VGG16, Shape
from bench.tables import Options, Table
from pycnn_kernels.cuda.device import CudaError, current_device
from pycnn_kernels.plan import Plan, plan_for
from pycnn_kernels.problem import ChannelsProblem, RowsProblem

Side = Callable[[], object]

#: Images at once: enough that every multiprocessor has work.
BATCH = 64

OPERATIONS = {
    "forward": "conv_forward",
    "input gradient": "conv_input_gradient",
    "weight gradient": "conv_weight_gradient",
}

SOFTMAX_ROWS = 1 << 14

TESTS_SECONDS = 240


class Timer:
    """CUDA events of CuPy's current stream."""

    def __init__(self, rounds: int = 15, unmeasured: int = 3) -> None:
        self.cuda = current_device().xp.cuda
        self.rounds, self.unmeasured = rounds, unmeasured

    def medians(self, sides: dict[str, Side]) -> dict[str, float]:
        """Median seconds of each side; they take turns."""
        for side in sides.values():
            for _ in range(self.unmeasured):
                side()
        times: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(self.rounds):
            for name, side in sides.items():
                times[name].append(self.seconds_of(side))
        return {name: float(np.median(values)) for name, values in times.items()}

    def seconds_of(self, side: Side) -> float:
        begin, end = self.cuda.Event(), self.cuda.Event()
        begin.record()
        side()
        end.record()
        end.synchronize()
        return self.cuda.get_elapsed_time(begin, end) / 1e3


def torch_of_the_gpu() -> Any:
    """PyTorch with CUDA, strict float32 and CuPy's stream; None where it is not there."""
    if importlib.util.find_spec("torch") is None:
        return None
    import torch

    if not torch.cuda.is_available():
        return None
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    return torch


def _normal(shape: tuple[int, ...], seed: int = 0) -> Any:
    """Normally distributed float32 on the GPU."""
    return current_device().xp.asarray(np.random.default_rng(seed).standard_normal(shape, np.float32))


def _plan(operation: str, problem: Any, algorithm: str = "auto") -> Plan:
    return plan_for(operation, problem, backend="cuda", algorithm=algorithm)


# --- Convolutions ---------------------------------------------------------------------------------------------------


def conv_sides(shape: Shape, torch: Any) -> Iterator[tuple[str, dict[str, Side], str, int]]:
    """For each operation: its name, its sides, our algorithm, and its floating-point operations."""
    problem = shape.problem()._replace(bias=False)
    x, w, dy = _normal(problem.x_shape, 1), _normal(problem.w_shape, 2), _normal(problem.y_shape, 3)
    theirs = {} if torch is None else _torch_conv_sides(shape, torch)
    for name, operation in OPERATIONS.items():
        plan = _plan(operation, problem)
        arrays = {"forward": (x, w), "input gradient": (dy, w), "weight gradient": (x, dy)}[name]
        sides: dict[str, Side] = {"ours": lambda plan=plan, arrays=arrays: plan.run(*arrays)}  # type: ignore[misc]
        yield name, sides | theirs.get(name, {}), plan.algorithm.name, 2 * problem.multiply_adds


def _torch_conv_sides(shape: Shape, torch: Any) -> dict[str, dict[str, Side]]:
    """cuDNN's three operations in both memory formats."""
    rank = shape.rank
    settings = {name: list(shape.axes(getattr(shape, name))) for name in ("stride", "padding", "dilation")}
    formats = {"first": torch.contiguous_format}
    if rank > 1:
        formats["last"] = torch.channels_last if rank == 2 else torch.channels_last_3d
    found: dict[str, dict[str, Side]] = {name: {} for name in OPERATIONS}
    masks = {"input gradient": [True, False, False], "weight gradient": [False, True, False]}
    for name, kind in formats.items():
        size, kernel = shape.axes(shape.size), shape.axes(shape.kernel)
        x = torch.randn(shape.N, shape.C, *size, device="cuda").to(memory_format=kind)
        w = torch.randn(shape.K, shape.C // shape.groups, *kernel, device="cuda").to(memory_format=kind)
        y = torch.conv2d if rank == 2 else (torch.conv1d if rank == 1 else torch.conv3d)
        both = settings | {"groups": shape.groups}
        dy = torch.randn_like(y(x, w, None, **both))
        found["forward"][name] = lambda y=y, x=x, w=w, both=both: y(x, w, None, **both)  # type: ignore[misc]
        for gradient, mask in masks.items():
            found[gradient][name] = lambda dy=dy, x=x, w=w, mask=mask: torch.ops.aten.convolution_backward(  # type: ignore[misc]
                dy, x, w, None, *settings.values(), False, [0] * rank, shape.groups, mask
            )
    return found


def layers(title: str, shapes: list[Shape], timer: Timer, torch: Any, options: Options) -> None:
    """Layers beside cuDNN: milliseconds, TFLOP/s and the ratio."""
    print(f"\n{title}, batch {BATCH}", flush=True)
    table = Table(options, "layer", "operation      ", "algorithm       ", "ms      ", "TFLOP/s", "x cuDNN")
    ratios = []
    for shape in shapes:
        for name, sides, algorithm, flops in conv_sides(shape._replace(N=BATCH), torch):
            times = timer.medians(sides)
            ours = times.pop("ours")
            ratio = min(times.values()) / ours if times else math.nan
            ratios.append(ratio)
            cells = (f"{ours * 1e3:.3f}", f"{flops / ours / 1e12:.2f}", _ratio(ratio))
            table.row(shape.name, name, algorithm, *cells)
    known = [ratio for ratio in ratios if not math.isnan(ratio)]
    if known:
        table.row("geometric mean, least", "", "", "", "", f"{_geometric_mean(known):.2f}, {min(known):.2f}")


def _geometric_mean(ratios: list[float]) -> float:
    return math.exp(sum(map(math.log, ratios)) / len(ratios))


def _ratio(ratio: float) -> str:
    return "" if math.isnan(ratio) else f"{ratio:.2f}"


def gemm(timer: Timer, torch: Any, options: Options, sizes: tuple[int, ...] = (1024, 2048, 4096, 8192)) -> None:
    """The core of matrix products, as a 1x1 convolution of single pixels, beside cuBLAS through PyTorch."""
    print("\nmatrix products in float32", flush=True)
    table = Table(options, "size", "ours TFLOP/s", "cuBLAS TFLOP/s", "share of cuBLAS", first=8)
    for size in sizes:
        shape = Shape("product", size, size, 1, size, 1)
        a, b = _normal((size, 1, 1, size), 1), _normal((1, 1, size, size), 2)
        plan = _plan("conv_forward", shape.problem()._replace(bias=False))
        sides: dict[str, Side] = {"ours": lambda plan=plan, a=a, b=b: plan.run(a, b)}  # type: ignore[misc]
        if torch is not None:
            left, right = (torch.randn(size, size, device="cuda") for _ in range(2))
            sides["cublas"] = lambda left=left, right=right: left @ right  # type: ignore[misc]
        rates = {name: 2 * size**3 / seconds / 1e12 for name, seconds in timer.medians(sides).items()}
        theirs = (f"{rates['cublas']:.1f}", f"{rates['ours'] / rates['cublas']:.0%}") if torch is not None else ("", "")
        table.row(size, f"{rates['ours']:.1f}", *theirs)


# --- Bound by memory ------------------------------------------------------------------------------------------------


def memory_sides() -> Iterator[tuple[str, Side, int]]:
    """Poolings, normalisations, softmax and optimizer steps, with the bytes that each must move."""
    for layer in POOLINGS:
        p = layer._replace(N=max(layer.N, BATCH)).problem()
        name = "max_pool" if p.kind == "max" else "average_pool"
        x, dy = _normal(p.x_shape, 1), _normal(p.y_shape, 2)
        forward, backward = _plan(name, p), _plan(f"{name}_gradient", p)
        index: tuple[Any, ...] = ()
        more: dict[str, Any] = {}
        if p.kind == "max":
            index, more = (forward.run(x, scalars=(0,))[1],), {"scalars": (0,)}
        size = x.nbytes + dy.nbytes + sum(each.nbytes for each in index)
        yield layer.name, lambda f=forward, x=x, more=more: f.run(x, **more), size  # type: ignore[misc]
        yield f"{layer.name}, gradient", lambda b=backward, dy=dy, i=index: b.run(dy, *i), size  # type: ignore[misc]
    for norm in BATCH_NORMS:
        q = ChannelsProblem("float32", max(norm.N, BATCH) * norm.size**2, norm.C)
        x, dy = _normal(q.shape, 1), _normal(q.shape, 2)
        forward, backward = _plan("batch_norm", q), _plan("batch_norm_gradient", q)
        _, mean, rstd = forward.run(x, updated=(None, None), scalars=(0, 1, 0.1, 1e-5))
        statistics = {"updated": (None, None), "scalars": (0, 1, 0.1, 1e-5)}
        yield norm.name, lambda f=forward, x=x, s=statistics: f.run(x, **s), 3 * x.nbytes  # type: ignore[misc]
        arrays = (dy, x, None, None, mean, rstd)
        yield (
            f"{norm.name}, gradient",
            lambda b=backward, arrays=arrays: b.run(*arrays, skip=("db",), scalars=(1, 0)),  # type: ignore[misc]
            5 * x.nbytes,
        )
    rows = RowsProblem("float32", SOFTMAX_ROWS, 1000)
    x = _normal((rows.rows, rows.columns))
    yield f"softmax of {rows.rows} x 1000", lambda: _plan("softmax", rows).run(x), 2 * x.nbytes


def bandwidth(timer: Timer, options: Options) -> None:
    """What is bound by memory beside a copy of half as many bytes, which reads and writes as many."""
    print(f"\nbound by memory, batch {BATCH} or more", flush=True)
    table = Table(options, "operation", "ms      ", "GB/s  ", "share of a copy")
    xp = current_device().xp
    for name, side, moved in memory_sides():
        source, target = xp.zeros(moved // 2, np.uint8), xp.empty(moved // 2, np.uint8)

        def copy(source: Any = source, target: Any = target) -> None:
            target[...] = source

        times = timer.medians({"ours": side, "copy": copy})
        ours = times["ours"]
        table.row(name, f"{ours * 1e3:.3f}", f"{moved / ours / 1e9:.0f}", f"{times['copy'] / ours:.0%}")


# --- The host -------------------------------------------------------------------------------------------------------


def launches(options: Options, calls: int = 2000) -> None:
    """What a call costs the host, and a kernel's first call with an empty and with a warm cache."""
    print("\nthe host", flush=True)
    table = Table(options, "what", "microseconds")
    rows = RowsProblem("float32", 1, 32)
    x, plan = _normal((1, 32)), _plan("softmax", rows)
    y = plan.run(x)[0]
    device = current_device()
    addresses = device.address(x), device.address(y)
    sides: dict[str, Side] = {
        "a launch": lambda: plan._prepared.run(*addresses),
        "a plan's run, with its result's memory": lambda: plan.run(x),
    }
    for name, side in sides.items():
        side()
        device.synchronize()
        begin = time.perf_counter()
        for _ in range(calls):
            side()
        table.row(name, f"{(time.perf_counter() - begin) / calls * 1e6:.2f}")
        device.synchronize()
    with tempfile.TemporaryDirectory() as folder:
        for name in ("first call, empty cache", "first call, warm cache"):
            table.row(name, f"{_first_call(folder) * 1e6:.0f}")


_FIRST_CALL = """
import time
import numpy as np
from pycnn_kernels.cuda.device import current_device
from pycnn_kernels.plan import plan_for
from pycnn_kernels.problem import RowsProblem
x = current_device().xp.zeros((2, 2000), np.float32)
plan_for("softmax", RowsProblem("float64", 1, 1), backend="cuda")  # imports
plan = plan_for("softmax", RowsProblem("float32", 2, 2000), backend="cuda")
current_device().synchronize()
begin = time.perf_counter()
plan.run(x)
current_device().synchronize()
print(time.perf_counter() - begin)
"""


def _first_call(cache: str) -> float:
    """Seconds of the first run of a plan in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", _FIRST_CALL], env=os.environ | {"PYCNN_CACHE_DIR": cache}, capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    return float(done.stdout)


# --- The command ----------------------------------------------------------------------------------------------------


def tests() -> int:
    """The tests of the GPU; pytest's exit status."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "tests/cuda", "-p", "no:cacheprovider"]
    try:
        return subprocess.run(command, env=os.environ | {"PYCNN_TEST_GPU": "1"}, timeout=TESTS_SECONDS).returncode
    except subprocess.TimeoutExpired:
        print(f"the tests took more than {TESTS_SECONDS} seconds")
        return 1


def tables_of(torch: Any, options: Options, rounds: int) -> dict[str, Callable[[], None]]:
    """What the command prints, by name."""
    timer = Timer(rounds)
    sets = {
        "documented": SETS["documented"],
        "first": FIRST_LAYERS,
        "vgg16": VGG16,
        "resnet50": RESNET50,
        "depthwise": KINDS["depthwise"],
    }
    found: dict[str, Callable[[], None]] = {
        name: lambda name=name, shapes=shapes: layers(name, shapes, timer, torch, options)  # type: ignore[misc]
        for name, shapes in sets.items()
    }
    found["gemm"] = lambda: gemm(timer, torch, options)
    found["bandwidth"] = lambda: bandwidth(timer, options)
    found["launches"] = lambda: launches(options)
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description=__doc__.split("\n")[0])
    names = ["documented", "first", "vgg16", "resnet50", "depthwise", "gemm", "bandwidth", "launches", "tests"]
    parser.add_argument("tables", nargs="*", choices=[*names, []], help=f"which: {', '.join(names)} (default: all)")
    parser.add_argument("--rounds", type=int, default=15, help="calls of each side that count (default: 15)")
    parser.add_argument("--markdown", action="store_true", help="write tables in Markdown")
    return parser


def main(argv: list[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    try:
        device = current_device()
    except CudaError as error:
        print(f"bench.gpu: error: {error}", file=sys.stderr)
        return 2
    torch = torch_of_the_gpu()
    beside = "PyTorch with CUDA is not installed: nothing stands beside the layers"
    if torch is not None:
        beside = f"PyTorch {torch.__version__}, cuDNN {torch.backends.cudnn.version()}, TF32 off"
    print(f"{device.name}, {device.architecture}, {device.processors} multiprocessors; {beside}")
    options = Options(markdown=arguments.markdown)
    status = 0
    if not arguments.tables or "tests" in arguments.tables:
        status = tests()
    for name, table in tables_of(torch, options, arguments.rounds).items():
        if not arguments.tables or name in arguments.tables:
            table()
    return status


if __name__ == "__main__":
    raise SystemExit(main())
