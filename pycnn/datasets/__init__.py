"""Data sets of real images, with Keras' interface: ``(x_train, y_train), (x_test, y_test) = load_data()``.

===========  ======================  ==========  ======================================
module       images                  size        where they come from
===========  ======================  ==========  ======================================
`digits`     1,797 of 8 x 8 x 1      45 kB       inside the package
`cifar10`    60,000 of 32 x 32 x 3   163 MiB     a folder, an archive, or a download
===========  ======================  ==========  ======================================
"""

from pycnn.datasets import cifar10, digits
from pycnn.datasets._errors import DataError, DownloadError

__all__ = ["DataError", "DownloadError", "cifar10", "digits"]
