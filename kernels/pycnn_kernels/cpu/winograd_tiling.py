"""Which Winograd scheme does a convolution, how its images are cut into tiles, and what that costs."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np

from pycnn_kernels.cpu.cost import layout_cost
from pycnn_kernels.cpu.gather import continuation_fits, continued, needs_zeros
from pycnn_kernels.cpu.host import SIMD, lanes
from pycnn_kernels.cpu.winograd_transforms import Axis, Scheme
from pycnn_kernels.problem import ConvProblem, Triple

Operation = Literal["forward", "input_gradient", "weight_gradient"]

#: Results of a tile, large and small, along an axis of so many taps: where it is the only axis of the tile, which may
#: have 8 points, and where both have taps.
LINE_RESULTS = {2: (3, 3), 3: (4, 2), 5: (4, 2), 7: (2, 2)}
PLANE_RESULTS = {1: (1, 1), 3: (4, 2), 5: (2, 2)}

#: Channels of a block of the weight gradient, whose products stay in the second-level cache.
GRADIENT_ROWS = 64


class Roles(NamedTuple):
    """What the axes D, H, W (numbers 0 to 2) are to the tiles."""

    #: The axis whose taps are summed like channels.
    deep: int
    #: The axes of a tile.
    row: int
    column: int


def roles_of(kernel: Triple) -> Roles | None:
    """The roles of a kernel's axes, None where it has no axes for tiles.

    Columns are the axis with more taps, wherever it lies: a 7x1 kernel has the compiled code of a 1x7 kernel.

    >>> roles_of((3, 3, 3))
    Roles(deep=0, row=1, column=2)
    >>> roles_of((5, 1, 1))
    Roles(deep=1, row=2, column=0)
    """
    tiled = [axis for axis in range(3) if kernel[axis] in LINE_RESULTS]
    # Axes of two taps are summed where there are better ones.
    tiled = ([axis for axis in tiled if kernel[axis] > 2] or tiled[-1:])[-2:]
    others = sorted(set(range(3)) - set(tiled), key=lambda axis: kernel[axis] == 1)
    if not tiled or (len(tiled) == 1 and kernel[others[-1]] > 1):
        return None
    if len(tiled) == 2 and any(kernel[axis] not in PLANE_RESULTS for axis in tiled):
        return None
    deep, *rest = others
    row, column = sorted(sorted([*tiled, *rest]), key=lambda axis: kernel[axis])
    return Roles(deep, row, column)


def schemes_of(kernel: Triple) -> tuple[Scheme, Scheme]:
    """The schemes of large and of small tiles; for kernels of 5 x 5, of 2 and of 7, they are the same."""
    roles = roles_of(kernel)
    assert roles is not None
    r, s = kernel[roles.row], kernel[roles.column]
    rows, columns = PLANE_RESULTS[r], LINE_RESULTS[s] if r == 1 else PLANE_RESULTS[s]
    large, small = (Scheme(Axis(m, r), Axis(n, s)) for m, n in zip(rows, columns))
    return large, small


#: That of most layers, 3x3 with large tiles.
USUAL_SCHEME = schemes_of((1, 3, 3))[0]


class Tiling:
    """An operation of a problem cut into tiles of results.

    Attributes:
        tiles: how many there are.
        R, L: channels of source and target in a group.
        KD: taps of the axis that is summed.
        weights: how a kernel finds its way in the weights. ``taps``: where the matrix of each tap begins, those of a
            plane behind each other; ``turned``: whether the matrices of a group are (L, R) instead of (R, L);
            ``w_row`` and ``w_group``: the distances of rows and groups.
        fields: the tables and numbers by which a kernel finds source and target of a tile.

    Results that lie as far from each other as taps meet the same places of the source: of a dilated convolution, a
    tile has every second or third result of an axis.
    """

    def __init__(self, p: ConvProblem, scheme: Scheme, operation: Operation):
        roles = roles_of(p.kernel)
        assert roles is not None
        source, target, sources, targets = p.size, p.output, p.C, p.K
        before = [first for first, _ in p.padding]
        numbers = np.arange(math.prod(p.kernel)).reshape(p.kernel)
        turned = False
        if operation == "input_gradient":
            source, target, sources, targets = p.output, p.size, p.K, p.C
            before = [(taps - 1) * step - first for taps, step, first in zip(p.kernel, p.dilation, before)]
            # The frame has transposed and reversed OIHW weights already.
            turned = p.weight_layout == "HWIO"
            if turned:
                numbers = numbers[::-1, ::-1, ::-1]
        # Gradients are those of zeros as padding, or of none: a mode says nothing about the places beyond.
        mode = p.padding_mode if operation == "forward" else "zeros"
        self.R, self.L, self.KD = sources // p.G, targets // p.G, p.kernel[roles.deep]
        self.weights: dict[str, Any] = {
            "taps": np.ascontiguousarray(numbers.transpose(roles)).ravel() * (self.R * targets), "turned": turned,
            "w_row": targets, "w_group": self.L,
        }  # fmt: skip
        if operation == "input_gradient":  # from (T, L, G, R), or from the frame's (T, G, R, L)
            self.weights |= {"w_row": sources, "w_group": self.R} if turned else {
                "w_row": self.L, "w_group": self.R * self.L,
            }  # fmt: skip
        axes = {"deep": Axis(1, self.KD), "row": scheme.rows, "column": scheme.columns}
        counts, tables = [], {}
        for (name, (results, taps)), axis in zip(axes.items(), roles):
            step = _step(p, axis)
            first = first_results(target[axis], results, step)
            counts.append(len(first))
            from_places = first[:, None] + np.arange(results + taps - 1) * step - before[axis]
            to_places = first[:, None] + np.arange(results) * step
            to_places = np.where(to_places < target[axis], to_places, -1)
            shown = continued(from_places, source[axis], mode)
            tables[f"from_{name}"] = _offsets(shown, math.prod(source[axis + 1 :]) * sources)
            tables[f"to_{name}"] = _offsets(to_places, math.prod(target[axis + 1 :]) * targets)
        deeps, tiles_h, tiles_w = counts
        self.tiles = p.N * deeps * tiles_h * tiles_w
        self.fields: dict[str, Any] = {
            **tables, "deeps": deeps, "tiles_h": tiles_h, "tiles_w": tiles_w, "tiles": self.tiles,
            "source_image": math.prod(source) * sources, "target_image": math.prod(target) * targets,
        }  # fmt: skip


def _step(p: ConvProblem, axis: int) -> int:
    """How far the results of a tile are from each other along an axis."""
    return p.dilation[axis] if p.kernel[axis] > 1 else 1


def first_results(size: int, results: int, step: int) -> np.ndarray:
    """The first result of each tile along an axis of ``size``; a tile has ``results`` of them, ``step`` apart.

    >>> first_results(14, 4, 1).tolist(), first_results(14, 2, 3).tolist()
    ([0, 4, 8, 12], [0, 6, 12, 1, 7, 13, 2, 8])
    """
    return np.concatenate([np.arange(phase, size, step * results) for phase in range(step)])


def _offsets(places: np.ndarray, distance: int) -> np.ndarray:
    """The offsets of places that lie ``distance`` elements from each other, -1 staying what it is."""
    return np.where(places < 0, -1, places * distance).astype(np.int64).ravel()


def large_tiles(p: ConvProblem, operation: Operation) -> Scheme:
    """F(4x4, 3x3) and its like: 4 results along an axis, but 2 where that would be more than 8 points."""
    return schemes_of(p.kernel)[0]


def small_tiles(p: ConvProblem, operation: Operation) -> Scheme:
    """F(2x2, 3x3) and its like: 2 results along each axis that has taps."""
    return schemes_of(p.kernel)[1]


def suited_tiles(p: ConvProblem, operation: Operation) -> Scheme:
    """The tiles that cost least; of equals the large ones."""
    return min(schemes_of(p.kernel), key=lambda scheme: _cost(p, scheme, operation))


def winograd_supports_gradient(p: ConvProblem) -> str | None:
    """None for a problem whose gradients Winograd's algorithm can do, otherwise the reason why not."""
    return winograd_supports(p) or needs_zeros(p)


def winograd_supports(p: ConvProblem) -> str | None:
    """None for a problem whose forward Winograd's algorithm can do, otherwise the reason why not."""
    if roles_of(p.kernel) is None:
        received = " x ".join(map(str, p.kernel[3 - p.rank :]))
        return (
            f"kernels of 3 or 5 along two axes, or of 2, 3, 5 or 7 along one, and a further axis; received {received}"
        )
    if p.stride != (1, 1, 1):
        return f"stride 1; received {p.stride[3 - p.rank :]}"
    return continuation_fits(p)


def sized_tiles_support(p: ConvProblem) -> str | None:
    """The same for tiles of a given size: not every kernel has two sizes to choose from."""
    large, small = schemes_of(p.kernel) if roles_of(p.kernel) else (None, None)
    if large == small:
        received = " x ".join(map(str, p.kernel[3 - p.rank :]))
        return f"kernels of 3 along an axis, or of 5 along one; received {received}"
    return winograd_supports(p)


def sized_tiles_support_gradient(p: ConvProblem) -> str | None:
    """The same for the gradients."""
    return sized_tiles_support(p) or winograd_supports_gradient(p)


class Costs(NamedTuple):
    """What the parts of an operation cost, in the time of a multiply-add of one vector.

    Fitted to the times of 120 layers with 8 to 512 channels on one core with AVX-512, within 13 % (standard deviation);
    what reading weights costs, to 512 channels of 7x7, whose weights come from the third-level cache or memory.
    """

    #: A product, and the work beside the products of a register tile's row.
    product: float
    row: float
    #: A point of a patch; a point or result of a tile of the target; each a vector.
    patch: float
    result: float
    #: A point of the transformed weights, and a tap of the weights in memory; each a vector.
    weight: float
    tap: float
    #: Finding the place of a tile.
    place: float


COSTS: dict[Operation, Costs] = {
    "forward": Costs(product=0.93, row=6.8, patch=8.0, result=2.9, weight=5, tap=25, place=76),
    # It transposes the weights.
    "input_gradient": Costs(product=0.91, row=7.0, patch=7.1, result=4.1, weight=9, tap=25, place=61),
    "weight_gradient": Costs(product=0.82, row=2.7, patch=21.3, result=6.4, weight=7, tap=2, place=0),
}


#: What the launches of several kernels take beyond that of one: a microsecond.
_LAUNCHES = 7_500


def _cost(p: ConvProblem, scheme: Scheme, operation: Operation) -> float:
    """What an operation costs in tiles of a scheme."""
    roles, costs = roles_of(p.kernel), COSTS[operation]
    assert roles is not None
    vectors, half = SIMD.wide_tile[0], SIMD.wide_tile[0] // 2
    lane_count, KD = lanes(p.dtype), p.kernel[roles.deep]
    target, R, L = (p.size, p.K, p.C) if operation == "input_gradient" else (p.output, p.C, p.K)
    R, L = R // p.G, L // p.G
    rows_of_tiles, columns_of_tiles = (
        len(first_results(target[axis], results, _step(p, axis)))
        for axis, (results, _) in zip((roles.row, roles.column), scheme)
    )
    tiles = p.N * target[roles.deep] * rows_of_tiles * columns_of_tiles
    depth, columns = -(-R // lane_count), -(-L // lane_count)
    # How often a tile of the source and one of the target are transformed.
    times, target_times = KD, 1
    if operation == "weight_gradient":
        times, target_times = KD * -(-columns // vectors), KD * -(-R // GRADIENT_ROWS)
    rows = scheme.points * tiles * -(-columns // half) * half
    return p.G * (
        rows * (costs.product * KD * R + costs.row * target_times)
        + costs.patch * scheme.points * tiles * depth * times
        + costs.result * (scheme.points + scheme.results) * tiles * columns * target_times
        + (costs.weight * scheme.points + costs.tap * scheme.taps) * KD * R * columns
        + costs.place * tiles * KD
    )


def cost_of(operation: Operation, size: int | None = None) -> Callable[[ConvProblem], float]:
    """The model of an operation's expected time (see ``cost.py``), in large (0), small (1) or the suited tiles."""

    def cost(p: ConvProblem) -> float:
        scheme = suited_tiles(p, operation) if size is None else schemes_of(p.kernel)[size]
        return _cost(p, scheme, operation) + layout_cost(p) + _LAUNCHES

    return cost


def by_name(p: ConvProblem) -> str | None:
    """The reason why ``auto`` never takes tiles of a given size."""
    return "to be asked for by name: winograd itself chooses the size of its tiles"
