"""Networks from the documents that pycnn follows, one file each, ready to compile and train."""

from pycnn.applications.cifar10 import cifar10_cnn
from pycnn.applications.digits import digits_cnn

__all__ = ["cifar10_cnn", "digits_cnn"]
