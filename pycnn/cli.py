"""The command ``pycnn``."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import pkgutil
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import pycnn
from pycnn.console import LiveLine, duration, has_live_terminal, print_table

INTERRUPTED = 130  # what a shell reports for a program that Ctrl-C ended
BAD_INPUT = 2

_Part = tuple[NDArray[Any], NDArray[Any]]

_EXAMPLES = """\
examples:
  pycnn train digits                               real handwritten digits, 0.98 and more within a minute
  pycnn train cifar10 --data DIR --out cifar.npz   the documented CIFAR-10 network, weights kept in cifar.npz
  pycnn explain conv2d --input 1,56,56,256 --filters 256 --kernel 3 --padding 1
                                                   which algorithm that gets, and why not another one
  pycnn autotune --clear                           forget what algorithm="autotune" has measured
  pycnn info                                       versions, processor, threads, cache folder
  pycnn warmup                                     compile the kernels now, so that later runs start at once
"""


class Task(NamedTuple):
    """Something that ``pycnn train`` can train."""

    load: Callable[[str | None], tuple[_Part, _Part]]
    largest: int  # of the pixel values; they are divided by it
    network: Callable[[], Any]
    epochs: int
    batch_size: int


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code: 0, 2 for bad input, 130 after Ctrl-C.

    >>> main(["train", "digits", "--out", "."])
    2
    """
    try:
        # Inside, because reading the command loads the engine, which checks its environment variables.
        arguments = _parser().parse_args(argv)
        code: int = arguments.command(arguments)
    except KeyboardInterrupt:
        print("\npycnn: interrupted", file=sys.stderr)
        return INTERRUPTED
    except (ValueError, OSError, RuntimeError, MemoryError, ModuleNotFoundError) as error:
        print(f"pycnn: error: {' '.join(str(error).split()) or type(error).__name__}", file=sys.stderr)
        return BAD_INPUT
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pycnn",
        description="Train convolutional networks on compiled kernels.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"pycnn {pycnn.__version__}")
    commands = parser.add_subparsers(required=True, metavar="{train,explain,autotune,info,warmup}")
    _add_train(commands)
    _add_explain(commands)
    _add_autotune(commands)
    info = commands.add_parser("info", help="print versions, SIMD width, threads, cache folder and GPUs")
    info.set_defaults(command=_info)
    warmup = commands.add_parser(
        "warmup",
        help="fill the cache of compiled kernels",
        description="Compile every kernel of the engine that the cache on disk does not hold yet, but for those of "
        "grouped convolutions and of Winograd's algorithm for other kernels than 3x3.",
    )
    warmup.add_argument(
        "--dtype",
        choices=("float32", "float64", "all"),
        default="float32",
        help="numbers to compile for (default: float32)",
    )
    warmup.set_defaults(command=_warmup)
    return parser


def _add_train(commands: Any) -> None:
    train = commands.add_parser(
        "train",
        help="train a documented network on real images",
        description="Train a documented network on real images; Ctrl-C ends it and keeps what was learnt.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    tasks = _tasks()
    train.add_argument("task", choices=tasks, help="the images to learn")
    train.add_argument("--data", metavar="DIR", help="folder with the CIFAR-10 batches, or their archive")
    for name, what in (("epochs", "passes over the images"), ("batch_size", "images per step")):
        defaults = ", ".join(f"{getattr(task, name)} for {key}" for key, task in tasks.items())
        option = f"--{name.replace('_', '-')}"
        train.add_argument(option, type=_positive, metavar="N", help=f"{what} (default: {defaults})")
    train.add_argument("--backend", default="cpu", help="where to compute: cpu or cuda (default: cpu)")
    train.add_argument(
        "--seed",
        type=_seed,
        default=0,
        metavar="N",
        help="seed of all random numbers: a run repeats bit for bit (default: 0)",
    )
    train.add_argument("--threads", type=_positive, metavar="N", help="threads to use (default: all cores)")
    train.add_argument(
        "--out", type=Path, metavar="FILE", help="write weights and history to FILE, in NumPy's .npz format"
    )
    train.set_defaults(command=_train)


_EXPLAIN_EXAMPLES = """\
examples:
  pycnn explain conv2d --input 1,56,56,256 --filters 256 --kernel 3 --padding same
  pycnn explain conv2d --input 1,56,56,256 --filters 256 --kernel 3 --padding same --workspace-limit 4MB
  pycnn explain conv2d --input 8,3,224,224 --channels-first --filters 64 --kernel 7 --stride 2 --padding 3
  pycnn explain conv1d --input 16,8000,1 --filters 32 --kernel 80 --stride 4
  pycnn explain conv3d --input 1,16,56,56,64 --filters 64 --kernel 3 --padding same --algorithm autotune

Expected times come from a model of one core; --gflops says how quick yours is. With --algorithm autotune all
algorithms are timed on this machine, with all its threads, and calls with algorithm="autotune" remember it.
"""


def _add_explain(commands: Any) -> None:
    explain = commands.add_parser(
        "explain",
        help="say which algorithm computes an operation, and why not another one",
        description="Say which algorithm computes a convolution and its gradients, and why not another one.",
        epilog=_EXPLAIN_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    explain.add_argument("operation", choices=("conv1d", "conv2d", "conv3d"), help="what to explain")
    explain.add_argument(
        "--input", type=_sizes, required=True, metavar="N,H,W,C",
        help="shape of the input: N,W,C for conv1d, N,H,W,C for conv2d, N,D,H,W,C for conv3d",
    )  # fmt: skip
    explain.add_argument("--filters", type=_positive, required=True, metavar="K", help="output channels")
    explain.add_argument(
        "--kernel", type=_sizes, required=True, metavar="H,W", help="size of the kernel, one for all axes or one each"
    )
    each = "one for all axes or one each"
    explain.add_argument("--stride", type=_sizes, default=(1,), metavar="H,W", help=f"{each} (default: 1)")
    explain.add_argument(
        "--padding", type=_padding, default=(0,), metavar="H,W", help=f"{each}, or same, or valid (default: 0)"
    )
    explain.add_argument("--dilation", type=_sizes, default=(1,), metavar="H,W", help=f"{each} (default: 1)")
    explain.add_argument("--groups", type=_positive, default=1, metavar="G", help="parts of the channels (default: 1)")
    explain.add_argument(
        "--padding-mode", default="zeros", choices=("zeros", "reflect", "replicate", "circular"),
        help="what lies in the padding (default: zeros)",
    )  # fmt: skip
    explain.add_argument(
        "--activation", choices=("relu", "leaky_relu", "tanh", "sigmoid"), help="of the results (default: none)"
    )
    explain.add_argument("--scale", action="store_true", help="each output channel is multiplied by a factor")
    explain.add_argument("--residual", action="store_true", help="an array is added in front of the activation")
    explain.add_argument(
        "--channels-first", action="store_true", help="--input is N,C,H,W, and the arrays lie in that order"
    )
    explain.add_argument("--dtype", default="float32", help="float32, float64, float16 or bfloat16 (default: float32)")
    explain.add_argument("--backend", default="cpu", help="where it is computed: cpu or cuda (default: cpu)")
    explain.add_argument(
        "--algorithm", default="auto", metavar="NAME", help="auto, autotune or the name of one (default: auto)"
    )
    explain.add_argument(
        "--workspace-limit",
        type=_bytes,
        metavar="SIZE",
        help="scratch memory at most: bytes, 64MB, 1.5GiB",
    )
    explain.add_argument("--gflops", type=float, metavar="RATE", help="of one core, to expect times for")
    explain.add_argument(
        "--only", choices=("forward", "input-gradient", "weight-gradient"), help="leave the other operations out"
    )
    explain.add_argument("--json", action="store_true", help="print JSON rather than a table")
    explain.set_defaults(command=_explain)


def _add_autotune(commands: Any) -> None:
    tune = commands.add_parser(
        "autotune",
        help='list or forget what algorithm="autotune" has measured',
        description='List the timings of algorithms that calls with algorithm="autotune" go by, or forget them.',
    )
    tune.add_argument("--clear", action="store_true", help="forget all timings; the next calls measure anew")
    tune.set_defaults(command=_autotune)


def _bytes(text: str) -> int:
    """A number of bytes from text.

    >>> _bytes("4096"), _bytes("64MB")
    (4096, 64000000)
    """
    from pycnn_kernels.memory import bytes_of

    try:
        return bytes_of(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _padding(text: str) -> str | tuple[int, ...]:
    return text if text in ("same", "valid") else _sizes(text)


def _sizes(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if not all(part.strip().isdecimal() for part in parts):
        raise argparse.ArgumentTypeError(f"expected integers with commas between them, received {text!r}")
    return tuple(map(int, parts))


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a positive integer, received {text!r}")
    return int(text)


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected an integer of at least 0, received {text!r}")
    return int(text)


# -- pycnn train -------------------------------------------------------------------------------------------------


def _tasks() -> dict[str, Task]:
    from pycnn.applications import cifar10_cnn, digits_cnn
    from pycnn.datasets import cifar10, digits

    def load_digits(path: str | None) -> tuple[_Part, _Part]:
        if path is not None:
            raise ValueError(f"the digits are part of pycnn: expected no --data, received {path!r}")
        return digits.load_data()

    return {
        "digits": Task(load_digits, 16, digits_cnn, epochs=30, batch_size=32),
        "cifar10": Task(cifar10.load_data, 255, cifar10_cnn, epochs=10, batch_size=50),
    }


def _train(arguments: argparse.Namespace) -> int:
    from pycnn import backend, utils
    from pycnn.models.results import check_writable

    with backend.use_backend(arguments.backend):
        if arguments.out is not None:
            check_writable(arguments.out)
        if arguments.threads is not None:
            pycnn.set_num_threads(arguments.threads)
        utils.set_random_seed(arguments.seed)
        return _trained(arguments)


def _trained(arguments: argparse.Namespace) -> int:
    from pycnn.models.results import save_results

    task = _tasks()[arguments.task]
    (x_train, y_train), (x_test, y_test) = task.load(arguments.data)
    model = task.network()
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    print(
        f"{arguments.task}: {len(x_train):,} images to train, {len(x_test):,} to test, "
        f"{model.count_params():,} parameters",
        flush=True,
    )
    images = _scaled(x_train, task.largest)
    interrupted = False
    started = time.perf_counter()
    try:
        model.fit(
            images,
            y_train,
            batch_size=arguments.batch_size or task.batch_size,
            epochs=arguments.epochs or task.epochs,
        )
    except KeyboardInterrupt:
        interrupted = True
        print("\nInterrupted: keeping what was learnt so far.")
    seconds = time.perf_counter() - started
    del images  # four bytes per pixel value, which the test does not need
    if arguments.out is not None and model.history is not None:
        save_results(arguments.out, model, model.history)
        print(f"Weights and history are in {arguments.out}")
    _report(model, _scaled(x_test, task.largest), y_test, seconds)
    return INTERRUPTED if interrupted else 0


def _scaled(images: NDArray[Any], largest: int) -> NDArray[np.float32]:
    return np.divide(images, largest, dtype=np.float32)


def _report(model: Any, x_test: NDArray[np.float32], y_test: NDArray[Any], seconds: float) -> None:
    """Print the table that ends a run."""
    loss, accuracy = model.evaluate(x_test, y_test, batch_size=256, verbose=0)
    epochs = len(model.history.epoch) if model.history else 0
    print_table(
        ("Test loss", "Test accuracy", "Epochs", "Time to train"),
        [(f"{loss:.4f}", f"{accuracy:.4f}", str(epochs), duration(seconds))],
        justify=["right"] * 4,
    )


# -- pycnn explain, autotune, info, warmup ---------------------------------------------------------------------------


def _explain(arguments: argparse.Namespace) -> int:
    from pycnn.explanation import RANKS, explain
    from pycnn.functional.conv_arguments import WEIGHT_FORMATS

    first = arguments.channels_first
    shape, rank = arguments.input, RANKS[arguments.operation]
    # Of a shape with other axes, explain says what is wrong.
    C = shape[-rank - 1 if first else -1] if len(shape) in (rank + 1, rank + 2) else 0
    kernel = arguments.kernel * rank if len(arguments.kernel) == 1 else arguments.kernel
    inside, outside = C // arguments.groups, arguments.filters
    found = explain(
        arguments.operation,
        shape,
        (outside, inside, *kernel) if first else (*kernel, inside, outside),
        True,
        arguments.stride,
        arguments.padding,
        arguments.dilation,
        arguments.groups,
        data_format="channels_first" if first else "channels_last",
        weight_format=WEIGHT_FORMATS[rank][0 if first else 1],
        activation=arguments.activation,
        padding_mode=arguments.padding_mode,
        scale=arguments.scale,
        residual=arguments.residual,
        dtype=arguments.dtype,
        algorithm=arguments.algorithm,
        workspace_limit=arguments.workspace_limit,
        gflops=arguments.gflops,
        only=None if arguments.only is None else arguments.only.replace("-", " "),
        backend=arguments.backend,
    )
    if arguments.json:
        print(json.dumps(found.to_dict(), indent=1))
        return 0
    print(found.title)
    print_table(found.header, found.rows)
    return 0


def _autotune(arguments: argparse.Namespace) -> int:
    from pycnn_kernels import autotune

    if arguments.clear:
        files = autotune.forget_timings()
        print(f"Forgot all timings ({files} file{'s' * (files != 1)} deleted)")
        return 0
    kept = autotune.kept()
    print(f"{len(kept)} problems in {autotune.timings_file()}")
    for text, found in kept.items():
        print(f"{text}\n    {found.in_words()}")
    return 0


def _info(arguments: argparse.Namespace) -> int:
    import llvmlite
    import numba

    from pycnn_kernels.cache import user_cache_dir
    from pycnn_kernels.cpu.host import SIMD

    rows = [
        ("pycnn", pycnn.__version__),
        ("Python", platform.python_version()),
        ("NumPy", np.__version__),
        ("Numba", f"{numba.__version__} (llvmlite {llvmlite.__version__})"),
        ("System", platform.platform()),
        ("SIMD", f"{SIMD.name}, {SIMD.vector_bytes * 8} bits"),
        ("Threads", f"{pycnn.get_num_threads()} on {os.cpu_count()} processors"),
        ("Threading layer", "pycnn's own worker threads"),
        ("Cache folder", str(user_cache_dir())),
        ("GPUs", _gpus()),
        ("backend='cuda'", _cuda()),
    ]
    print_table(("What", "Value"), rows)
    return 0


def _gpus() -> str:
    """The NVIDIA GPUs that the driver reports."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return "none found (no nvidia-smi)"
    query = [tool, "--query-gpu=name,memory.total", "--format=csv,noheader"]
    try:
        found = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        return f"none found ({error})"
    return "; ".join(found.stdout.split("\n")).strip("; ") or "none found"


def _cuda() -> str:
    """What the backend computes on, or why it cannot."""
    from pycnn import backend
    from pycnn_kernels.cuda.device import current_device

    try:
        backend.get("cuda")
    except backend.BackendError as error:
        return str(error)
    device = current_device()
    return f"{device.name}, {device.architecture}, {device.processors} multiprocessors"


def _warmup(arguments: argparse.Namespace) -> int:
    """Compile the kernels, or load those that the cache has, and the loops of the threads that run them."""
    dtypes = ("float32", "float64") if arguments.dtype == "all" else (arguments.dtype,)
    jobs = [(kernel, dtype) for dtype in dtypes for kernel in _kernels() if dtype in kernel.dtypes]
    bar = LiveLine() if has_live_terminal() else None
    started = time.perf_counter()
    try:
        for number, (kernel, dtype) in enumerate(jobs):
            name = f"{kernel.name.rpartition('.')[2]} {dtype}"
            if bar is not None:
                bar.update("Compiling", number / len(jobs), f"{number}/{len(jobs)} - {name}")
            begun = time.perf_counter()
            kernel.entry(dtype)
            if bar is None:
                print(f"{number + 1}/{len(jobs)} - {duration(time.perf_counter() - begun)} - {name}", flush=True)
    finally:
        if bar is not None:
            bar.close(keep=False)
    pycnn.functional.softmax(np.zeros((1, 1), np.float32))  # the first launch of all compiles the threads' loops
    print(f"{len(jobs)} kernels are ready after {duration(time.perf_counter() - started)}")
    return 0


def _kernels() -> list[Any]:
    """The engine's kernels; of those that are compiled for a kind of layer, the ones for usual layers."""
    import pycnn_kernels.cpu
    from pycnn_kernels.cpu.launch import Kernel

    modules = [
        importlib.import_module(f"pycnn_kernels.cpu.{info.name}")
        for info in pkgutil.iter_modules(pycnn_kernels.cpu.__path__)
    ]
    found = {value.name: value for module in modules for value in vars(module).values() if isinstance(value, Kernel)}
    # Once each, for modules also import the kernels of others.
    return [usual for kernel in found.values() for usual in kernel.usual]
