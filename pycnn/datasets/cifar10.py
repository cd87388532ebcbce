"""CIFAR-10: 60,000 colour photographs of 32 x 32 pixels in ten classes.

A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009,
https://www.cs.toronto.edu/~kriz/cifar.html. The images are not part of pycnn.
"""

from __future__ import annotations

import gzip
import os
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pycnn.datasets._download import download
from pycnn.datasets._errors import DataError
from pycnn.datasets._pickles import PickledArray, describe, read_pickle

CLASS_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

URL = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
ARCHIVE_BYTES = 170_498_071
ARCHIVE_SHA256 = "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"

FOLDER_NAME = "cifar-10-batches-py"
ARCHIVE_NAME = "cifar-10-python.tar.gz"
TRAIN_BATCHES = ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5")
BATCHES = (*TRAIN_BATCHES, "test_batch")
IMAGES_PER_BATCH = 10_000
# A batch has 31 MB: 30.7 MB of pixels, 20 kB of labels, 0.3 MB of file names.
LARGEST_BATCH_BYTES = 64 << 20

_Part = tuple[NDArray[np.uint8], NDArray[np.uint8]]


def load_data(path: str | os.PathLike[str] | None = None) -> tuple[_Part, _Part]:
    """Load the official python batches of CIFAR-10, 50,000 images to train and 10,000 to test.

    They are taken from the first of these places that has them:

    1. ``path``, when it is given: then nowhere else;
    2. the folder or file named by the environment variable ``PYCNN_DATA``;
    3. ``datasets`` in pycnn's cache folder (``pycnn info`` prints it);
    4. a download of 163 MiB from the publisher into that cache folder, checked by hash.

    A place is the folder ``cifar-10-batches-py``, a folder that contains it or contains
    ``cifar-10-python.tar.gz``, or that archive itself, which is read without unpacking it.

    The batches are Python pickles. They are read without running anything they name, and checked
    for structure: keys, shapes, dtypes, the range of the labels, the number of images. Single files
    are not compared with the publisher's hashes, so that batches saved anew may be used.

    Args:
        path: where the data are, or None to search the places above.

    Returns:
        ``(x_train, y_train), (x_test, y_test)``. Images are uint8 of shape (50000, 32, 32, 3) and
        (10000, 32, 32, 3), channels last, red green blue, 0 to 255. Labels are uint8 of shape
        (50000, 1) and (10000, 1), positions in ``CLASS_NAMES``.

    Raises:
        TypeError: if ``path`` is neither text nor a path.
        FileNotFoundError: if ``path`` or ``$PYCNN_DATA`` does not exist, or ``path`` has no CIFAR-10.
        DataError: if a file is missing from the folder, truncated, corrupt or hostile.
        DownloadError: (a DataError) if the download fails; existing files stay as they are.

    Source: A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.

    Example:
        >>> from pycnn.datasets import cifar10
        >>> (x_train, y_train), (x_test, y_test) = cifar10.load_data()  # doctest: +SKIP
        >>> x_train.shape, cifar10.CLASS_NAMES[y_train[0, 0]]  # doctest: +SKIP
        ((50000, 32, 32, 3), 'frog')
    """
    source = _locate(path)
    images = np.empty((len(BATCHES) * IMAGES_PER_BATCH, 32, 32, 3), dtype=np.uint8)
    labels = np.empty((len(BATCHES) * IMAGES_PER_BATCH, 1), dtype=np.uint8)
    read_batches = _read_archive if source.is_file() else _read_folder
    for name, raw, origin in read_batches(source):
        start = BATCHES.index(name) * IMAGES_PER_BATCH
        rows = slice(start, start + IMAGES_PER_BATCH)
        images[rows], labels[rows, 0] = _decode(raw, origin)
    test = len(TRAIN_BATCHES) * IMAGES_PER_BATCH
    return (images[:test], labels[:test]), (images[test:], labels[test:])


def _locate(path: str | os.PathLike[str] | None) -> Path:
    """The folder with the batches or the archive, by the order given in :func:`load_data`."""
    if path is not None:
        place = _existing(path, "")
        found = _search(place)
        if found is None:
            raise FileNotFoundError(
                f"{place}: expected {FOLDER_NAME} or {ARCHIVE_NAME}, received a folder with neither"
            )
        return found
    if chosen := os.environ.get("PYCNN_DATA"):
        # The folder may hold other data sets only; that it does not exist is a mistake.
        found = _search(_existing(chosen, "$PYCNN_DATA: "))
        if found is not None:
            return found
    return _search(_cache_folder()) or _downloaded(_cache_folder())


def _existing(path: str | os.PathLike[str], prefix: str) -> Path:
    try:
        place = Path(path).expanduser()
    except TypeError:
        raise TypeError(f"path: expected a folder or file as text or Path, received {path!r}") from None
    if not place.exists():
        raise FileNotFoundError(
            f"{prefix}{place}: expected a folder with {FOLDER_NAME} or {ARCHIVE_NAME}, "
            "received a path where there is nothing"
        )
    return place


def _search(place: Path) -> Path | None:
    """The batches at ``place``: the file itself, or the folder or archive in it; None if there are none."""
    if place.is_file():
        return place
    for folder in (place, place / FOLDER_NAME):
        if any((folder / name).exists() for name in BATCHES):
            return folder
    archive = place / ARCHIVE_NAME
    return archive if archive.is_file() else None


def _cache_folder() -> Path:
    # Here and not above: the engine imports Numba, which reading files does not need.
    from pycnn_kernels.cache import user_cache_dir

    return user_cache_dir() / "datasets"


def _downloaded(folder: Path) -> Path:
    archive = folder / ARCHIVE_NAME
    download(URL, archive, size=ARCHIVE_BYTES, sha256=ARCHIVE_SHA256)
    return archive


def _read_folder(folder: Path) -> Iterator[tuple[str, bytes, str]]:
    """Each batch of ``folder``: its name, its bytes, and what to call it in messages."""
    _require_all({name for name in BATCHES if (folder / name).exists()}, folder)
    for name in BATCHES:
        batch = folder / name
        _check_size(batch.stat().st_size, str(batch))
        yield name, batch.read_bytes(), str(batch)


def _read_archive(archive: Path) -> Iterator[tuple[str, bytes, str]]:
    """Each batch of ``archive`` as :func:`_read_folder` gives it; nothing is written to the disk."""
    seen = set()
    try:
        with gzip.open(archive) as stream, tarfile.open(fileobj=stream, mode="r:") as members:
            for member in members:
                _check_size(member.size, f"{archive}: {describe(member.name)}")
                folder, _, name = member.name.rpartition("/")
                if folder == FOLDER_NAME and name in BATCHES:
                    seen.add(name)
                    origin = f"{archive}: {member.name}"
                    yield name, _read_member(members, member, origin), origin
            # gzip compares its checksum at the end of the stream, which lies behind the last member.
            while stream.read(1 << 20):
                pass
    except (tarfile.TarError, gzip.BadGzipFile, EOFError, OverflowError, zlib.error) as error:
        raise DataError(
            f"{archive}: expected a complete {ARCHIVE_NAME}, received a file that is damaged, cut off or of "
            f"another format ({error}); replace it with {URL}"
        ) from error
    _require_all(seen, archive)


def _read_member(members: tarfile.TarFile, member: tarfile.TarInfo, origin: str) -> bytes:
    file = members.extractfile(member) if member.isreg() else None
    if file is None:
        raise DataError(f"{origin}: expected a regular file, received a member of tar type {member.type!r}")
    return file.read()


def _require_all(present: set[str], source: Path) -> None:
    missing = [name for name in BATCHES if name not in present]
    if missing:
        raise DataError(f"{source}: expected {', '.join(BATCHES)}; missing {', '.join(missing)}")


def _check_size(size: int, origin: str) -> None:
    if not 0 <= size <= LARGEST_BATCH_BYTES:
        raise DataError(f"{origin}: expected 0 to {LARGEST_BATCH_BYTES:,} bytes, received {size:,}")


def _decode(raw: bytes, origin: str) -> tuple[NDArray[np.uint8], list[int]]:
    """The images (n, 32, 32, 3) and labels of one batch, a pickled dictionary."""
    batch = read_pickle(raw, origin)
    if not isinstance(batch, dict) or not {b"data", b"labels"} <= batch.keys():
        raise DataError(f"{origin}: expected a dictionary with b'data' and b'labels', received {describe(batch)}")
    pixels = _check_pixels(batch[b"data"], origin)
    labels = _check_labels(batch[b"labels"], origin)
    # A row of 3,072 is the red plane, the green, the blue: (C, H, W), which becomes (H, W, C).
    return pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), labels


def _check_pixels(data: object, origin: str) -> NDArray[np.uint8]:
    pixels = data.array if isinstance(data, PickledArray) else None
    if pixels is None or pixels.shape != (IMAGES_PER_BATCH, 3072):
        raise DataError(
            f"{origin}: expected b'data' to be a uint8 array of shape {(IMAGES_PER_BATCH, 3072)}, "
            f"received {describe(data)}"
        )
    return pixels


def _check_labels(labels: object, origin: str) -> list[int]:
    if not isinstance(labels, list) or len(labels) != IMAGES_PER_BATCH:
        raise DataError(
            f"{origin}: expected b'labels' to be a list of {IMAGES_PER_BATCH} integers, received {describe(labels)}"
        )
    for position, label in enumerate(labels):
        if type(label) is not int or not 0 <= label < len(CLASS_NAMES):
            raise DataError(
                f"{origin}: expected labels from 0 to {len(CLASS_NAMES) - 1}, "
                f"received {describe(label)} for image {position}"
            )
    return labels
