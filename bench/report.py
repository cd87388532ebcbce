"""Print the tables of bench/README.md, each measured in a process of its own.

``python -m bench.report`` runs all of them, ``python -m bench.report conv first step memory start`` some.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

TABLES: dict[str, Callable[[], None]] = {}


def table(function: Callable[[], None]) -> Callable[[], None]:
    TABLES[function.__name__.removesuffix("_table")] = function
    return function


def row(*cells: object) -> None:
    print("| " + " | ".join(str(cell) for cell in cells) + " |", flush=True)


def header(*cells: str) -> None:
    row(*cells)
    row(*("---" for _ in cells))


@table
def conv_table() -> None:
    """Documented layers on one core, direct: GFLOP/s, share of the ceiling, ratio to PyTorch's better layout."""
    from bench.measure import ceiling_side, medians, pin_to_one_core

    pin_to_one_core()
    from bench.peers import OPERATIONS, conv_sides, set_threads
    from bench.shapes import DOCUMENTED

    set_threads(1)
    header("layer", *(f"{op}: GFLOP/s, of ceiling, x PyTorch" for op in OPERATIONS), "ceiling")
    shares, ratios = [], []
    for shape in DOCUMENTED:
        sides = conv_sides(shape, algorithm="direct")
        check_agreement(shape.name, sides)
        ceiling, ceiling_flops = ceiling_side()
        flops = 2 * shape.problem().multiply_adds
        cells = []
        for op in OPERATIONS:
            timed = medians({name: engine[op] for name, engine in sides.items()} | {"ceiling": ceiling})
            rate = flops / timed["pycnn"]
            share = rate / (ceiling_flops / timed["ceiling"])
            shares.append(share)
            cell = f"{rate / 1e9:.0f}, {share:.0%}"
            peers = [seconds for name, seconds in timed.items() if name.startswith("torch")]
            if peers:
                ratios.append(min(peers) / timed["pycnn"])
                cell += f", {ratios[-1]:.2f}"
            cells.append(cell)
        row(shape.name, *cells, f"{ceiling_flops / timed['ceiling'] / 1e9:.0f}")
    print(f"\nleast share of the ceiling {min(shares):.0%}" + (f", least ratio {min(ratios):.2f}" if ratios else ""))


@table
def first_table() -> None:
    """First layers on one core: milliseconds, and ratio to PyTorch's better layout."""
    from bench.shapes import FIRST_LAYERS

    compare_shapes(FIRST_LAYERS)


@table
def networks_table() -> None:
    """Layers of networks on one core, by the algorithm that is chosen: milliseconds, and ratio to PyTorch's better
    layout."""
    from bench.shapes import DOCUMENTED, MOBILENET, RESNET50, VGG16

    compare_shapes([*DOCUMENTED[:5], *VGG16, *RESNET50, *MOBILENET])


def compare_shapes(shapes: list) -> None:
    """A row for each shape, and the geometric means of the ratios."""
    import numpy as np

    from bench.measure import medians, pin_to_one_core

    pin_to_one_core()
    from bench.peers import OPERATIONS, conv_sides, set_threads

    set_threads(1)
    header("layer", *(f"{op}: ms, x PyTorch" for op in OPERATIONS), "forward + backward: ms, x PyTorch")
    ratios: dict[str, list[float]] = {}
    for shape in shapes:
        sides = conv_sides(shape)
        check_agreement(shape.name, sides)
        timed = {op: medians({name: engine[op] for name, engine in sides.items()}, 0.5) for op in OPERATIONS}
        timed["all"] = {name: sum(timed[op][name] for op in OPERATIONS) for name in sides}
        cells = []
        for op, times in timed.items():
            cell = f"{times['pycnn'] * 1e3:.2f}"
            peers = [seconds for name, seconds in times.items() if name.startswith("torch")]
            if peers:
                ratios.setdefault(op, []).append(min(peers) / times["pycnn"])
                cell += f", {ratios[op][-1]:.2f}"
            cells.append(cell)
        row(shape.name, *cells)
    if ratios:
        row("geometric mean", *(f"{np.exp(np.mean(np.log(r))):.2f}, least {min(r):.2f}" for r in ratios.values()))


def check_agreement(name: str, sides: dict) -> None:
    """Refuse to time engines that compute different things."""
    import numpy as np

    for op, ours in sides["pycnn"].items():
        expected = ours()
        for engine, operations in sides.items():
            error = np.abs(operations[op]() - expected).max() / np.abs(expected).max()
            if not error < 1e-4:
                raise SystemExit(f"{name}: {op} of {engine} differs from ours by {error:.1e}")


@table
def step_table() -> None:
    """A training step of the CIFAR-10 network at batch 50 on all cores, beside the peers."""
    from bench.measure import medians
    from bench.peers import cifar_batch, keras_tensorflow_step, pycnn_step, set_threads, torch_step

    set_threads(len(os.sched_getaffinity(0)))
    x, y = cifar_batch()
    sides = {
        "pycnn": pycnn_step(x, y),
        "Keras 3 on TensorFlow": keras_tensorflow_step(x, y),
        "PyTorch channels last": torch_step(x, y, channels_last=True),
        "PyTorch channels first": torch_step(x, y, channels_last=False),
    }
    # Each engine's threads spin for a while after its turn: blocks of turns, so that none meets another's.
    installed = {name: side for name, side in sides.items() if side is not None}
    blocks = {name: _block(side) for name, side in installed.items()}
    timed = {name: seconds / STEPS_PER_TURN for name, seconds in medians(blocks, seconds=20).items()}
    header("engine", "ms a step", "x pycnn")
    for name, seconds in timed.items():
        row(name, f"{seconds * 1e3:.2f}", f"{seconds / timed['pycnn']:.2f}")


STEPS_PER_TURN = 20


def _block(side: Callable[[], object]) -> Callable[[], object]:
    def run() -> None:
        for _ in range(STEPS_PER_TURN):
            side()

    return run


@table
def memory_table() -> None:
    """Peak resident memory of training the CIFAR-10 network for 100 steps on 5,000 images."""
    import resource

    import numpy as np

    from pycnn.applications import cifar10_cnn

    model = cifar10_cnn()
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    x = np.random.default_rng(0).integers(0, 256, (5000, 32, 32, 3), np.uint8)
    y = np.random.default_rng(0).integers(0, 10, (5000, 1))
    model.fit(x, y, batch_size=50, epochs=1, verbose=0)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    header("", "MB")
    row("after importing and building the model", f"{before / 1024:.0f}")
    row("peak of the run, 15 MB of images included", f"{peak / 1024:.0f}")


@table
def start_table() -> None:
    """Seconds until the first training step has been taken, with an empty and with a warm kernel cache."""
    code = (
        "import time; t = time.perf_counter()\n"
        "import pycnn\n"
        "imported = time.perf_counter() - t\n"
        "from bench.peers import cifar_batch, pycnn_step\n"
        "pycnn_step(*cifar_batch())()\n"
        "import json; print(json.dumps([imported, time.perf_counter() - t]))"
    )
    header("kernel cache", "import pycnn: s", "first training step: s")
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"PYCNN_CACHE_DIR": folder}
        for name in ("empty", "warm"):
            done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True)
            imported, first = json.loads(done.stdout)
            row(name, f"{imported:.2f}", f"{first:.2f}")
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-m", "pycnn", "warmup"], env=environment, capture_output=True, check=True)
        print(f"\n`pycnn warmup` on what that left: {time.perf_counter() - begin:.1f} s")


def main(names: list[str]) -> None:
    unknown = set(names) - TABLES.keys()
    if unknown:
        raise SystemExit(f"tables: {', '.join(TABLES)}; received {', '.join(unknown)}")
    if len(names) == 1:
        print(f"\n{TABLES[names[0]].__doc__}\n")
        TABLES[names[0]]()
        return
    for name in names or TABLES:
        subprocess.run([sys.executable, "-m", "bench.report", name], check=True)


if __name__ == "__main__":
    main(sys.argv[1:])
