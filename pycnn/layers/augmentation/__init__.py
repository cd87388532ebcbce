"""Layers that change images at random while training, so that a network sees each of them in many ways."""

from pycnn.layers.augmentation.random_affine import RandomRotation, RandomTranslation, RandomZoom
from pycnn.layers.augmentation.random_crop import RandomCrop
from pycnn.layers.augmentation.random_flip import RandomFlip
from pycnn.layers.augmentation.random_tone import RandomBrightness, RandomContrast

__all__ = [
    "RandomBrightness",
    "RandomContrast",
    "RandomCrop",
    "RandomFlip",
    "RandomRotation",
    "RandomTranslation",
    "RandomZoom",
]
