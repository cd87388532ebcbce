"""What can go wrong with data that comes from outside the program."""


class DataError(ValueError):
    """A data file is not what it should be: truncated, corrupt, of another format, or hostile.

    The message names the file, what was expected and what was received.
    """


class DownloadError(DataError, OSError):
    """A download did not complete: no connection, a cut one, a full disk, or other bytes than expected.

    Also an :class:`OSError`, which is what most of its causes are. Files that existed before are intact.
    """
