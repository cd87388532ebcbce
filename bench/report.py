"""Print the tables of bench/README.md, each measured in a process of its own.

``python -m bench.report`` runs those that together hold everything, ``python -m bench.report vgg16 step`` some.
``--threads 2`` measures layers on two threads instead of one pinned core, ``--markdown`` writes what the README holds.
"""

from __future__ import annotations

import argparse
import inspect
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from bench.shapes import ALL_SHAPES, DOCUMENTED, KINDS, RESNET50, SETS, VGG16, Shape
from bench.tables import Options, Table, geometric_mean, progress

if TYPE_CHECKING:
    from pycnn_kernels.plan import Plan

TABLES: dict[str, Callable[[Options], None]] = {}

Run = Callable[[Options], None]


def table(function: Run) -> Run:
    TABLES[function.__name__.removesuffix("_table")] = function
    return function


def use_threads(options: Options) -> None:
    """Keep the process on one core, or every engine on so many threads."""
    from bench.measure import pin_to_one_core

    if options.threads == 1:
        pin_to_one_core()
    from bench.peers import set_threads

    set_threads(options.threads)


def better(times: dict[str, float], engine: str) -> float | None:
    """The time of an engine in the better of its layouts; None where it is not installed."""
    return min((seconds for name, seconds in times.items() if name.startswith(engine)), default=None)


@table
def conv_table(options: Options) -> None:
    """Documented layers, direct: GFLOP/s, share of the ceiling of the threads together, ratio to PyTorch's better
    layout."""
    use_threads(options)
    from bench.measure import ceiling_side, medians
    from bench.peers import OPERATIONS, conv_sides

    columns = Table(options, "layer", *(f"{op}: GFLOP/s, of ceiling, x PyTorch" for op in OPERATIONS), "ceiling")
    shares, ratios = [], []
    for shape in progress(DOCUMENTED, "conv"):
        sides = conv_sides(shape, algorithm="direct")
        check_agreement(shape.name, sides)
        ceiling, ceiling_flops = ceiling_side()
        flops = 2 * shape.problem().multiply_adds
        cells = []
        for op in OPERATIONS:
            timed = medians(of_operation(sides, op) | {"ceiling": ceiling}, options.seconds, threads=options.threads)
            rate, most = flops / timed["pycnn"], options.threads * ceiling_flops / timed["ceiling"]
            shares.append(rate / most)
            cell = f"{rate / 1e9:.0f}, {shares[-1]:.0%}"
            peer = better(timed, "torch")
            if peer is not None:
                ratios.append(peer / timed["pycnn"])
                cell += f", {ratios[-1]:.2f}"
            cells.append(cell)
        columns.row(shape.name, *cells, f"{most / 1e9:.0f}")
    print(f"\nleast share of the ceiling {min(shares):.0%}" + (f", least ratio {min(ratios):.2f}" if ratios else ""))


@table
def all_table(options: Options) -> None:
    """Every layer of the named sets: milliseconds, ratio to PyTorch's better layout, and what auto chose."""
    compare_shapes(ALL_SHAPES, options)


def of_shapes(name: str, shapes: list[Shape]) -> Run:
    def run(options: Options) -> None:
        compare_shapes(shapes, options)

    run.__doc__ = f"{name}: milliseconds, ratio to PyTorch's better layout, and what auto chose."
    return run


TABLES |= {name: of_shapes(name, shapes) for name, shapes in (SETS | KINDS).items()}


def compare_shapes(shapes: list[Shape], options: Options) -> None:
    """A row for each shape, the geometric means of the ratios for each set that they are of, and the least ones."""
    use_threads(options)
    from bench.measure import medians
    from bench.peers import OPERATIONS, algorithms_chosen, conv_sides, has

    both = "forward + backward"
    columns = Table(
        options, "layer", *(f"{op}: ms, x PyTorch" for op in (*OPERATIONS, both)),
        *(["forward x OpenVINO"] if has("openvino") else []), "algorithms",
    )  # fmt: skip
    ratios: dict[Shape, dict[str, float]] = {}
    for shape in progress(shapes, "layers"):
        sides = conv_sides(shape)
        check_agreement(shape.name, sides)
        timed = {op: medians(of_operation(sides, op), options.seconds, threads=options.threads) for op in OPERATIONS}
        complete = [name for name, operations in sides.items() if len(operations) == len(OPERATIONS)]
        timed[both] = {name: sum(timed[op][name] for op in OPERATIONS) for name in complete}
        cells, found = [], ratios.setdefault(shape, {})
        for op, times in timed.items():
            cell = f"{times['pycnn'] * 1e3:.2f}"
            peer = better(times, "torch")
            if peer is not None:
                found[op] = peer / times["pycnn"]
                cell += f", {found[op]:.2f}"
            cells.append(cell)
        peer = better(timed["forward"], "OpenVINO")
        if peer is not None:
            found["OpenVINO"] = peer / timed["forward"]["pycnn"]
            cells.append(f"{found['OpenVINO']:.2f}")
        columns.row(shape.name, *cells, algorithms_chosen(shape))
    compared = list(next(iter(ratios.values())))
    if not compared:
        return
    print("\nGeometric means, and the least ratio of a layer:\n")
    summary = Table(options, "layers", *(f"{name}: mean, least" for name in compared))
    members = {name: [shape for shape in shapes if shape in of_set] for name, of_set in (SETS | KINDS).items()}
    for name, of_set in (members | {"all of these": shapes}).items():
        if of_set:
            of_each = {op: {shape: ratios[shape][op] for shape in of_set} for op in compared}
            cells = [f"{geometric_mean(r.values()):.2f}, {min(r.values()):.2f}" for r in of_each.values()]
            summary.row(f"{name} ({len(of_set)})", *cells)
    slowest = min(
        (ratio, op, shape.name) for shape in shapes for op, ratio in ratios[shape].items() if op != "OpenVINO"
    )
    print(f"\nleast ratio to PyTorch {slowest[0]:.2f}: {slowest[1]} of {slowest[2]}")


@table
def layouts_table(options: Options) -> None:
    """Channels first against channels last, both ours: milliseconds in channels last, and channels first's over it."""
    use_threads(options)
    from bench.measure import medians
    from bench.peers import OPERATIONS, arrays, pycnn_sides

    columns = Table(options, "layer", *(f"{op}: ms, channels first" for op in OPERATIONS))
    ratios: dict[str, list[float]] = {op: [] for op in OPERATIONS}
    for shape in progress([*RESNET50, *VGG16], "layouts"):
        data = arrays(shape)
        sides = {"pycnn": pycnn_sides(shape, data), "first": pycnn_sides(shape, data, layout="channels_first")}
        check_agreement(shape.name, sides)
        cells = []
        for op in OPERATIONS:
            timed = medians(of_operation(sides, op), options.seconds, threads=options.threads)
            ratios[op].append(timed["first"] / timed["pycnn"])
            cells.append(f"{timed['pycnn'] * 1e3:.2f}, x {ratios[op][-1]:.2f}")
        columns.row(shape.name, *cells)
    columns.row("geometric mean", *(f"x {geometric_mean(r):.2f}, most {max(r):.2f}" for r in ratios.values()))


@table
def pooling_table(options: Options) -> None:
    """Pooling: milliseconds, share of the rate of a copy of as many bytes, ratio to PyTorch's better layout."""
    use_threads(options)
    from bench.bandwidth import POOLINGS, pooling_sides, torch_pooling_sides

    compare_to_copies(POOLINGS, pooling_sides, torch_pooling_sides, options)


@table
def norm_table(options: Options) -> None:
    """Batch normalisation: milliseconds, share of the rate of a copy of as many bytes, ratio to PyTorch."""
    use_threads(options)
    from bench.bandwidth import BATCH_NORMS, batch_norm_sides, torch_batch_norm_sides

    compare_to_copies(BATCH_NORMS, batch_norm_sides, torch_batch_norm_sides, options)


@table
def images_table(options: Options) -> None:
    """pycnn.signal.correlate2d on images of 1024x1024 pixels: milliseconds, share of the ceiling of the threads
    together, ratio to SciPy's."""
    use_threads(options)
    from bench.images import DTYPES, KERNELS, image_sides
    from bench.measure import ceiling_side, medians

    columns = Table(options, "kernel", *(f"{dtype}: ms, of ceiling, x SciPy" for dtype in DTYPES), first=8)
    ratios = []
    for size in progress(KERNELS, "images"):
        cells = []
        for dtype in DTYPES:
            sides, flops = image_sides(size, dtype)
            check_agreement(f"{size}x{size}", {name: {"correlate2d": side} for name, side in sides.items()})
            ceiling, ceiling_flops = ceiling_side(dtype)
            timed = medians(sides | {"ceiling": ceiling}, options.seconds, threads=options.threads)
            most = options.threads * ceiling_flops / timed["ceiling"]
            cell = f"{timed['pycnn'] * 1e3:.2f}, {flops / timed['pycnn'] / most:.0%}"
            if "SciPy" in timed:
                ratios.append(timed["SciPy"] / timed["pycnn"])
                cell += f", {ratios[-1]:.0f}"
            cells.append(cell)
        columns.row(f"{size}x{size}", *cells)
    if ratios:
        print(f"\nleast ratio to SciPy {min(ratios):.1f}")


#: What a small call shall take less than.
_CALL_SECONDS = 15e-6


@table
def calls_table(options: Options) -> None:
    """Small calls on NumPy's arrays: microseconds on one pinned core, and PyTorch's on its tensors."""
    use_threads(options._replace(threads=1))
    from bench.calls import CALLS, call_sides
    from bench.measure import in_turns

    repeated, slow = 100, []
    columns = Table(options, "call", "microseconds: median, least", "PyTorch", first=36)
    for name in progress(list(CALLS), "calls"):
        timed = in_turns(call_sides(name, repeated), options.seconds)
        found = {side: (statistics.median(each), min(each)) for side, each in timed.items()}
        columns.row(name, *(", ".join(f"{each / repeated * 1e6:.1f}" for each in pair) for pair in found.values()))
        if found["pycnn"][0] / repeated >= _CALL_SECONDS:
            slow.append(name)
    print(f"\nmedians of {_CALL_SECONDS * 1e6:.0f} microseconds or more: {', '.join(slow) or 'none'}")


def compare_to_copies(
    layers: list, sides_of: Callable[..., dict], torch_sides_of: Callable[..., dict | None], options: Options
) -> None:
    from bench.bandwidth import copy_of
    from bench.measure import medians

    operations = ("forward", "inference", "backward")
    columns = Table(options, "layer", *(f"{op}: ms, of copy, x PyTorch" for op in operations))
    shares: dict[str, list[float]] = {op: [] for op in operations}
    ratios: dict[str, list[float]] = {op: [] for op in operations}
    for layer in progress(layers, "layers"):
        ours = sides_of(layer)
        peers = {"torch last": torch_sides_of(layer, True), "torch first": torch_sides_of(layer, False)}
        cells = []
        for op in operations:
            side, moved = ours[op]
            sides = {"pycnn": side} | {name: peer[op] for name, peer in peers.items() if peer}
            check_images(f"{op} of {layer.name}", sides)
            copy, copied = copy_of(moved)
            timed = medians(sides | {"copy": copy}, options.seconds, threads=options.threads)
            shares[op].append(moved / timed["pycnn"] / (copied / timed["copy"]))
            cell = f"{timed['pycnn'] * 1e3:.3f}, {shares[op][-1]:.0%}"
            peer = better(timed, "torch")
            if peer is not None:
                ratios[op].append(peer / timed["pycnn"])
                cell += f", {ratios[op][-1]:.2f}"
            cells.append(cell)
        columns.row(layer.name, *cells)
    means = [
        f"{geometric_mean(shares[op]):.0%}" + (f", {geometric_mean(ratios[op]):.2f}" if ratios[op] else "")
        for op in operations
    ]
    columns.row("geometric mean", *means)


def check_images(name: str, sides: dict) -> None:
    """Refuse to time engines that compute different things; ours is in channels last, PyTorch's in channels first."""
    import numpy as np

    expected = sides["pycnn"]()
    for engine, side in sides.items():
        if engine != "pycnn":
            error = np.abs(side().numpy().transpose(0, 2, 3, 1) - expected).max()
            if not error < 1e-4 * np.abs(expected).max():
                raise SystemExit(f"{name}: {engine} differs from ours by {error:.1e}")


#: A candidate that takes so many times the quickest one's time in its first runs is not run again.
_HOPELESS, _FIRST_RUNS = 3, 3

#: A pick that takes more than so many times the best candidate's time is listed as wrong.
_WRONG = 1.10


@table
def choice_table(options: Options) -> None:
    """What auto picks against every algorithm that can do the layer: milliseconds, and the pick's over the best.

    Candidates that take three times the quickest one's time in each of their first runs are left at those.
    """
    use_threads(options)
    from bench.peers import OPERATIONS, arrays, plan_of

    widths = ("layer", "operation      ", "pick        ", "ms     ", "best        ", "ms     ", "x best", "others: ms")
    columns = Table(options, *widths)
    wrong = []
    for shape in progress(ALL_SHAPES, "choice"):
        data = arrays(shape)
        for operation in OPERATIONS:
            pick = plan_of(operation, shape).algorithm.name
            times = candidate_times(operation, shape, data, options)
            best = min(times, key=times.__getitem__)
            ratio = times[pick] / times[best]
            others = ", ".join(f"{name} {times[name] * 1e3:.2f}" for name in times if name not in (pick, best))
            cells = (pick, f"{times[pick] * 1e3:.3f}", best, f"{times[best] * 1e3:.3f}", f"{ratio:.2f}", others)
            columns.row(shape.name, operation, *cells)
            if ratio > _WRONG:
                wrong.append((ratio, f"{operation} of {shape.name}: {pick}, best {best}"))
    picks = len(ALL_SHAPES) * len(OPERATIONS)
    print(f"\n{len(wrong)} of {picks} picks take more than {_WRONG} times the best candidate's time")
    for ratio, what in sorted(wrong, reverse=True):
        print(f"- {ratio:.2f}: {what}")


def candidate_times(operation: str, shape: Shape, data: tuple, options: Options) -> dict[str, float]:
    """Seconds of each algorithm that can do an operation of a layer, in turns."""
    from bench.measure import medians, seconds_of
    from bench.peers import plan_of, pycnn_side
    from pycnn_kernels.algorithms import algorithms_for

    plan = plan_of(operation, shape)
    candidates = [a.name for a in algorithms_for("cpu", plan.operation) if a.supports(plan.problem) is None]
    twin = winograd_twin(plan)
    if twin in candidates:
        candidates.remove(twin)
    sides = {name: pycnn_side(operation, shape, data, name) for name in candidates}
    first = {name: min(seconds_of(side) for _ in range(_FIRST_RUNS)) for name, side in sides.items()}
    most = _HOPELESS * min(first.values())
    hopeful = {name: side for name, side in sides.items() if name == plan.algorithm.name or first[name] < most}
    return first | medians(hopeful, options.seconds, threads=options.threads)


def winograd_twin(plan: Plan) -> str | None:
    """The name of Winograd's algorithm in tiles of a given size that does what "winograd" itself does for a problem."""
    from pycnn_kernels.cpu.winograd_tiling import schemes_of, suited_tiles, winograd_supports

    if winograd_supports(plan.problem) is not None:
        return None
    chosen = suited_tiles(plan.problem, plan.operation.removeprefix("conv_"))
    return "winograd_4x4" if chosen == schemes_of(plan.problem.kernel)[0] else "winograd_2x2"


def of_operation(sides: dict, operation: str) -> dict:
    """One operation of all engines that have it."""
    return {name: operations[operation] for name, operations in sides.items() if operation in operations}


def check_agreement(name: str, sides: dict) -> None:
    """Refuse to time engines that compute different things."""
    import numpy as np

    for op, ours in sides["pycnn"].items():
        expected = ours()
        for engine, side in of_operation(sides, op).items():
            error = np.abs(side() - expected).max() / np.abs(expected).max()
            if not error < 1e-4:
                raise SystemExit(f"{name}: {op} of {engine} differs from ours by {error:.1e}")


@table
def step_table(options: Options) -> None:
    """A training step of each documented network on all cores, beside the peers: milliseconds."""
    from bench.networks import NETWORKS

    networks_table([name for name, network in NETWORKS.items() if network.batch > 1], "step", options)


@table
def inference_table(options: Options) -> None:
    """Inference of the same networks and batches, and of VGG16 on one image: milliseconds."""
    from bench.networks import NETWORKS

    networks_table(list(NETWORKS), "inference", options)


def networks_table(networks: list[str], operation: str, options: Options) -> None:
    from bench.networks import ENGINES, Times, installed, measured

    engines = [name for name, engine in ENGINES.items() if installed(name) and (engine.trains or operation != "step")]
    columns = Table(options, "network", *engines, "fastest peer x pycnn: by medians, by least times")
    for network in networks:
        found = measured(network, operation, options.seconds * 10)
        peers = [times for name, times in found.items() if name != "pycnn"] or [Times(math.nan, math.nan)]
        ratios = (min(times) / ours for times, ours in zip(zip(*peers), found["pycnn"]))
        columns.row(
            network,
            *(f"{found[name].median * 1e3:.2f}" for name in engines),
            ", ".join(f"{ratio:.2f}" for ratio in ratios),
        )


@table
def memory_table(options: Options) -> None:
    """Peak resident memory of training the CIFAR-10 network for 100 steps on 5,000 images, each engine in a process of
    its own."""
    from bench.memory import TRAININGS
    from bench.networks import installed

    columns = Table(options, "engine", "imported and built: MB", "peak, 15 MB of images included: MB", "x pycnn")
    # The first run compiles the kernels that the cache has not, which takes memory that training does not.
    peak_of("pycnn")
    ours = None
    for engine in filter(installed, TRAININGS):
        found = peak_of(engine)
        ours = ours or found["peak"]
        columns.row(engine, f"{found['built']:.0f}", f"{found['peak']:.0f}", f"{found['peak'] / ours:.2f}")


def peak_of(engine: str) -> dict[str, float]:
    """What ``bench.memory`` prints in a fresh process.

    That process begins with the peak of the one that starts it: what is imported here must stay less than an engine.
    """
    command = [sys.executable, "-m", "bench.memory", engine]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


@table
def start_table(options: Options) -> None:
    """Seconds until the first training step has been taken, with an empty and with a warm kernel cache."""
    code = (
        "import time; t = time.perf_counter()\n"
        "import pycnn\n"
        "imported = time.perf_counter() - t\n"
        "from bench.networks import NETWORKS, pycnn_engine\n"
        "pycnn_engine(NETWORKS['CIFAR-10'])[0]()\n"
        "import json; print(json.dumps([imported, time.perf_counter() - t]))"
    )
    columns = Table(options, "kernel cache", "import pycnn: s", "first training step: s")
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"PYCNN_CACHE_DIR": folder}
        for name in ("empty", "warm"):
            done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True)
            imported, first = json.loads(done.stdout)
            columns.row(name, f"{imported:.2f}", f"{first:.2f}")
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-m", "pycnn", "warmup"], env=environment, capture_output=True, check=True)
        print(f"\n`pycnn warmup` on what that left: {time.perf_counter() - begin:.1f} s")


@table
def contended_table(options: Options) -> None:
    """A large layer on two threads while another process keeps one of the cores busy: GFLOP/s."""
    from bench.contended import measure

    measure(options)


#: What runs where no table is named: the sets are part of "all".
_TABLES_OF_EVERYTHING = (
    "conv", "all", "layouts", "choice", "images", "calls", "contended", "step", "inference", "memory", "start",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.report", description=__doc__)
    parser.add_argument("tables", nargs="*", metavar="TABLE", help=", ".join(TABLES))
    parser.add_argument("--threads", type=int, default=1, help="1 (pinned to one core) or more, for tables of layers")
    parser.add_argument("--seconds", type=float, default=0.5, help="for each comparison, at least (default: 0.5)")
    parser.add_argument("--markdown", action="store_true", help="write Markdown")
    given = parser.parse_args()
    unknown = set(given.tables) - TABLES.keys()
    if unknown:
        parser.error(f"tables: {', '.join(TABLES)}; received {', '.join(sorted(unknown))}")
    names = given.tables or _TABLES_OF_EVERYTHING
    if len(names) == 1:
        run = TABLES[names[0]]
        print(f"\n{inspect.getdoc(run)}\n")
        run(Options(given.threads, given.seconds, given.markdown))
        return
    flags = [argument for argument in sys.argv[1:] if argument not in given.tables]
    for name in names:
        subprocess.run([sys.executable, "-m", "bench.report", name, *flags], check=True)


if __name__ == "__main__":
    main()
