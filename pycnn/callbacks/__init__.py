"""Callbacks: what is called at the steps of training, testing and predicting.

Source: Keras 3, keras.callbacks.
"""

from __future__ import annotations

from pycnn.callbacks.callback import Callback, CallbackList, History, Logs, ProgbarLogger
from pycnn.callbacks.control import LambdaCallback, LearningRateScheduler, TerminateOnNaN
from pycnn.callbacks.monitored import EarlyStopping, ModelCheckpoint, ReduceLROnPlateau
from pycnn.callbacks.records import CSVLogger, TensorBoard

__all__ = [
    "CSVLogger",
    "Callback",
    "CallbackList",
    "EarlyStopping",
    "History",
    "LambdaCallback",
    "LearningRateScheduler",
    "Logs",
    "ModelCheckpoint",
    "ProgbarLogger",
    "ReduceLROnPlateau",
    "TensorBoard",
    "TerminateOnNaN",
]
