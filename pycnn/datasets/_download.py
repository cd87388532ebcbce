"""Fetching one published file: whole and verified, or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from pycnn.datasets._errors import DownloadError

CHUNK_BYTES = 1 << 18
TIMEOUT_SECONDS = 30.0


def download(url: str, target: Path, *, size: int, sha256: str) -> None:
    """Fetch ``url``, known to be ``size`` bytes with the hash ``sha256``, into the file ``target``.

    The bytes go to a temporary file in the same folder, which takes the name ``target`` (atomically)
    once it is complete, on the disk and verified. Whatever happens before leaves an existing
    ``target`` as it was and removes the temporary file. Progress is shown on stderr.

    Raises:
        DownloadError: if the server cannot be reached or the connection ends early, if the disk is
            full or the folder cannot be written, or if other bytes arrive than those expected.
    """
    # Here and not above: the network stack takes tens of milliseconds to import; only a download should.
    import http.client
    import urllib.error
    import urllib.request

    part: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f"{target.name}.", suffix=".part")
        part = Path(name)
        with (
            os.fdopen(descriptor, "wb") as file,
            urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as body,
        ):
            _copy(body, file, label=target.name, size=size, sha256=sha256)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, target)
    except (OSError, http.client.HTTPException) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()  # it is the server's reply, too, with its connection
        reason = str(error) or type(error).__name__
        raise DownloadError(f"cannot download {url} to {target}: {reason}") from error
    finally:
        if part is not None:
            part.unlink(missing_ok=True)


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


def _copy(source: _Readable, file: BinaryIO, *, label: str, size: int, sha256: str) -> None:
    """Copy ``source`` to ``file``; an OSError unless it is the ``size`` bytes with the hash ``sha256``."""
    digest = hashlib.sha256()
    received = 0
    with _progress(label, size) as show:
        while received <= size and (chunk := source.read(CHUNK_BYTES)):
            file.write(chunk)
            digest.update(chunk)
            received += len(chunk)
            show(received)
    if received != size:
        quantity = "more" if received > size else f"{received:,}"
        raise OSError(f"expected {size:,} bytes, received {quantity}")
    if digest.hexdigest() != sha256:
        raise OSError(f"expected the sha256 hash {sha256}, received {digest.hexdigest()}")


def _progress(label: str, size: int) -> contextlib.AbstractContextManager[Callable[[int], None]]:
    """Gives a function to call with the number of bytes received so far: a live bar, or plain lines."""
    if sys.stderr.isatty() and importlib.util.find_spec("rich") is not None:  # rich comes with extra "train"
        return _live_bar(label, size)
    return contextlib.nullcontext(_line_per_tenth(label, size))


@contextlib.contextmanager
def _live_bar(label: str, size: int) -> Iterator[Callable[[int], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(f"Downloading {label}", *columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(label, total=size)
        yield lambda received: bar.update(task, completed=received)


def _line_per_tenth(label: str, size: int) -> Callable[[int], None]:
    tenths_shown = 0

    def show(received: int) -> None:
        nonlocal tenths_shown
        tenths = 10 * received // size
        if tenths > tenths_shown:
            tenths_shown = tenths
            print(f"Downloading {label}: {received / 1e6:.1f} of {size / 1e6:.1f} MB", file=sys.stderr)

    return show
