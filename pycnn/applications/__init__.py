"""Networks from the documents that pycnn follows, one file each, ready to compile and train.

The large ones have the arguments of ``keras.applications`` and its names of layers, so that they take the weights that
Keras publishes, from a file that is there already: nothing is downloaded.
"""

from pycnn.applications import imagenet_utils, resnet
from pycnn.applications.batch_normalised import batch_normalised_cnn
from pycnn.applications.cats_and_dogs import cats_and_dogs_cnn
from pycnn.applications.cifar10 import cifar10_cnn
from pycnn.applications.cifar_resnet import OptionAShortcut, cifar_resnet
from pycnn.applications.digits import digits_cnn
from pycnn.applications.inception_v3 import InceptionV3
from pycnn.applications.lenet import lenet_cnn
from pycnn.applications.mlp import mlp
from pycnn.applications.resnet50 import ResNet50
from pycnn.applications.simple import simple_cnn
from pycnn.applications.single_convolution import single_convolution_cnn
from pycnn.applications.vgg16 import VGG16
from pycnn.applications.vgg16_two_classes import vgg16_two_classes
from pycnn.applications.vgg19 import VGG19
from pycnn.applications.xception import Xception

__all__ = [
    "VGG16",
    "VGG19",
    "InceptionV3",
    "OptionAShortcut",
    "ResNet50",
    "Xception",
    "batch_normalised_cnn",
    "cats_and_dogs_cnn",
    "cifar10_cnn",
    "cifar_resnet",
    "digits_cnn",
    "imagenet_utils",
    "lenet_cnn",
    "mlp",
    "resnet",
    "simple_cnn",
    "single_convolution_cnn",
    "vgg16_two_classes",
]
