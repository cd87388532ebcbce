"""Files that appear under their name only when they are complete."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def replaced_file(path: str | os.PathLike[str], what: str = "the file") -> Iterator[BinaryIO]:
    """A new file that takes the place of ``path`` at the end; whatever happens before, an existing file stays whole.

    The bytes are on the disk before the name is moved to them: neither a killed process nor a power failure leaves half
    a file under the name. The permissions of an existing file are those of the new one.

    Raises:
        OSError: no file can be made in the folder, or the disk is full. The message names ``path`` and ``what``.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with replaced_file(f"{folder}/a") as file:
    ...         _ = file.write(b"abc")
    ...     Path(f"{folder}/a").read_bytes()
    b'abc'
    """
    target = Path(path).resolve()  # a link stays a link
    try:
        with new_file_beside(target) as file:
            with contextlib.suppress(OSError):  # there is no such file yet, or it has no permissions that can be set
                os.chmod(file.name, stat.S_IMODE(target.stat().st_mode))
            yield file
            file.flush()
            os.fsync(file.fileno())
            file.close()  # Windows renames no open file
            os.replace(file.name, target)
            _sync_folder(target.parent)
    except OSError as error:
        message = f"{path}: cannot write {what}: {error.strerror or error}"
        if error.errno is None:
            raise type(error)(message) from error
        raise OSError(error.errno, message) from error  # which is of the class that belongs to the number


@contextlib.contextmanager
def new_file_beside(path: Path) -> Iterator[BinaryIO]:
    """A new file in the folder of ``path``, removed at the end unless it has been renamed."""
    # open(), unlike the module tempfile, gives the file the permissions that the user's umask asks for. The name is
    # drawn: that of a process which was killed here stays behind, and the next one may have the same number.
    # It is short enough where the name of the file is as long as names may be.
    temporary = path.with_name(f".{path.name[:40]}.{secrets.token_hex(4)}.part")
    temporary.touch(exist_ok=False)
    try:
        with open(temporary, "r+b") as file:
            yield file
    finally:
        temporary.unlink(missing_ok=True)  # after closing it: Windows removes no open file


def _sync_folder(folder: Path) -> None:
    """Put the new name itself on the disk, where folders can be opened: not on Windows, nor on every network disk."""
    with contextlib.suppress(OSError):
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)
