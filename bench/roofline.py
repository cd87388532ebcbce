"""The roofline plot of all named layers, forward on one core: ``python -m bench.roofline roofline.png``.

Each layer's rate against its arithmetic intensity, ours and PyTorch's in its better layout, under the ceilings of the
machine that are measured in the same run (Williams, Waterman and Patterson, 2009). Needs matplotlib (extra "bench").
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from bench.shapes import ALL_SHAPES, Shape
from bench.tables import Options, progress

#: A copy of so many megabytes comes from memory, and one of so many from the core's own cache.
_MEMORY_MEGABYTES, _CACHE_MEGABYTES = 512, 0.25

NOTE = (
    "FLOP: multiplications and additions of the direct algorithm. Winograd's and the Fourier transform's take fewer, "
    "so such points may lie above the roof.\nBytes: each array read or written once. Layers are run again and again: "
    "small ones find their arrays in the cache and may lie above the roof of the memory."
)


class Ceilings(NamedTuple):
    """What the core can do at most: FLOP/s, and bytes a second from memory and from its own cache."""

    flops: float
    memory: float
    cache: float


class Point(NamedTuple):
    """A layer: FLOP for each byte, and FLOP/s of each engine."""

    intensity: float
    rates: dict[str, float]


def intensity(shape: Shape) -> float:
    """FLOP of the direct algorithm for each byte of x, w, b and y.

    >>> round(intensity(Shape("1x1", 1, 64, 56, 64, 1)), 1)
    15.8
    """
    p = shape.problem()
    elements = sum(int(np.prod(array)) for array in (p.x_shape, p.w_shape, p.y_shape)) + p.K
    return 2 * p.multiply_adds / (np.dtype(p.dtype).itemsize * elements)


def measured_ceilings(options: Options) -> Ceilings:
    from bench.measure import ceiling_side, copy_side, medians

    # One after the other: in turns, the large copy would take the cache from the small one.
    makers = {"flops": ceiling_side(), "memory": copy_side(_MEMORY_MEGABYTES), "cache": copy_side(_CACHE_MEGABYTES)}
    amounts = {
        name: (amount, medians({name: side}, 2 * options.seconds)[name]) for name, (side, amount) in makers.items()
    }
    return Ceilings(**{name: amount / seconds for name, (amount, seconds) in amounts.items()})


def measured_point(shape: Shape, options: Options) -> Point:
    from bench.measure import medians
    from bench.peers import conv_sides
    from bench.report import better, check_agreement, of_operation

    forward = of_operation(conv_sides(shape), "forward")
    check_agreement(shape.name, {name: {"forward": side} for name, side in forward.items()})
    times = medians(forward, options.seconds)
    best = {"pycnn": times["pycnn"], "PyTorch": better(times, "torch")}
    flops = 2 * shape.problem().multiply_adds
    return Point(intensity(shape), {name: flops / seconds for name, seconds in best.items() if seconds is not None})


def draw(path: str, ceilings: Ceilings, points: Sequence[Point]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 6.5), layout="constrained")
    axes = figure.add_subplot()
    reach = np.geomspace(min(p.intensity for p in points) / 1.5, max(p.intensity for p in points) * 1.5, 200)
    roofs = {
        f"memory: {ceilings.memory / 1e9:.0f} GB/s": (ceilings.memory, "-"),
        f"cache of the core: {ceilings.cache / 1e9:.0f} GB/s": (ceilings.cache, ":"),
    }
    for name, (bandwidth, line) in roofs.items():
        axes.plot(reach, np.minimum(bandwidth * reach, ceilings.flops) / 1e9, "k" + line, linewidth=1, label=name)
    axes.axhline(
        ceilings.flops / 1e9, color="k", linestyle="--", linewidth=1,
        label=f"fused multiply-adds: {ceilings.flops / 1e9:.0f} GFLOP/s",
    )  # fmt: skip
    for name, marker, colour in (("PyTorch", "x", "tab:orange"), ("pycnn", "o", "tab:blue")):
        of_engine = [(p.intensity, p.rates[name] / 1e9) for p in points if name in p.rates]
        if of_engine:
            axes.scatter(*zip(*of_engine), s=22, marker=marker, c=colour, alpha=0.7, linewidths=1.2, label=name)
    axes.set(
        xscale="log", yscale="log", xlabel="arithmetic intensity (FLOP / byte)", ylabel="GFLOP/s",
        title=f"Forward convolution, {len(points)} layers, float32, one core",
    )  # fmt: skip
    axes.grid(which="both", alpha=0.2)
    axes.legend(loc="lower right")
    figure.supxlabel(NOTE, fontsize="x-small")
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.roofline", description=__doc__)
    parser.add_argument("path", help="of the picture: .png, .svg or .pdf")
    parser.add_argument("--seconds", type=float, default=0.3, help="for each layer, at least (default: 0.3)")
    given = parser.parse_args()
    options = Options(seconds=given.seconds)
    from bench.report import use_threads

    use_threads(options)
    ceilings = measured_ceilings(options)
    points = [measured_point(shape, options) for shape in progress(ALL_SHAPES, "roofline")]
    draw(given.path, ceilings, points)
    print(f"{given.path}: {len(points)} layers; {ceilings.flops / 1e9:.0f} GFLOP/s, "
          f"{ceilings.memory / 1e9:.1f} GB/s from memory, {ceilings.cache / 1e9:.0f} GB/s from the cache")  # fmt: skip


if __name__ == "__main__":
    main()
