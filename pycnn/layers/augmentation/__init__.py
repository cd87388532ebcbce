"""Layers that change images at random while training, so that a network sees each of them in many ways."""

from pycnn.layers.augmentation.random_affine import RandomRotation, RandomTranslation, RandomZoom
from pycnn.layers.augmentation.random_flip import RandomFlip

__all__ = ["RandomFlip", "RandomRotation", "RandomTranslation", "RandomZoom"]
