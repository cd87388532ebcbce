"""Zip archives of models, pycnn's own and Keras': only parts of known names are read, and nothing is extracted.

Each part is read into memory as a whole, after its declared size has been held against its bytes in the archive; the
archive's checksums then tell damage.
"""

from __future__ import annotations

import contextlib
import io
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import BinaryIO

from pycnn.saving.errors import InvalidFileError

METADATA, CONFIG = "metadata.json", "config.json"
#: The weights in pycnn's own files and in those of Keras.
WEIGHTS, KERAS_WEIGHTS = "weights.safetensors", "model.weights.h5"
#: What training goes on from: numbers and text, and arrays.
TRAINING, TRAINING_ARRAYS = "training.json", "training.safetensors"

#: How many times as large as its bytes a part may be. Weights hardly shrink; both formats store them as they are.
_MOST_EXPANSION, _SMALL = 100, 2**20
#: The beginning of the calendar of zip files: the same model gives the same file.
_DATE = (1980, 1, 1, 0, 0, 0)
_ENCRYPTED = 1


def read(data: bytes, what: str, required: Iterable[str], optional: Iterable[str] = ()) -> dict[str, bytes]:
    """The parts of an archive by their names.

    Args:
        data: the archive.
        what: its name in messages.
        required: parts that must be there.
        optional: parts that may be there. Others may not.

    Raises:
        InvalidFileError: it is no such archive, or damaged.
    """
    required, optional = list(required), list(optional)
    with _opened(data, what) as archive:
        infos = archive.infolist()
        names = [info.filename for info in infos]
        if len(set(names)) < len(names):
            raise InvalidFileError(f"{what}: expected each part once, received {_shown(names)}")
        missing = [name for name in required if name not in names]
        unknown = [name for name in names if name not in (*required, *optional)]
        if missing or unknown:
            raise InvalidFileError(
                f"{what}: expected the parts {', '.join(required)}"
                + (f" and perhaps {', '.join(optional)}" if optional else "")
                + f", received {_shown(names)}"
            )
        return {info.filename: _part(archive, info, what) for info in infos}


def weights_of(data: bytes, what: str) -> tuple[bytes, str]:
    """The weights in a model's file, and their name in messages.

    Raises:
        InvalidFileError: as :func:`read`.
    """
    if what.endswith(".keras"):
        return read(data, what, (METADATA, CONFIG, KERAS_WEIGHTS))[KERAS_WEIGHTS], f"{what}: {KERAS_WEIGHTS}"
    parts = read(data, what, (METADATA, CONFIG, WEIGHTS), (TRAINING, TRAINING_ARRAYS))
    return parts[WEIGHTS], f"{what}: {WEIGHTS}"


def write(file: BinaryIO, parts: Mapping[str, bytes]) -> None:
    """Write an archive of these parts, stored as they are."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, part in parts.items():
            archive.writestr(zipfile.ZipInfo(name, _DATE), part)


@contextlib.contextmanager
def _opened(data: bytes, what: str) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            yield archive
    except InvalidFileError:
        raise
    except (
        zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError, RuntimeError, OverflowError,
    ) as error:  # fmt: skip
        raise InvalidFileError(f"{what}: a damaged archive; {error}") from error


def _part(archive: zipfile.ZipFile, info: zipfile.ZipInfo, what: str) -> bytes:
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or info.flag_bits & _ENCRYPTED:
        raise InvalidFileError(
            f"{what}: {info.filename}: expected a part that is stored or deflated, and not encrypted"
        )
    if info.file_size > _SMALL and info.file_size > _MOST_EXPANSION * info.compress_size:
        raise InvalidFileError(
            f"{what}: {info.filename}: expected at most {_MOST_EXPANSION} times its {info.compress_size} bytes in the "
            f"archive, received {info.file_size}"
        )
    with archive.open(info) as part:
        read = part.read(info.file_size + 1)  # to the end, where the checksum is compared
    if len(read) != info.file_size:
        raise InvalidFileError(f"{what}: {info.filename}: expected {info.file_size} bytes, received {len(read)}")
    return read


def _shown(names: list[str]) -> str:
    return ", ".join(repr(name[:60]) for name in names[:8]) + (", ..." if len(names) > 8 else "")
