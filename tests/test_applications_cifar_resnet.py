"""The residual networks for CIFAR-10, and the weights that were trained with PyTorch.

The real ones: PYCNN_TEST_DATA names a folder with cifar-10-batches-py and with weights/resnet20-12fca82f.npz.
"""

from __future__ import annotations

import io
import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pycnn import Tensor
from pycnn.applications import cifar_resnet
from pycnn.applications.cifar_resnet import OptionAShortcut, load_pytorch_weights, preprocess_input
from pycnn.datasets import cifar10
from pycnn.gradient_checks import gradcheck
from pycnn.utils import clear_session, set_random_seed

REAL_DATA = os.environ.get("PYCNN_TEST_DATA")


@pytest.fixture(autouse=True)
def _fresh() -> None:
    clear_session()
    set_random_seed(0)


# -- the shortcut ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(2, 6, 8, 4), (1, 5, 7, 3), (3, 1, 2, 1)])
@pytest.mark.parametrize("zeros", [0, 1, 4])
def test_option_a(shape: tuple[int, ...], zeros: int) -> None:
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    layer = OptionAShortcut(shape[-1] + 2 * zeros)
    y = layer(x).numpy()
    assert y.shape == layer.compute_output_shape(shape)
    for n, i, j, k in np.ndindex(y.shape):
        inside = zeros <= k < zeros + shape[-1]
        assert y[n, i, j, k] == (x[n, 2 * i, 2 * j, k - zeros] if inside else 0)


def test_option_a_has_gradients_and_no_weights() -> None:
    layer = OptionAShortcut(6, dtype="float64")
    assert layer.weights == []
    x = np.random.default_rng(0).normal(size=(2, 5, 4, 2))
    assert gradcheck(layer, [Tensor(x, requires_grad=True)])


def test_option_a_refuses() -> None:
    for shape in [(1, 4, 4, 5), (1, 4, 4, 3), (1, 4, 4)]:
        with pytest.raises(ValueError, match=r"of 4 channels or fewer by an even number, received input shape"):
            OptionAShortcut(4)(np.zeros(shape))
    with pytest.raises(ValueError, match="filters: expected a positive integer, received 0"):
        OptionAShortcut(0)
    assert OptionAShortcut(4).compute_output_shape((None, None, 7, 2)) == (None, None, 4, 4)


# -- the networks ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("depth", "trained"), [(20, 269_722), (32, 464_154), (44, 658_586), (56, 853_018), (110, 1_727_962)]
)
def test_depths(depth: int, trained: int) -> None:
    model = cifar_resnet(depth)
    assert sum(weight.size for weight in model.trainable_weights) == trained
    # A mean and a variance of each channel behind each convolution.
    channels = 16 + (depth - 2) // 3 * (16 + 32 + 64)
    assert model.count_params() == trained + 2 * channels
    assert model.name == f"resnet{depth}"
    kinds = [type(layer).__name__ for layer in model.layers]
    assert kinds.count("Conv2D") + kinds.count("Dense") == depth
    assert kinds.count("OptionAShortcut") == 2
    assert model.output_shape == (None, 10)
    outputs = {layer.name: layer.output.shape for layer in model.layers}
    last = (depth - 2) // 6 - 1
    assert outputs[f"layer1_{last}_relu2"] == (None, 32, 32, 16)
    assert outputs[f"layer2_{last}_relu2"] == (None, 16, 16, 32)
    assert outputs[f"layer3_{last}_relu2"] == (None, 8, 8, 64)


def test_arguments() -> None:
    assert cifar_resnet(8, include_top=False).output_shape == (None, None, None, 64)
    assert cifar_resnet(8, include_top=False, pooling="max").output_shape == (None, 64)
    assert cifar_resnet(8, input_shape=(28, 29, 1), classes=3, name="small").output_shape == (None, 3)
    for depth in (2, 18, 21, 0):
        with pytest.raises(ValueError, match=rf"depth: expected 6 n .* received {depth}"):
            cifar_resnet(depth)
    with pytest.raises(
        ValueError, match=r"fetch https://github.com/akamaster/pytorch_resnet_cifar10 and pass its path"
    ):
        cifar_resnet(20, weights="imagenet")
    with pytest.raises(FileNotFoundError, match=r"received 'nothing.npz'"):
        cifar_resnet(20, weights="nothing.npz")


def test_a_step_of_training_lessens_the_loss() -> None:
    model = cifar_resnet(8, input_shape=(8, 8, 3))
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy")
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(16, 8, 8, 3)), rng.integers(0, 10, 16)
    losses = [model.train_on_batch(x, y) for _ in range(8)]
    assert losses[-1] < losses[0]


def test_files_of_models_have_the_shortcut(tmp_path: Path, python_prints: Callable[..., str]) -> None:
    """Read where nobody has imported the networks."""
    model = cifar_resnet(8, input_shape=(8, 8, 3), classes=2)
    images = np.linspace(0, 1, 192, dtype=np.float32).reshape(1, 8, 8, 3)
    expected = model.predict(images, verbose=0).tolist()
    model.save(tmp_path / "model.pycnn")
    code = f"""
import numpy as np
from pycnn.models import load_model
images = np.linspace(0, 1, 192, dtype=np.float32).reshape(1, 8, 8, 3)
print(load_model({str(tmp_path / "model.pycnn")!r}).predict(images, verbose=0).tolist())
"""
    assert python_prints(code).strip() == str(expected)
    model.save_weights(tmp_path / "model.safetensors")
    again = cifar_resnet(8, input_shape=(8, 8, 3), classes=2, weights=tmp_path / "model.safetensors")
    assert again.predict(images, verbose=0).tolist() == expected


# -- weights from PyTorch -------------------------------------------------------------------------------------------


def torch_state(depth: int) -> dict[str, np.ndarray]:
    """Arrays with the names and shapes of the trained network's, drawn at random."""
    rng = np.random.default_rng(depth)
    state: dict[str, np.ndarray] = {}

    def convolution(name: str, normalisation: str, inputs: int, outputs: int) -> None:
        state[f"{name}.weight"] = rng.normal(size=(outputs, inputs, 3, 3)) * (2 / (9 * inputs)) ** 0.5
        state[f"{normalisation}.weight"] = rng.uniform(0.5, 1.5, outputs)
        state[f"{normalisation}.bias"] = rng.normal(size=outputs) * 0.1
        state[f"{normalisation}.running_mean"] = rng.normal(size=outputs) * 0.1
        state[f"{normalisation}.running_var"] = rng.uniform(0.5, 1.5, outputs)
        state[f"{normalisation}.num_batches_tracked"] = np.array(7)

    convolution("conv1", "bn1", 3, 16)
    channels = 16
    for stage, filters in enumerate((16, 32, 64), 1):
        for block in range((depth - 2) // 6):
            for i, inputs in ((1, channels), (2, filters)):
                convolution(f"layer{stage}.{block}.conv{i}", f"layer{stage}.{block}.bn{i}", inputs, filters)
            channels = filters
    state["linear.weight"], state["linear.bias"] = rng.normal(size=(10, 64)), rng.normal(size=10)
    return {name: array if array.ndim == 0 else array.astype(np.float32) for name, array in state.items()}


def torch_forward(state: dict[str, np.ndarray], depth: int, images: np.ndarray) -> np.ndarray:
    """The logits by PyTorch's functions, images (n, 3, 32, 32)."""
    torch = pytest.importorskip("torch")
    F = torch.nn.functional
    weights = {name: torch.from_numpy(np.array(array)) for name, array in state.items()}

    def convolved(x: Any, name: str, normalisation: str, stride: int = 1) -> Any:
        x = F.conv2d(x, weights[f"{name}.weight"], stride=stride, padding=1)
        parts = (weights[f"{normalisation}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, *parts, eps=1e-5)

    x = F.relu(convolved(torch.from_numpy(images), "conv1", "bn1"))
    for stage in (1, 2, 3):
        for block in range((depth - 2) // 6):
            name, shrinks = f"layer{stage}.{block}", stage > 1 and block == 0
            shortcut = x
            if shrinks:
                zeros = 8 if stage == 2 else 16
                shortcut = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, zeros, zeros))
            y = F.relu(convolved(x, f"{name}.conv1", f"{name}.bn1", 2 if shrinks else 1))
            x = F.relu(convolved(y, f"{name}.conv2", f"{name}.bn2") + shortcut)
    return F.linear(x.mean((2, 3)), weights["linear.weight"], weights["linear.bias"]).numpy()


@pytest.mark.parametrize("depth", [20, 32])
def test_weights_from_pytorch_give_pytorchs_logits(depth: int, tmp_path: Path) -> None:
    state = torch_state(depth)
    np.savez(tmp_path / "weights.npz", **state)
    model = cifar_resnet(depth, weights=tmp_path / "weights.npz", classifier_activation=None)
    images = np.random.default_rng(1).normal(size=(3, 32, 32, 3)).astype(np.float32)
    expected = torch_forward(state, depth, np.moveaxis(images, -1, 1).copy())
    assert expected.std() > 0.1
    np.testing.assert_allclose(model.predict(images, verbose=0), expected, rtol=1e-3, atol=1e-4 * abs(expected).max())


def zipped(path: Path, arrays: dict[str, Any]) -> Path:
    """A .npz file; bytes stand for the whole content of a member."""
    with zipfile.ZipFile(path, "w") as file:
        for name, array in arrays.items():
            content = io.BytesIO()
            if isinstance(array, bytes):
                content.write(array)
            else:
                np.lib.format.write_array(content, array)
            file.writestr(f"{name}.npy", content.getvalue())
    return path


def npy(header: str, data: bytes = b"") -> bytes:
    raw = header.encode().ljust(118) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(raw)) + raw + data


def test_damaged_and_hostile_files_change_nothing(tmp_path: Path) -> None:
    state = torch_state(8)
    model = cifar_resnet(8)
    before = model.get_weights()
    path = tmp_path / "weights.npz"
    bias = "linear.bias"
    without = {name: array for name, array in state.items() if name != bias}
    files: dict[str, dict[str, Any]] = {
        r"missing \['linear.bias'\], not expected \[\]": without,
        r"missing \[\], not expected \['head'\]": {**state, "head": state[bias]},
        r"linear.bias: expected floating-point numbers of shape \(10,\), received float32 \(9,\)": {
            **state,
            bias: state[bias][:9],
        },
        r"received int64 \(10,\)": {**state, bias: np.arange(10)},
        "received object": {**state, bias: npy("{'descr': '|O', 'fortran_order': False, 'shape': (10,)}", b"cos\n")},
        r"received float32 \(1099511627776,\)": {
            **state,
            bias: npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776,)}", bytes(40)),
        },
        "expected the weights of a network with these layers": {
            **state,
            bias: npy("{'descr': '<f4', 'fortran_order': False, 'shape': (10,)}", bytes(39)),
        },
        "expected version 1.0": {**state, bias: b"\x93NUMPY\x02\x00" + bytes(100)},
        "weights.npz: expected the weights of a network": {**state, bias: b"nothing"},
    }
    for message, arrays in files.items():
        with pytest.raises(ValueError, match=message):
            load_pytorch_weights(model, zipped(path, arrays))
    whole = zipped(path, state).read_bytes()
    for content in (b"", b"PK", whole[:-1], whole[: len(whole) // 2], b"\0" * 1000):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"weights.npz: expected the weights of a network with these layers"):
            load_pytorch_weights(model, path)
    damaged = bytearray(whole)
    damaged[len(whole) // 3] ^= 255
    path.write_bytes(damaged)
    with pytest.raises(ValueError, match=r"weights.npz: expected the weights of a network with these layers"):
        load_pytorch_weights(model, path)
    with pytest.raises(FileNotFoundError):
        load_pytorch_weights(model, tmp_path / "nothing.npz")
    for mine, kept in zip(model.get_weights(), before):
        np.testing.assert_array_equal(mine, kept)
    with pytest.raises(ValueError, match=r"missing \['layer1.1.bn1.bias'"):
        load_pytorch_weights(cifar_resnet(20), zipped(path, state))


@pytest.mark.skipif(
    not REAL_DATA, reason="set PYCNN_TEST_DATA to a folder with cifar-10-batches-py and weights/resnet20-12fca82f.npz"
)
def test_the_trained_resnet20_is_as_good_as_its_authors_say() -> None:
    model = cifar_resnet(20, weights=Path(str(REAL_DATA), "weights", "resnet20-12fca82f.npz"))
    _, (images, labels) = cifar10.load_data(REAL_DATA)
    scores = model.predict(preprocess_input(images), batch_size=100, verbose=0)
    assert int((scores.argmax(axis=1) == labels[:, 0]).sum()) == 9_173
