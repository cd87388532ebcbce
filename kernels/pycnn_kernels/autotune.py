"""Choosing by the clock: each algorithm is timed once on a problem, and the figures are kept.

They are kept in memory and in a file of JSON beside the compiled kernels, one for each processor; the folder's name
says the engine's sources, Numba's version and the instruction set. What was measured with another one of these, on
another processor, with another number of threads or under another workspace limit says nothing about a problem here,
and is not looked at.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from pycnn_kernels.cache import kernel_cache_dir, user_cache_dir
from pycnn_kernels.cpu.host import SIMD, processor

Side = Callable[[], object]

#: Algorithms take turns for so long, and for so many rounds at least;
_SECONDS, _ROUNDS = 0.2, 5
#: but no round begins after this: a problem costs about a second, more only where two runs of everything take longer.
_MOST_SECONDS = 1.0
#: After so many rounds, and a quarter of the time, only those go on whose best time is at most so many times the best.
_QUALIFYING_ROUNDS, _QUALIFYING_FACTOR = 3, 1.5

_log = logging.getLogger("pycnn.autotune")


class Key(NamedTuple):
    """What timings depend on beside the processor and the versions; ``machine`` is the backend, with the GPU if any."""

    machine: str
    operation: str
    problem: Any
    workspace_limit: int | None
    threads: int


class Timings(NamedTuple):
    """Median seconds of each algorithm that was measured, and of how many runs."""

    seconds: dict[str, float]
    runs: dict[str, int]

    @property
    def fastest(self) -> str:
        return min(self.seconds, key=self.seconds.__getitem__)

    def in_words(self) -> str:
        """The fastest first.

        >>> Timings({"direct": 0.002, "winograd": 0.001}, {"direct": 3, "winograd": 5}).in_words()
        'winograd 1.000 ms (runs: 5), direct 2.000 ms (runs: 3)'
        """
        order = sorted(self.seconds, key=self.seconds.__getitem__)
        return ", ".join(f"{name} {self.seconds[name] * 1e3:.3f} ms (runs: {self.runs[name]})" for name in order)


_known: dict[Key, Timings] = {}
#: One measurement at a time: two would measure each other.
_measuring = threading.Lock()


def recall(key: Key) -> Timings | None:
    """What this process knows already."""
    return _known.get(key)


def timings(key: Key, names: Sequence[str], side: Callable[[str], Side]) -> Timings:
    """The timings of some algorithms on a problem: known, kept on disk, or measured now.

    Args:
        key: what they depend on.
        names: of the algorithms.
        side: makes an algorithm, by name, ready to run on arrays of its own.
    """
    with _measuring:
        found = _known.get(key)
        if found is None or set(found.seconds) != set(names):
            found = _read(timings_file()).get(_text(key))
            if found is None or set(found.seconds) != set(names):
                found = measure({name: side(name) for name in names})
                _log.info("%s: %s", _text(key), found.in_words())
                _known[key] = found
                _keep(timings_file())
            _known[key] = found
        return found


def measure(sides: dict[str, Side]) -> Timings:
    """Median seconds of each side. They take turns, so that drift of the machine meets all of them.

    Each runs once before, so that compiling a kernel and the first touch of memory do not count.
    """
    for side in sides.values():
        side()
    times: dict[str, list[float]] = {name: [] for name in sides}
    begin = time.perf_counter()
    rounds, elapsed = 0, 0.0
    running = list(sides)
    while (rounds < _ROUNDS or elapsed < _SECONDS) and (rounds == 0 or elapsed < _MOST_SECONDS):
        for name in running:
            start = time.perf_counter()
            sides[name]()
            times[name].append(time.perf_counter() - start)
        rounds += 1
        elapsed = time.perf_counter() - begin
        if rounds >= _QUALIFYING_ROUNDS and elapsed >= _SECONDS / 4:
            best = min(min(values) for values in times.values())
            running = [name for name in running if min(times[name]) <= _QUALIFYING_FACTOR * best]
    return Timings(
        {name: median(values) for name, values in times.items()}, {name: len(values) for name, values in times.items()}
    )


def _text(key: Key) -> str:
    limit = "none" if key.workspace_limit is None else key.workspace_limit
    return f"{key.machine} {key.operation} {key.problem!r} workspace_limit={limit} threads={key.threads}"


# -- the file ------------------------------------------------------------------------------------------------------


def timings_file() -> Path:
    """Where the timings of this machine are kept."""
    machine = hashlib.sha256(processor().encode()).hexdigest()[:12]
    return kernel_cache_dir(SIMD.name) / f"autotune-{machine}.json"


def kept() -> dict[str, Timings]:
    """The timings in the file, by what they were measured on."""
    return _read(timings_file())


def forget_timings() -> int:
    """Forget all that "autotune" has measured, in memory and on disk; how many files that deleted.

    The next call with ``algorithm="autotune"`` measures anew.
    """
    with _measuring:
        _known.clear()
        files = list((user_cache_dir() / "kernels").glob("*/autotune-*.json"))
        for file in files:
            file.unlink(missing_ok=True)
        return len(files)


def _read(file: Path) -> dict[str, Timings]:
    """What a file holds; nothing, with a warning, where it cannot be read."""
    try:
        content = json.loads(file.read_bytes())
        return {text: _timings_of(runs) for text, runs in content["timings"].items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        warnings.warn(
            f"the timings in {file} cannot be read ({type(error).__name__}: {error}); "
            "algorithms are measured again, and the file is written anew",
            RuntimeWarning,
            stacklevel=2,
        )
        return {}


def _timings_of(entry: Any) -> Timings:
    """Timings from the file's {name: [seconds, runs]}.

    Raises:
        ValueError: they are none.
    """
    seconds = {name: float(s) for name, (s, _) in entry.items()}
    runs = {name: int(n) for name, (_, n) in entry.items()}
    if not seconds or not all(0 < s < float("inf") for s in seconds.values()):
        raise ValueError(f"expected a positive time for each algorithm, found {entry!r}")
    return Timings(seconds, runs)


def _keep(file: Path) -> None:
    """Write what this process knows into the file, beside what others have written there.

    A reader sees the old file or the new one, whole. Of two processes that write at the same moment one's timings may
    be missing until it writes the next time, which costs measuring them again.
    """
    found = _read(file) | {_text(key): value for key, value in _known.items()}
    entries = {text: {name: [s, t.runs[name]] for name, s in t.seconds.items()} for text, t in found.items()}
    text = json.dumps({"processor": processor(), "timings": entries}, indent=1)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=file.stem, suffix=".new", dir=file.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as new:
                new.write(text)
            os.replace(temporary, file)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        warnings.warn(
            f"timings of algorithms cannot be kept in {file} ({error.strerror or error}); each process measures them "
            "again. Set PYCNN_CACHE_DIR to a folder that can be written.",
            RuntimeWarning,
            stacklevel=2,
        )
