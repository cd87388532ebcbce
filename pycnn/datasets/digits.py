"""The 1,797 handwritten digits of UCI: real images small enough to live inside the package.

Source: E. Alpaydin and C. Kaynak (1998), Optical Recognition of Handwritten Digits, UCI Machine
Learning Repository, https://doi.org/10.24432/C50P49, the test part. Licence: CC BY 4.0,
https://creativecommons.org/licenses/by/4.0/. ``digits.txt`` beside this file says how it was packed.
"""

from __future__ import annotations

from importlib import resources

import numpy as np
from numpy.typing import NDArray

from pycnn.datasets._errors import DataError

TEST_FRACTION = 0.2
_SPLIT_SEED = 1998

_Part = tuple[NDArray[np.uint8], NDArray[np.uint8]]


def load_data() -> tuple[_Part, _Part]:
    """Load the digits, split into 1,438 images to train and 359 to test.

    The split is the same in every call and on every machine, shuffled, and takes a fifth of each
    class to test. Both parts hold digits of the same 13 people, so the test accuracy speaks of new
    digits by known hands; on new hands it is lower.

    Returns:
        ``(x_train, y_train), (x_test, y_test)``. Images are uint8 of shape (n, 8, 8, 1), channels
        last, ink from 0 (none) to 16; divide by 16 to train. Labels are uint8 of shape (n,), 0 to 9.

    Raises:
        DataError: if the file inside the package is damaged.

    Source: E. Alpaydin and C. Kaynak (1998), Optical Recognition of Handwritten Digits, UCI Machine
    Learning Repository, DOI 10.24432/C50P49, CC BY 4.0.

    Example:
        >>> from pycnn.datasets import digits
        >>> (x_train, y_train), (x_test, y_test) = digits.load_data()
        >>> x_train.shape, x_test.shape, x_train.dtype, int(x_train.max())
        ((1438, 8, 8, 1), (359, 8, 8, 1), dtype('uint8'), 16)
        >>> y_train[:8]
        array([2, 2, 2, 6, 7, 7, 3, 3], dtype=uint8)
    """
    images, labels = _read()
    train, test = _split(labels)
    return (images[train], labels[train]), (images[test], labels[test])


def _read() -> _Part:
    """All images (1797, 8, 8, 1) and labels (1797,) in the order of the source."""
    path = resources.files(__package__) / "digits.npz"
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            images, labels = arrays["images"], arrays["labels"]
    # A flipped bit in the headers of zip or npy raises nearly anything: BadZipFile, NotImplementedError,
    # TokenError, KeyError ...
    except Exception as error:
        raise DataError(
            f"{path}: expected the arrays 'images' and 'labels', received a missing or damaged file "
            f"({error}); install pycnn again"
        ) from error
    return images[..., np.newaxis], labels


def _split(labels: NDArray[np.uint8]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The positions of the images to train and of those to test, both shuffled.

    The source is ordered by writer, ten digits by ten: cut as it is, one part would lack some hands,
    and a batch would be one person's writing. So it is shuffled first. Each class gives the same
    share, since 359 images are few enough for an unlucky class to move the accuracy.
    """
    # RandomState, because NumPy guarantees its numbers for ever (NEP 19); those of Generator may change.
    shuffled = np.random.RandomState(_SPLIT_SEED).permutation(len(labels))
    is_test = np.zeros(len(labels), dtype=bool)
    for digit in range(10):
        members = shuffled[labels[shuffled] == digit]
        is_test[members[: round(TEST_FRACTION * len(members))]] = True
    return shuffled[~is_test[shuffled]], shuffled[is_test[shuffled]]
