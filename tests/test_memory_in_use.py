"""A training loop takes no memory after its first step."""

from __future__ import annotations

import gc
import sys
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import pycnn
from pycnn import Tensor
from pycnn import functional as F
from pycnn import layers as L
from pycnn.applications import cifar10_cnn
from pycnn.callbacks import Callback
from pycnn.elementary import elementwise, where
from pycnn.models import Sequential
from pycnn.utils import clear_session, set_random_seed
from pycnn_kernels.memory import POOL_FROM
from pycnn_kernels.problem import numpy_dtype

pytestmark = pytest.mark.usefixtures("few_objects")

#: Arrays of 32 KB come from the pool. NumPy converts between dtypes by 8192 elements, in a buffer that it takes for
#: that: 32 KB of float32, and something around it.
MOST = POOL_FROM + 8 * 1024


class Watch(Callback):
    """From the second step on, every place that takes more than :data:`MOST` bytes at a time outside of the pool.

    tracemalloc knows the most that Python and NumPy held since it was asked last, and it is asked at each call and
    return: more than that much in between is one large array, or is made of arrays that are large together.
    """

    def __init__(self) -> None:
        super().__init__()
        self.taken: list[str] = []
        self.stats: list[pycnn.MemoryStats] = []
        self._held: int | None = None

    def _event(self, frame: Any, event: str, argument: object) -> None:
        held, peak = tracemalloc.get_traced_memory()
        if self._held is not None and peak - self._held > MOST:
            place = f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"
            self.taken.append(f"{peak - self._held:,} bytes at {event} of {place}")
        self._held = held
        tracemalloc.reset_peak()

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        self.stats.append(pycnn.memory_stats())
        if batch == 0:
            tracemalloc.start()
            sys.setprofile(self._event)

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        sys.setprofile(None)
        tracemalloc.stop()


def small(*behind: L.Layer, **compiled: Any) -> Sequential:
    model = Sequential([L.Conv2D(16, 3, activation="relu", input_shape=(32, 32, 3)), *behind])
    model.compile(**compiled)
    return model


def documented() -> Sequential:
    model = cifar10_cnn()
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


NETWORKS: dict[str, Callable[[], Sequential]] = {
    "the CIFAR-10 network": documented,
    "dropout, mean squares": lambda: small(
        L.AveragePooling2D(),
        L.Dropout(0.3),
        L.Dropout(0.3, seed=1),
        L.Flatten(),
        L.Dense(10),
        optimizer="sgd",
        loss="mse",
    ),
    "activations": lambda: small(
        L.Activation("tanh"),
        L.MaxPooling2D(),
        L.Activation("relu"),
        L.Activation("sigmoid"),
        L.Flatten(),
        L.Dense(10, activation="softmax"),
        loss="categorical_crossentropy",
        metrics=["accuracy"],
    ),
    "binary crossentropy": lambda: small(L.Flatten(), L.Dense(10, activation="sigmoid"), loss="binary_crossentropy"),
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("shuffle", [True, False], ids=["shuffled", "in order"])
def test_nothing_is_allocated_after_the_first_step(name: str, shuffle: bool) -> None:
    clear_session()
    set_random_seed(0)
    model = NETWORKS[name]()
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (250, 32, 32, 3), np.uint8)
    labels = random.integers(0, 10, (250, 1))
    watch = Watch()
    gc.collect()  # what earlier tests have left would be let go in the middle of this one
    pycnn.release_memory()
    pycnn.reset_memory_stats()
    one_hot = model.objective.loss.name != "sparse_categorical_crossentropy"
    model.fit(
        images,
        np.eye(10)[labels[:, 0]] if one_hot else labels,
        batch_size=50,
        verbose=0,
        shuffle=shuffle,
        callbacks=[watch],
    )
    assert watch.taken == []
    first, *others = watch.stats
    assert len(others) == 4
    assert first.made > 0
    for found in others:
        assert (found.made, found.lent) == (first.made, first.lent)
        assert (
            found.workspace <= first.workspace
        )  # less where a thread of an earlier test has ended, and let go of its own
    assert others[-1].reused > others[0].reused > 0


class Ready(pycnn.utils.PyDataset):
    """Images that are there already, in batches of 50."""

    def __init__(self, images: np.ndarray, labels: np.ndarray) -> None:
        super().__init__()
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.images) // 50

    def __getitem__(self, index: int) -> Any:
        part = slice(50 * index, 50 * index + 50)
        return self.images[part], self.labels[part]


@pytest.mark.parametrize("source", ["arrays", "a data set", "a generator"])
def test_nothing_is_allocated_with_weights_and_for_other_sources(source: str) -> None:
    set_random_seed(0)
    model = small(
        L.MaxPooling2D(),
        L.Flatten(),
        L.Dense(10, activation="softmax"),
        loss="sparse_categorical_crossentropy",
        weighted_metrics=["accuracy"],
    )
    images = np.random.default_rng(0).integers(0, 256, (250, 32, 32, 3), np.uint8)
    labels = np.random.default_rng(0).integers(0, 10, (250, 1))
    batches = Ready(images, labels)
    given: dict[str, Any] = {
        "arrays": {"x": images, "y": labels, "batch_size": 50, "class_weight": {0: 2.0}},
        "a data set": {"x": batches, "class_weight": {0: 2.0}},
        "a generator": {"x": ((x, y, np.ones(50)) for x, y in batches)},
    }[source]
    watch = Watch()
    gc.collect()
    pycnn.release_memory()
    pycnn.reset_memory_stats()
    model.fit(**given, verbose=0, callbacks=[watch])
    assert watch.taken == []
    first, *others = watch.stats
    assert len(others) == 4
    for found in others:
        assert (found.made, found.lent) == (first.made, first.lent)


def test_a_large_array_is_noticed() -> None:
    """The watch above would pass everything if it saw nothing."""

    def wasteful(truth: Any, predictions: Tensor) -> Tensor:
        np.empty(MOST // 8 + 100)
        return F.relu(predictions).sum(axis=1)

    model = small(L.Flatten(), L.Dense(1), loss=wasteful)
    watch = Watch()
    x = np.zeros((150, 32, 32, 3), np.float32)
    model.fit(x, np.zeros((150, 1)), batch_size=50, verbose=0, callbacks=[watch])
    assert len(watch.taken) == 2
    assert all("wasteful" in place for place in watch.taken)


def test_training_within_the_memory_that_it_needs() -> None:
    """The limit lets go of what waits, and changes no bit; below what is lent at a time there is no training."""
    images = np.random.default_rng(0).random((150, 32, 32, 3), np.float32)
    labels = np.random.default_rng(0).integers(0, 10, (150, 1))

    def trained(room: int | None) -> list[np.ndarray]:
        clear_session()
        gc.collect()  # models that are no longer used, whose optimizers' memory is lent
        set_random_seed(0)
        model = documented()
        model.build_for((None, 32, 32, 3))
        weights = [weight.detach().numpy() for weight in model.weights]
        before = [weight.copy() for weight in weights]
        pycnn.release_memory()
        pycnn.reset_memory_stats()
        if room is not None:
            pycnn.set_memory_limit(pycnn.memory_stats().lent + room)
        try:
            model.fit(images, labels, batch_size=50, verbose=0)
        except pycnn.MemoryLimitError:
            np.testing.assert_equal(weights, before)
            raise
        finally:
            pycnn.set_memory_limit(None)
        return weights

    gc.collect()
    begin = pycnn.memory_stats().lent
    free = trained(None)
    needed = pycnn.memory_stats()
    np.testing.assert_equal(trained(needed.peak - begin + needed.workspace), free)
    with pytest.raises(pycnn.MemoryLimitError, match=r"needs .* bytes beside the .* in use; the memory limit is"):
        trained((needed.peak - begin) // 2)


# -- arithmetic in memory that is used again -------------------------------------------------------------------------

SHAPE = (40, 1000)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
def test_where_is_numpys(dtype: str, rng: np.random.Generator) -> None:
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    kind = numpy_dtype(dtype)
    x, y = (rng.standard_normal(SHAPE).astype(kind) for _ in range(2))
    x[0, :4] = y[1, :4] = [np.nan, np.inf, -np.inf, -0.0]
    mask = rng.random(SHAPE) < 0.5
    mask[0, :2] = mask[1, :2] = False
    bits = f"u{kind.itemsize}"
    for a, b in [(x, y), (x, kind.type(0)), (kind.type(1), y), (kind.type(-2), kind.type(3)), (x.T.copy().T, y)]:
        for m in (mask, mask[:3], mask.T.copy().T):
            some, others = (z[: len(m)] if z.ndim else z for z in (a, b))
            found = where(m, some, others)
            assert found.dtype == kind
            np.testing.assert_array_equal(found.view(bits), np.where(m, some, others).view(bits))


@pytest.mark.parametrize("other", [(40, 1000), (1000,), (40, 1), (), (1, 1), (3, 40, 1000), (1, 40, 1000), (1, 1, 1)])
@pytest.mark.parametrize(
    "dtypes", [("float32", "float32"), ("float32", "float64"), ("float64", "int64"), ("int8", "int8")]
)
def test_elementwise_is_numpys(other: tuple[int, ...], dtypes: tuple[str, str], rng: np.random.Generator) -> None:
    a, b = ((10 * rng.random(shape)).astype(dtype) for shape, dtype in zip((SHAPE, other), dtypes))
    for first, second in [(a, b), (b, a), (a[:, ::2], b[..., ::2] if b.ndim and b.shape[-1] > 1 else b)]:
        for ufunc in (np.add, np.subtract, np.multiply):
            found, expected = elementwise(ufunc, first, second), ufunc(first, second)
            assert found.dtype == expected.dtype
            np.testing.assert_array_equal(found, expected)


def test_operands_that_do_not_fit_are_refused_as_numpy_does() -> None:
    with pytest.raises(ValueError, match="could not be broadcast together"):
        elementwise(np.add, np.zeros(SHAPE), np.zeros((40, 999)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_large_activations_have_the_bits_of_small_ones(dtype: str, rng: np.random.Generator) -> None:
    x = rng.standard_normal((64, 640)).astype(dtype)
    x[0, :4] = [np.nan, np.inf, -np.inf, 0]
    for function in (F.relu, F.tanh, F.sigmoid):
        whole = Tensor(x, requires_grad=True)
        result = function(whole)
        result.backward(x)
        for row in range(0, 64, 8):
            part = Tensor(x[row : row + 8], requires_grad=True)
            found = function(part)
            found.backward(x[row : row + 8])
            np.testing.assert_array_equal(found.detach().numpy(), result.detach().numpy()[row : row + 8])
            np.testing.assert_array_equal(part.grad.numpy(), whole.grad.numpy()[row : row + 8])
