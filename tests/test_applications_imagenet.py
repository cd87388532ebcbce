"""What networks for ImageNet take and say: prepared photographs, names of classes, arguments that are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pycnn
from pycnn import Tensor, applications
from pycnn.applications import imagenet_utils, inception_v3, resnet, resnet50, vgg16, vgg19, xception
from pycnn.applications.imagenet_utils import decode_predictions, preprocess_input

MODES = ("caffe", "tf", "torch")
OF_NETWORKS = {vgg16: "caffe", vgg19: "caffe", resnet50: "caffe", resnet: "caffe", inception_v3: "tf", xception: "tf"}


def photographs(dtype: str = "float32", shape: tuple[int, ...] = (2, 5, 4, 3)) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, shape).astype(dtype)


def prepared(x: np.ndarray, mode: str) -> np.ndarray:
    """Pixel by pixel in float64, channels last."""
    y = np.empty(x.shape)
    for *place, red, green, blue in ((*i, *map(float, x[i])) for i in np.ndindex(x.shape[:-1])):
        if mode == "tf":
            pixel = [value / 127.5 - 1 for value in (red, green, blue)]
        elif mode == "torch":
            pixel = [
                (value / 255 - mean) / deviation
                for value, mean, deviation in zip(
                    (red, green, blue), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), strict=True
                )
            ]
        else:
            pixel = [blue - 103.939, green - 116.779, red - 123.68]
        y[tuple(place)] = pixel
    return y


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", ["uint8", "int32", "float16", "float32", "float64"])
def test_preprocess_input(mode: str, dtype: str) -> None:
    x = photographs(dtype)
    before = x.copy()
    y = preprocess_input(x, mode=mode)
    assert y.dtype == (dtype if "float" in dtype else "float32")
    precision = {"float16": 1e-3, "float64": 1e-14}.get(dtype, 1e-6)
    np.testing.assert_allclose(y, prepared(x, mode), rtol=precision, atol=100 * precision)
    np.testing.assert_array_equal(x, before)
    first = preprocess_input(np.moveaxis(x, -1, 1), "channels_first", mode)
    np.testing.assert_array_equal(np.moveaxis(first, 1, -1), y)
    np.testing.assert_array_equal(preprocess_input(x[0], mode=mode), y[0])


@pytest.mark.parametrize("mode", MODES)
def test_preprocess_input_of_tensors_has_a_gradient(mode: str) -> None:
    x = Tensor(photographs(), requires_grad=True)
    y = preprocess_input(x, mode=mode)
    np.testing.assert_array_equal(y.detach().numpy(), preprocess_input(x.detach().numpy(), mode=mode))
    weights = np.random.default_rng(2).normal(size=y.shape).astype(np.float32)
    (y * weights).sum().backward()
    assert x.grad is not None
    # Each mode is linear: the gradient is what one more of a pixel adds.
    slope = {"caffe": np.ones(3), "tf": np.full(3, 1 / 127.5), "torch": 1 / 255 / np.array([0.229, 0.224, 0.225])}
    order = weights[..., ::-1] if mode == "caffe" else weights
    np.testing.assert_allclose(x.grad.numpy(), order * slope[mode], rtol=1e-5)


@pytest.mark.parametrize("network", OF_NETWORKS, ids=lambda module: module.__name__.rpartition(".")[2])
def test_preprocess_input_of_networks(network: Any) -> None:
    x = photographs("uint8")
    np.testing.assert_array_equal(network.preprocess_input(x), preprocess_input(x, mode=OF_NETWORKS[network]))
    first = np.moveaxis(x, -1, 1)
    np.testing.assert_array_equal(
        network.preprocess_input(first, data_format="channels_first"),
        preprocess_input(first, "channels_first", OF_NETWORKS[network]),
    )
    assert network.decode_predictions is decode_predictions


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
def test_preprocess_input_is_keras(mode: str, data_format: str, dtype: str) -> None:
    keras = pytest.importorskip("keras", reason="Keras is in the extra 'peers'")
    x = photographs(dtype, (2, 3, 5, 3))
    theirs = keras.applications.imagenet_utils.preprocess_input(x.copy(), data_format=data_format, mode=mode)
    ours = preprocess_input(x, data_format, mode)
    assert ours.dtype == theirs.dtype
    np.testing.assert_array_equal(ours, theirs)


def test_preprocess_input_refuses() -> None:
    with pytest.raises(ValueError, match="mode: expected one of 'caffe', 'tf', 'torch', received 'tensorflow'"):
        preprocess_input(photographs(), mode="tensorflow")
    with pytest.raises(ValueError, match="data_format: expected one of"):
        preprocess_input(photographs(), "NHWC")
    with pytest.raises(ValueError, match=r"\(n, height, width, 3\), or one without n, received \(2, 5, 4, 1\)"):
        preprocess_input(photographs(shape=(2, 5, 4, 1)))
    with pytest.raises(ValueError, match=r"\(n, 3, height, width\), or one without n, received \(2, 5, 4, 3\)"):
        preprocess_input(photographs(), "channels_first", "torch")
    with pytest.raises(ValueError, match=r"received \(3,\)"):
        preprocess_input(np.ones(3))
    with pytest.raises(TypeError, match="x must hold real numbers; received complex128"):
        preprocess_input(np.ones((2, 2, 3), complex), mode="tf")


# -- names of classes -----------------------------------------------------------------------------------------------


@pytest.fixture
def class_index(tmp_path: Path) -> Path:
    path = tmp_path / "imagenet_class_index.json"
    path.write_text(json.dumps({str(k): [f"n{k:08}", f"class_{k}"] for k in range(1000)}), encoding="utf-8")
    return path


def test_decode_predictions(class_index: Path) -> None:
    scores = np.random.default_rng(1).random((3, 1000)).astype(np.float32)
    found = decode_predictions(scores, top=4, class_index=class_index)
    assert [len(row) for row in found] == [4, 4, 4]
    for row, expected in zip(found, scores):
        likeliest = sorted(range(1000), key=lambda k: -expected[k])[:4]
        assert row == [(f"n{k:08}", f"class_{k}", expected[k]) for k in likeliest]
    assert decode_predictions(Tensor(scores), 4, str(class_index)) == found
    assert len(decode_predictions(scores)[0]) == 5


def test_decode_predictions_is_keras(class_index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("keras", reason="Keras is in the extra 'peers'")
    from keras.src.applications import imagenet_utils as theirs

    monkeypatch.setattr(theirs, "CLASS_INDEX", json.loads(class_index.read_text()))  # it would download it
    scores = np.random.default_rng(4).random((3, 1000))
    assert decode_predictions(scores, 7, class_index) == theirs.decode_predictions(scores, top=7)


def test_decode_predictions_without_names_gives_numbers() -> None:
    scores = np.zeros((2, 1000))
    scores[0, 999], scores[1, [3, 5]] = 1.0, 0.5
    assert decode_predictions(scores, 1) == [[("999", "999", 1.0)], [("3", "3", 0.5)]]


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint64", "bool", "float16"])
def test_decode_predictions_of_any_dtype(dtype: str) -> None:
    scores = np.zeros((1, 1000), dtype)
    limits = {"uint8": (200, 7), "int8": (1, 0), "uint64": (2**64 - 1, 2**63), "bool": (True, True), "float16": (2, 1)}
    scores[0, 281], scores[0, 7] = limits[dtype]
    if dtype == "int8":
        scores[0, 3] = -128
    ((first, second, third),) = decode_predictions(scores, 3)
    expected = ["7", "281"] if dtype == "bool" else ["281", "0"] if dtype == "int8" else ["281", "7"]
    assert [first[0], second[0]] == expected
    assert third[2] == 0


def test_decode_predictions_refuses(class_index: Path, tmp_path: Path) -> None:
    scores = np.zeros((1, 1000))
    with pytest.raises(ValueError, match=r"shape \(n, 1000\), received \(1000,\)"):
        decode_predictions(scores[0])
    with pytest.raises(ValueError, match=r"shape \(n, 1000\), received \(1, 10\)"):
        decode_predictions(scores[:, :10])
    with pytest.raises(ValueError, match="top: expected a positive integer, received 0"):
        decode_predictions(scores, top=0)
    with pytest.raises(TypeError, match="preds must hold real numbers; received complex128"):
        decode_predictions(scores.astype(complex))
    with pytest.raises(FileNotFoundError):
        decode_predictions(scores, class_index=tmp_path / "nothing")
    names = json.loads(class_index.read_text())
    wrong = tmp_path / "wrong.json"
    for content in (
        "{",
        "[]",
        "3",
        "[" * 100_000,
        json.dumps(dict(list(names.items())[:-1])),
        json.dumps({**names, "7": ["one name"]}),
        json.dumps({**names, "7": [1, 2]}),
        json.dumps({**names, "7": None}),
    ):
        wrong.write_text(content)
        with pytest.raises(ValueError, match=r"wrong.json: expected the class names of ImageNet"):
            decode_predictions(scores, class_index=wrong)
    wrong.write_bytes(b"\xff\xfe\xff")
    with pytest.raises(ValueError, match=r"wrong.json: expected the class names of ImageNet"):
        decode_predictions(scores, class_index=wrong)


# -- arguments of networks ------------------------------------------------------------------------------------------

LARGE = ("VGG16", "VGG19", "ResNet50", "InceptionV3", "Xception")


def test_the_arguments_are_those_of_keras() -> None:
    import inspect

    for name in LARGE:
        arguments = inspect.signature(getattr(applications, name)).parameters
        assert {each: parameter.default for each, parameter in arguments.items()} == {
            "include_top": True,
            "weights": None,
            "input_tensor": None,
            "input_shape": None,
            "pooling": None,
            "classes": 1000,
            "classifier_activation": "softmax",
            "name": {"InceptionV3": "inception_v3"}.get(name, name.lower()),
        }


@pytest.mark.parametrize("name", LARGE)
@pytest.mark.parametrize("include_top", [True, False])
def test_imagenet_weights_are_not_downloaded(name: str, include_top: bool) -> None:
    file = {"InceptionV3": "inception_v3"}.get(name, name.lower()) + "_weights_tf_dim_ordering_tf_kernels"
    file += ".h5" if include_top else "_notop.h5"
    with pytest.raises(ValueError, match=f"downloads nothing: fetch https://storage.googleapis.com/.*/{file} and pass"):
        getattr(applications, name)(include_top, "imagenet")


@pytest.mark.parametrize("name", LARGE)
def test_arguments_are_refused_before_anything_is_made(name: str, tmp_path: Path) -> None:
    build = getattr(applications, name)
    before = pycnn.memory_stats()
    with pytest.raises(FileNotFoundError, match=r"weights: expected None or the path of a file, received 'nothing.h5'"):
        build(weights="nothing.h5")
    with pytest.raises(TypeError, match="weights: expected None or the path of a file, received 3"):
        build(weights=3)
    (tmp_path / "some.h5").write_bytes(b"")
    with pytest.raises(ValueError, match="classifier_activation: expected 'softmax' or None with trained weights"):
        build(weights=tmp_path / "some.h5", classifier_activation="relu")
    least = {"InceptionV3": 75, "Xception": 71}.get(name, 32)
    with pytest.raises(ValueError, match=f"input_shape: expected at least {least} x {least} pixels"):
        build(include_top=False, input_shape=(400, least - 1, 3))
    with pytest.raises(ValueError, match="input_shape: expected known sizes with include_top=True"):
        build(input_shape=(None, 300, 3))
    with pytest.raises(ValueError, match=r"input_shape: expected \(height, width, channels\)"):
        build(input_shape=(300, 300))
    assert pycnn.memory_stats() == before


def test_an_unknown_pooling_is_refused() -> None:
    with pytest.raises(ValueError, match=r"pooling: expected one of 'avg', 'max', received 'average'"):
        applications.Xception(include_top=False, pooling="average")


def test_the_modules_of_keras_are_there() -> None:
    assert applications.vgg16.VGG16 is applications.VGG16  # type: ignore[attr-defined]
    assert resnet.ResNet50 is resnet50.ResNet50 is applications.ResNet50
    assert imagenet_utils.preprocess_input is preprocess_input
