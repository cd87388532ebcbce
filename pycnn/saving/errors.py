"""What is wrong with a file."""

from __future__ import annotations


class InvalidFileError(ValueError):
    """A file of weights or of a model cannot be taken: it is damaged, hostile, or of something else.

    Nothing has been changed when it is raised. The message names the file and says what was expected.
    """
