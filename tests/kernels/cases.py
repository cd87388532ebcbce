"""One list of small runs of every operation, and a way to run them on arrays that lie where a test wants them."""

from __future__ import annotations

import contextlib
import itertools
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from pycnn_kernels.cpu.batch_norm_pool import gradient_supports
from pycnn_kernels.cpu.loss import BLOCK, PIECE
from pycnn_kernels.cpu.workspace import workspace
from pycnn_kernels.operations import specs
from pycnn_kernels.plan import Plan, plan_for
from pycnn_kernels.problem import (
    CastProblem,
    ChannelsProblem,
    FractionalPoolProblem,
    LossProblem,
    PlanesProblem,
    PoolProblem,
    RowsProblem,
    UpdatesProblem,
)
from pycnn_kernels.updates import RULES
from tests.kernels.problems import (
    DTYPES,
    HALVES,
    LAYOUTS,
    ON_THE_WIDEST,
    WEIGHT_LAYOUTS,
    bands_of,
    by_every_algorithm,
    conv_arrays,
    conv_pool_arrays,
    conv_pool_gradient_arrays,
    conv_pool_problem,
    conv_problem,
    numbers,
    pool_problem,
    uniform,
)
from tests.kernels.update_rules import NUMBERS, state_like


class Case(NamedTuple):
    """A plan with everything that a run of it takes."""

    plan: Plan
    arrays: dict[str, np.ndarray]
    scalars: tuple[float, ...] = ()

    def run(self) -> list[np.ndarray]:
        """The arrays that were updated, then the outputs, of an ordinary run."""
        updated = [self.arrays[spec.name].copy() for spec in self.plan.updated]
        inputs = [self.arrays.get(spec.name) for spec in self.plan.inputs]
        return [*updated, *self.plan.run(*inputs, updated=tuple(updated), scalars=self.scalars)]

    def run_placed(self, place: Callable[[np.ndarray], np.ndarray], scratch: Callable[[int], int]) -> list[np.ndarray]:
        """The same on copies of all arrays that ``place`` makes, with workspaces at addresses that ``scratch`` gives.

        ``plan.run`` allocates its outputs itself, so the prepared algorithm beneath it is given addresses here.
        """
        inputs = [place(self.arrays[spec.name]) if spec.name in self.arrays else None for spec in self.plan.inputs]
        updated = [place(self.arrays[spec.name]) for spec in self.plan.updated]
        outputs = [place(np.zeros(spec.shape, spec.dtype)) for spec in self.plan.outputs]
        with workspaces_from(scratch):
            self.plan._prepared.run(
                *(0 if a is None else a.ctypes.data for a in inputs + updated + outputs), *self.scalars
            )
        return updated + outputs


@contextlib.contextmanager
def workspaces_from(scratch: Callable[[int], int]) -> Iterator[None]:
    """Inside this block the kernels' workspaces come from another function."""
    kernels = [module for name, module in sys.modules.items() if name.startswith("pycnn_kernels.cpu.")]
    users: list[Any] = [module for module in kernels if getattr(module, "workspace", None) is workspace]
    for module in users:
        module.workspace = scratch
    try:
        yield
    finally:
        for module in users:
            module.workspace = workspace


# Tails of vectors, odd images, padding on any side, steps, groups; few channels and many.
CONVOLUTIONS: list[dict[str, Any]] = [
    {"C": 3, "K": 17, "size": (7, 5), "kernel": 3, "padding": 1, "activation": "relu"},
    {"C": 17, "K": 33, "size": (5, 9), "kernel": (3, 2), "stride": 2, "padding": ((0, 1), (2, 0))},
    {"C": 33, "K": 3, "size": (6, 7), "kernel": 2, "dilation": 2},
    {"C": 5, "K": 10, "size": (9, 6), "kernel": (3, 2), "padding": ((1, 0), (0, 1)), "bias": True},
    {"C": 34, "K": 66, "size": 5, "kernel": 3, "G": 2, "stride": (1, 3), "padding": 1},
    {"C": 17, "K": 17, "size": (9, 4), "kernel": 3, "G": 17, "padding": ((1, 0), (0, 1))},
    {"C": 36, "K": 36, "size": (5, 9), "kernel": 3, "G": 9, "padding": ((1, 0), (0, 1))},
    {"C": 10, "K": 20, "size": (4, 5), "kernel": (3, 2), "G": 10, "stride": 2, "padding": 1},
    {"C": 24, "K": 48, "size": (4, 8), "kernel": 2, "G": 6},
    {"C": 64, "K": 32, "size": 4, "kernel": 1, "N": 1},
    {"C": 4, "K": 19, "size": (5, 6), "kernel": 3, "scale": True, "residual": True, "activation": "tanh"},
    {"C": 3, "K": 5, "size": 7, "kernel": 3, "scale": True, "activation": "sigmoid"},
    {"C": 5, "K": 18, "size": (5, 4), "kernel": 3, "padding": ((1, 2), (3, 0)), "padding_mode": "reflect"},
    {"C": 18, "K": 18, "size": (3, 4), "kernel": (3, 2), "G": 18, "padding": 2, "padding_mode": "circular"},
    {"C": 1, "K": 1, "size": 1, "kernel": 1, "N": 1},
    {"C": 139, "K": 37, "size": 1, "kernel": 1, "N": 1},
    {"C": 37, "K": 70, "size": (1, 2), "kernel": 1, "N": 3, "scale": True, "residual": True, "activation": "relu"},
    {"C": 70, "K": 33, "size": (5, 9), "kernel": 1, "stride": 2},
    {"C": 17, "K": 70, "size": (8, 4), "kernel": 1, "scale": True, "residual": True, "activation": "tanh"},
    {"C": 33, "K": 17, "size": (13, 11), "kernel": 5, "stride": 3, "padding": 2, "N": 3},
    {"C": 17, "K": 34, "size": (7, 25), "kernel": (6, 4), "padding": ((3, 2), (0, 4))},
    {"C": 18, "K": 18, "size": (26, 5), "kernel": (11, 4), "G": 18, "padding": ((5, 0), (1, 2))},
    {"C": 17, "K": 20, "size": (3, 5, 6), "kernel": 3, "padding": 1, "rank": 3},
    {"C": 130, "K": 20, "size": 9, "kernel": 3, "padding": 3, "rank": 1},
]
if ON_THE_WIDEST:
    # Winograd's schemes of 5 and 7 taps: those of 2 and 3 show for each width of vectors that tiles end where they do.
    CONVOLUTIONS += [
        {"C": 17, "K": 34, "size": (7, 9), "kernel": (6, 5), "padding": ((3, 2), (0, 4))},
        {"C": 17, "K": 35, "size": (6, 7), "kernel": (3, 5), "padding": ((1, 0), (2, 2))},
        {"C": 130, "K": 20, "size": 9, "kernel": 7, "padding": 3, "rank": 1},
    ]
POOLS: list[dict[str, Any]] = [
    {"C": 17, "size": (7, 5), "kernel": 3, "stride": 2, "padding": 1},
    {"C": 1, "size": (9, 6), "kernel": (2, 3), "stride": 2, "ceil_mode": True},
    {"C": 33, "size": 5, "kernel": 2, "stride": 3, "padding": ((0, 1), (1, 0)), "ceil_mode": True},
]
# A kind is a kernel of its own for each window. Beside the widest vectors, others meet each number of channels in one.
POOLS_OF_EACH_KIND = POOLS if ON_THE_WIDEST else [POOLS[0] | {"C": pool["C"]} for pool in POOLS]


def forms(*choices: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    return (dict(zip(("dtype", "layout", "weight_layout"), form)) for form in itertools.product(*choices))


def convolutions() -> Iterator[Case]:
    for convolution, form in itertools.product(CONVOLUTIONS, forms(DTYPES, LAYOUTS, WEIGHT_LAYOUTS)):
        p = conv_problem(**convolution, **form)
        arrays = conv_arrays(p)
        linear = p._replace(activation=None, scale=False, residual=False)
        operations = {
            "conv_forward": p._replace(bias=True),
            "conv_input_gradient": linear,
            "conv_weight_gradient": linear,
        }
        for operation, problem in operations.items():
            for _, plan in by_every_algorithm(operation, problem):
                yield Case(plan, arrays)


def pools() -> Iterator[Case]:
    for pool, form in itertools.product(POOLS, forms(DTYPES, LAYOUTS)):
        yield from pooled(pool_problem(**pool, **form), ["max_pool", "max_pool_gradient"])
    for pool, form in itertools.product(POOLS_OF_EACH_KIND, forms(DTYPES, LAYOUTS)):
        p = pool_problem(**pool, **form)
        yield from pooled(p, ["average_pool", "average_pool_gradient", "norm_pool", "stochastic_pool"])
        names = ("weight", "bias", "mean", "rstd", "running_mean", "running_var")
        arrays = pool_arrays(p)
        arrays |= {name: np.abs(numbers((p.C,), p.dtype, seed)) for seed, name in enumerate(names)}
        yield Case(plan_for("batch_norm_max_pool", p), arrays, scalars=(1, 0.1, 1e-5))
        if gradient_supports(p) is None:
            yield Case(plan_for("batch_norm_max_pool_gradient", p), arrays, scalars=(1,))


def pooled(p: PoolProblem, operations: list[str]) -> Iterator[Case]:
    for operation in operations:
        yield Case(plan_for(operation, p), pool_arrays(p))


def pool_arrays(p: PoolProblem) -> dict[str, np.ndarray]:
    arrays = {"x": numbers(p.x_shape, p.dtype), "dy": numbers(p.y_shape, p.dtype, 1), "uniform": uniform(p)}
    return arrays | {"index": plan_for("max_pool", p).run(arrays["x"])[1]}


def planes() -> Iterator[Case]:
    for dtype, layout in itertools.product(DTYPES, LAYOUTS):
        for C, read, written in ((1, 6, 9), (19, 9, 4)):
            p = PlanesProblem(dtype, layout, 2, C, read, written)
            positions = np.random.default_rng(0).integers(-1, written, p.shape(read))
            for operation in ("put", "put_sums"):
                yield Case(plan_for(operation, p), {"x": numbers(p.shape(read), dtype), "index": positions})
            positions = np.random.default_rng(0).integers(-1, read, p.shape(written))
            yield Case(plan_for("pick", p), {"x": numbers(p.shape(read), dtype), "index": positions})
            f = FractionalPoolProblem(dtype, layout, 2, C, (3, 4, 5), (1, 2, 2), (2, 2, 3), 3)
            starts = np.broadcast_to(np.array([0, 2, 0, 2, 0, 1, 3]), (2, C, 7))
            yield Case(plan_for("fractional_max_pool", f), {"x": numbers(f.x_shape, dtype), "starts": starts})


# Windows that overlap, padding of both, sizes rounded up, all of the epilogue.
CONVOLUTIONS_AND_POOLS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"C": 3, "K": 17, "size": (9, 7), "padding": 1, "activation": "relu"}, {"kernel": 3, "padding": 1}),
    ({"C": 17, "K": 33, "size": (13, 9), "stride": 2, "padding": ((0, 2), (1, 0))}, {"kernel": 2, "ceil_mode": True}),
    ({"C": 5, "K": 6, "size": (9, 8), "scale": True, "residual": True}, {"kernel": (3, 2), "stride": (1, 2)}),
    ({"C": 18, "K": 18, "G": 18, "size": 8, "N": 3}, {"kernel": 2, "stride": 3}),
]
NORMALISED: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"C": 3, "K": 17, "size": (9, 8), "activation": "relu"}, {"kernel": 2}),
    ({"C": 5, "K": 1, "size": 7}, {"kernel": (1, 3), "padding": ((0, 0), (0, 1))}),
]


def convolutions_and_pools() -> Iterator[Case]:
    for (conv, pool), form in itertools.product(CONVOLUTIONS_AND_POOLS, forms(DTYPES, LAYOUTS, WEIGHT_LAYOUTS)):
        p = conv_pool_problem(conv_problem(bias=True, **conv, **form), **pool)
        image = np.zeros(p.conv.y_shape[1:], p.dtype).nbytes
        for size in (1, image // 2, 2 * image):  # bands of a row, of some rows, of images
            with bands_of(size):
                plans = [plan for _, plan in by_every_algorithm("conv_max_pool", p)]
            for plan in plans:
                yield Case(plan, conv_arrays(p.conv))
            if p.bias_is_pooled:
                arrays = conv_pool_gradient_arrays(p)
                with bands_of(size):
                    plans = [plan for _, plan in by_every_algorithm("conv_max_pool_weight_gradient", p)]
                for plan in plans:
                    yield Case(plan, arrays)
    for (conv, pool), form in itertools.product(NORMALISED, forms(DTYPES, LAYOUTS)):
        p = conv_pool_problem(conv_problem(**conv, **form), **pool)
        p = p._replace(pool=p.pool._replace(normalised=True))
        for _, plan in by_every_algorithm("conv_max_pool", p):
            yield Case(plan, conv_pool_arrays(p))
            yield Case(plan, {name: array for name, array in conv_pool_arrays(p).items() if name != "norm_bias"})


def rows() -> Iterator[Case]:
    # Small ones, too: a loop over few bytes may run in two ways.
    shapes = [(1, 1), (3, 4), (7, 4), (2, 8), (1, 16), (1, 31), (5, 17), (33, 10), (2, 100)]
    for dtype, shape in itertools.product(DTYPES, shapes):
        p = RowsProblem(dtype, *shape)
        arrays = {"x": 4 * numbers(shape, dtype), "labels": np.arange(shape[0], dtype=np.int64) % shape[1]}
        yield Case(plan_for("softmax", p), arrays)
        yield Case(plan_for("log_softmax", p), arrays)
        yield Case(plan_for("cross_entropy", p), arrays, scalars=(-100, 0.1))


def losses() -> Iterator[Case]:
    # Around vectors, a block of a sum, and a piece of work.
    sizes = [1, 3, 8, 17, 31, 100, BLOCK + 1, PIECE, PIECE + 5]
    for dtype, size, name in itertools.product(DTYPES, sizes, ("huber", "divergence")):
        arrays = {each: np.abs(numbers((size,), dtype, seed)) for seed, each in enumerate(("x", "t", "dy"))}
        yield Case(plan_for("loss", LossProblem(dtype, name, size)), arrays, scalars=(0.5,))
        yield Case(plan_for("loss_sum", LossProblem(dtype, name, size, True)), arrays, scalars=(0.1, 0.5))
        for operand in range(2):
            p = LossProblem(dtype, name, size, operand=operand)
            yield Case(plan_for("loss_gradient", p), arrays, scalars=(0.5,))
            of_sum = arrays | {"dy": arrays["dy"][:1].copy()}
            yield Case(plan_for("loss_gradient", p._replace(summed=True)), of_sum, scalars=(0.1, 0.5))


def layer_norms() -> Iterator[Case]:
    # A row longer than a block of a sum, too.
    shapes = [(1, 2), (3, 4), (7, 8), (1, 16), (1, 31), (5, 17), (70, 10), (2, 1100)]
    for dtype, (rows, columns) in itertools.product(DTYPES, shapes):
        p = RowsProblem(dtype, rows, columns)
        arrays = {name: numbers((rows, columns), dtype, seed) for seed, name in enumerate(("x", "dy"))}
        parameters = {name: numbers((columns,), dtype, seed) for seed, name in enumerate(("weight", "bias"), 2)}
        for operation in ("layer_norm", "rms_norm"):
            forward, backward = plan_for(operation, p), plan_for(f"{operation}_gradient", p)
            arrays["statistics"] = forward.run(arrays["x"], scalars=(1e-5,))[1]
            for given in ({}, {"weight"}, {"bias"}, {"weight", "bias"}):
                chosen = arrays | {name: parameters[name] for name in given}
                yield Case(forward, chosen, scalars=(1e-5,))
                if "bias" not in given:
                    yield Case(backward, chosen)


def response_norms() -> Iterator[Case]:
    # Channels last, few pixels, and more pixels than are worked on together.
    shapes = [(1, 1, 1), (5, 17, 1), (2, 33, 15), (3, 4, 1), (1, 2, 1100), (1, 1100, 1), (1, 500, 50)]
    for dtype, shape in itertools.product(DTYPES, shapes):
        arrays = {"x": numbers(shape, dtype, 1), "dy": numbers(shape, dtype, 2)}
        for size, beta in ((5, 0.75), (2, 0.5), (4, 1.5)):
            for operation in ("response_norm", "response_norm_gradient"):
                yield Case(plan_for(operation, ChannelsProblem(dtype, *shape)), arrays, scalars=(size, 0.5, beta, 1.0))


def updates() -> Iterator[Case]:
    # One parameter; some that share a piece; and one that fills what an odd one left of a piece, and begins another.
    sizes_of = [(1,), (17,), (16385,), (3, 0, 100, 8, 1), (31, 16353, 5)]
    # The rules differ in their formulas only: those with the fewest and the most arrays stand for all, which spares
    # compilations.
    rules = {"float32": ["sgd", "sgd_nesterov", "amsgrad"], "float64": ["amsgrad"]}
    for dtype, sizes in itertools.product(DTYPES, sizes_of):
        for rule in rules[dtype]:
            yield update(UpdatesProblem(dtype, rule, tuple((size,) for size in sizes)))


def update(p: UpdatesProblem) -> Case:
    """A step from a state that steps could have left."""
    inputs, updated, _ = specs("updates", p)
    arrays = {
        spec.name: numbers(spec.shape, "float64", seed).astype(spec.dtype) for seed, spec in enumerate(inputs + updated)
    }
    for number in range(len(p.shapes)):
        names = [f"{name}{number}" for name in RULES[p.rule].state]
        arrays |= dict(zip(names, state_like(p.rule, [arrays[name] for name in names])))
    return Case(plan_for("updates", p), arrays, scalars=(0.1, *(NUMBERS[name] for name in RULES[p.rule].numbers)))


def bias_and_relu() -> Iterator[Case]:
    for dtype, shape in itertools.product(DTYPES, [(35, 17, 1), (2, 33, 15), (3, 4, 1), (4, 3, 30), (1, 1, 1)]):
        arrays = {"dy": numbers(shape, dtype, 1), "y": numbers(shape, dtype, 2)}
        yield Case(plan_for("bias_activation_gradient", ChannelsProblem(dtype, *shape)), arrays)


def batch_norms() -> Iterator[Case]:
    shapes = [(35, 17, 1), (20, 70, 1), (8, 64, 1), (9, 3, 1), (300, 1, 1), (3, 5, 30), (2, 33, 15), (1, 2, 5000)]
    for dtype, shape in itertools.product(DTYPES, shapes):
        p = ChannelsProblem(dtype, *shape)
        channels = ("weight", "bias", "mean", "rstd", "running_mean", "running_var", "before")
        arrays = {name: numbers(shape, dtype, seed) for seed, name in enumerate(("x", "dy", "y"))}
        arrays |= {name: np.abs(numbers(shape[1:2], dtype, seed)) for seed, name in enumerate(channels)}
        yield Case(plan_for("batch_norm", p), arrays, scalars=(1, 1, 0.1, 1e-5))
        yield Case(plan_for("batch_norm_running", p), arrays, scalars=(0, 1e-5))
        yield Case(plan_for("batch_norm_scale", p), arrays, scalars=(1e-5,))
        yield Case(plan_for("batch_norm_fold", p), arrays, scalars=(1e-5,))
        yield Case(plan_for("batch_norm_gradient", p), arrays, scalars=(1, 1))
        without = {name: arrays[name] for name in ("x", "dy", "mean", "rstd")}
        yield Case(plan_for("batch_norm_gradient", p), without, scalars=(0, 0))


def casts() -> Iterator[Case]:
    # Around the vectors of every instruction set and four of them, which are converted at a time, and around a piece.
    sizes = [1, 3, 4, 5, 8, 15, 16, 17, 31, 33, 63, 64, 65, 100, 16383, 16384, 16385]
    for half, size in itertools.product(HALVES, sizes):
        p = CastProblem(half, size)
        arrays = {"stored": numbers((size,), half), "wide": numbers((size,), "float32")}
        yield Case(plan_for("widen", p), arrays)
        yield Case(plan_for("narrow", p), arrays)


def stored_in_halves() -> Iterator[Case]:
    """An operation of each kind."""
    for half in HALVES:
        conv = conv_problem(C=17, K=33, padding=1, dtype=half)
        for operation in ("conv_forward", "conv_input_gradient", "conv_weight_gradient"):
            for _, plan in by_every_algorithm(operation, conv):
                yield Case(plan, conv_arrays(conv))
        pool = pool_problem(C=17, size=(7, 5), kernel=3, stride=2, padding=1, dtype=half)
        arrays = {"x": numbers(pool.x_shape, half), "dy": numbers(pool.y_shape, half, 1)}
        arrays["index"] = plan_for("max_pool", pool).run(arrays["x"])[1]
        for operation in ("max_pool", "max_pool_gradient", "average_pool", "average_pool_gradient"):
            yield Case(plan_for(operation, pool), arrays)
        arrays = {"x": numbers((5, 17), half), "labels": np.arange(5, dtype=np.int64)}
        yield Case(plan_for("cross_entropy", RowsProblem(half, 5, 17)), arrays, scalars=(-100, 0.1))
        arrays = {"x": numbers((5, 17), half), "weight": numbers((17,), half, 1)}
        yield Case(plan_for("layer_norm", RowsProblem(half, 5, 17)), arrays, scalars=(1e-5,))
        arrays = {"x": numbers((2, 7, 5), half), "dy": numbers((2, 7, 5), half, 1)}
        yield Case(plan_for("response_norm_gradient", ChannelsProblem(half, 2, 7, 5)), arrays, scalars=(3, 1, 0.75, 1))
        yield update(UpdatesProblem(half, "adam", ((100,), (3, 5))))
        arrays = {"dy": numbers((35, 17, 1), half, 1), "y": numbers((35, 17, 1), half, 2)}
        yield Case(plan_for("bias_activation_gradient", ChannelsProblem(half, 35, 17)), arrays)


CASES: dict[str, Callable[[], Iterator[Case]]] = {
    "conv": convolutions,
    "pool": pools,
    "planes": planes,
    "conv and pool": convolutions_and_pools,
    "rows": rows,
    "losses": losses,
    "layer norm": layer_norms,
    "response norm": response_norms,
    "updates": updates,
    "bias": bias_and_relu,
    "batch norm": batch_norms,
    "casts": casts,
    "halves": stored_in_halves,
}
