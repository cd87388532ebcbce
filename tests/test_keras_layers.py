"""Every layer beside Keras': arguments, shapes, outputs, gradients, weights, names, refusals."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pycnn import Tensor, activations, constraints, regularizers
from pycnn import layers as L
from pycnn.layers.auto_name import snake_case
from pycnn.utils import clear_session, set_random_seed

keras = pytest.importorskip("keras", reason="Keras is in the extra 'peers'")
torch = pytest.importorskip("torch", reason="PyTorch is in the extra 'peers'")
if keras.backend.backend() != "torch":
    pytest.skip("the comparison is with Keras on PyTorch: set KERAS_BACKEND=torch", allow_module_level=True)

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:keras", "ignore:Do not pass an `input_shape`")
RNG = np.random.default_rng(17)
Shape = tuple[int, ...]

#: Our own, which Keras has not.
OURS = {"LpPooling2D", "MixedPooling2D"}


@pytest.fixture(autouse=True)
def _fresh() -> None:
    clear_session()
    set_random_seed(0)
    keras.utils.set_random_seed(0)


def names_of_layers() -> list[str]:
    """All but those of tests/test_merging_layers.py."""
    merging = "pycnn.layers.merging"
    return [name for name in L.__all__ if name not in OURS and getattr(L, name).__module__ != merging]


# -- the classes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in names_of_layers() if name not in ("Input", "InputLayer")])
def test_arguments(name: str) -> None:
    """The same names in the same order, with the same defaults; a pair of equal numbers is the number."""

    def arguments(module: Any) -> dict[str, Any]:
        constructor = getattr(module, name).__init__
        parameters = list(inspect.signature(constructor).parameters.values())[1:]
        if any(p.kind is p.VAR_POSITIONAL for p in parameters):  # the arguments of the base class follow
            base = list(inspect.signature(getattr(module, name).__mro__[1].__init__).parameters.values())[1:]
            parameters = [*parameters[:-2], *(each for each in base if each.name not in {p.name for p in parameters})]
        found = {p.name: p.default for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
        return {key: value[0] if isinstance(value, tuple) else value for key, value in found.items()}

    ours, theirs = arguments(L), arguments(keras.layers)
    for not_ours in ("lora_rank", "lora_alpha", "quantization_config", "synchronized"):
        theirs.pop(not_ours, None)
    theirs = {key: value for key, value in theirs.items() if not key.startswith("renorm")}
    more = {"rms_scaling", "input_shape", "input_dim", "data_format" if name == "SpatialDropout1D" else ""}
    assert [key for key in ours if key not in more] == list(theirs)
    for key, default in theirs.items():
        # The pooling of averages had a default of 2 in earlier versions, and has it here.
        if not (key == "pool_size" and default is inspect.Parameter.empty):
            assert str(ours[key]).lower() == str(default).lower(), key


@pytest.mark.parametrize("name", names_of_layers())
def test_class_names_and_aliases(name: str) -> None:
    theirs = getattr(keras.layers, name)
    ours = getattr(L, name)
    assert ours.__name__ == theirs.__name__
    if isinstance(theirs, type):
        assert snake_case(name) == keras.src.utils.naming.to_snake_case(name)


# -- outputs and gradients -------------------------------------------------------------------------------------------


def both(name: str, arguments: dict[str, Any], shape: Shape) -> tuple[Any, Any]:
    """The layer here and in Keras, built for samples of ``shape``, with the same random weights."""
    ours, theirs = getattr(L, name)(**arguments), getattr(keras.layers, name)(**arguments)
    ours.build_for((None, *shape))
    theirs.build((None, *shape))
    assert [weight.shape for weight in ours.weights] == [tuple(weight.shape) for weight in theirs.weights]
    assert list(ours.named_weights()) == [weight.name for weight in theirs.weights]
    trained = [id(weight) for weight in theirs.trainable_weights]
    assert [weight.requires_grad for weight in ours.weights] == [id(weight) in trained for weight in theirs.weights]
    values = [RNG.uniform(0.5, 1.5, weight.shape) * RNG.choice([-1, 1], weight.shape) for weight in ours.weights]
    if name == "BatchNormalization":
        values[-1] = abs(values[-1])
    ours.set_weights(values)
    theirs.set_weights(values)
    return ours, theirs


def compare(name: str, arguments: dict[str, Any], shape: Shape, batch: int = 2, training: bool = False) -> None:
    """The same shapes, names, parameters, outputs and gradients as in Keras, for samples of ``shape``."""
    ours, theirs = both(name, arguments, shape)
    assert ours.count_params() == theirs.count_params()
    # Different values, so that no window has its greatest twice.
    x = RNG.permutation(batch * int(np.prod(shape))).reshape(batch, *shape).astype(np.float32)
    x = (x - x.mean()) / (x.std() + 1)
    mine, other = Tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    y, z = ours(mine, training=training), theirs(other, training=training)
    expected = z.detach().numpy()
    assert y.shape == expected.shape
    for first in (None, batch):
        assert ours.compute_output_shape((first, *shape)) == (first, *expected.shape[1:])
    close(y.data, expected, "the output")
    dy = RNG.normal(size=expected.shape).astype(np.float32)
    y.backward(dy)
    if not z.requires_grad:
        return
    z.backward(torch.tensor(dy))
    close(mine.grad.data, other.grad.numpy(), "the gradient of the input")
    for a, b in zip(ours.trainable_weights, theirs.trainable_weights):
        close(a.grad.data, b.value.grad.numpy(), f"the gradient of {b.name}")
    for a, b in zip(ours.non_trainable_weights, theirs.non_trainable_weights):
        close(a.data, b.value.detach().numpy(), b.name)


def close(found: np.ndarray, expected: np.ndarray, what: str) -> None:
    scale = max(abs(expected).max(initial=0), 1)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=2e-5 * scale, err_msg=what)


SPACE: dict[int, Shape] = {1: (11,), 2: (9, 8), 3: (5, 6, 4)}
FORMATS = st.sampled_from([None, "channels_last", "channels_first"])
ACTIVATIONS = st.sampled_from([None, "relu", "tanh", "sigmoid", "softmax"])
drawn = settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])


def sizes(rank: int, most: int) -> st.SearchStrategy[Any]:
    """An integer, or one for each axis."""
    one = st.integers(1, most)
    return one | st.tuples(*[one] * rank)


def sample(rank: int, channels: int, data_format: str | None) -> Shape:
    return (channels, *SPACE[rank]) if data_format == "channels_first" else (*SPACE[rank], channels)


@st.composite
def convolutions(draw: Any) -> tuple[str, dict[str, Any], Shape]:
    """A convolution of any kind with arguments that Keras takes, and the shape of a sample."""
    kind, ranks = draw(
        st.sampled_from([("Conv{}D", 3), ("Conv{}DTranspose", 3), ("DepthwiseConv{}D", 2), ("SeparableConv{}D", 2)])
    )
    rank = draw(st.integers(1, ranks))
    dilated = draw(st.booleans())
    data_format = draw(FORMATS)
    paddings = ["valid", "same", *(["causal"] if kind == "Conv{}D" and rank == 1 else [])]
    arguments: dict[str, Any] = {
        "kernel_size": draw(sizes(rank, 2 if rank == 3 else 4)),
        "strides": 1 if dilated else draw(sizes(rank, 3)),
        "dilation_rate": draw(sizes(rank, 2)) if dilated else 1,
        "padding": draw(st.sampled_from(paddings)),
        "data_format": data_format,
        "activation": draw(ACTIVATIONS),
        "use_bias": draw(st.booleans()),
    }
    channels = draw(st.integers(1, 3))
    if kind == "Conv{}D":
        groups = draw(st.integers(1, 2))
        arguments |= {"groups": groups, "filters": groups * draw(st.integers(1, 3))}
        channels *= groups
    elif kind == "Conv{}DTranspose":
        arguments["filters"] = draw(st.integers(1, 3))
        strides = np.broadcast_to(arguments["strides"], (rank,)).tolist()
        arguments["output_padding"] = draw(st.none() | st.tuples(*[st.integers(0, step - 1) for step in strides]))
    else:
        arguments["depth_multiplier"] = draw(st.integers(1, 3))
        if kind == "SeparableConv{}D":
            arguments["filters"] = draw(st.integers(1, 4))
    if data_format == "channels_first" and arguments["activation"] == "softmax":
        arguments["activation"] = None
    return kind.format(rank), arguments, sample(rank, channels, data_format)


@settings(drawn, max_examples=80)
@given(convolutions())
def test_convolutions(case: tuple[str, dict[str, Any], Shape]) -> None:
    compare(*case)


@st.composite
def poolings(draw: Any) -> tuple[str, dict[str, Any], Shape]:
    rank, data_format = draw(st.integers(1, 3)), draw(FORMATS)
    kind = draw(st.sampled_from(["Max", "Average", "GlobalMax", "GlobalAverage", "AdaptiveMax", "AdaptiveAverage"]))
    arguments: dict[str, Any] = {"data_format": data_format}
    if kind.startswith("Global"):
        arguments["keepdims"] = draw(st.booleans())
    elif kind.startswith("Adaptive"):
        arguments["output_size"] = draw(sizes(rank, 4))
    else:
        arguments["pool_size"] = draw(sizes(rank, 4))
        arguments["strides"] = draw(st.none() | sizes(rank, 3))
        arguments["padding"] = draw(st.sampled_from(["valid", "same"]))
    return f"{kind}Pooling{rank}D", arguments, sample(rank, draw(st.integers(1, 3)), data_format)


@settings(drawn, max_examples=60)
@given(poolings())
def test_poolings(case: tuple[str, dict[str, Any], Shape]) -> None:
    compare(*case)


@st.composite
def borders(draw: Any) -> tuple[str, dict[str, Any], Shape]:
    """Padding or cropping by at most 3, or 1 of volumes, so that something is left."""
    rank, kind = draw(st.integers(1, 3)), draw(st.sampled_from(["ZeroPadding", "Cropping"]))
    data_format = None if (kind, rank) == ("Cropping", 1) else draw(FORMATS)
    end = st.integers(0, 1 if rank == 3 else 3)
    ends = st.tuples(end, end)
    value = draw(end | (ends if rank == 1 else st.tuples(*[end | ends] * rank)))
    arguments = {"padding" if kind == "ZeroPadding" else "cropping": draw(st.sampled_from([value, as_list(value)]))}
    if (kind, rank) != ("Cropping", 1):
        arguments["data_format"] = data_format
    return f"{kind}{rank}D", arguments, sample(rank, draw(st.integers(1, 3)), data_format)


def as_list(value: Any) -> Any:
    return [as_list(each) for each in value] if isinstance(value, tuple) else value


@st.composite
def up_samplings(draw: Any) -> tuple[str, dict[str, Any], Shape]:
    rank = draw(st.integers(1, 3))
    arguments: dict[str, Any] = {"size": draw(st.integers(1, 4) if rank == 1 else sizes(rank, 3))}
    if rank > 1:
        arguments["data_format"] = draw(FORMATS)
    if rank == 2:
        arguments["interpolation"] = draw(st.sampled_from(["nearest", "bilinear", "bicubic", "Bilinear"]))
    return f"UpSampling{rank}D", arguments, sample(rank, draw(st.integers(1, 3)), arguments.get("data_format"))


@settings(drawn, max_examples=60)
@given(borders() | up_samplings())
def test_borders_and_up_samplings(case: tuple[str, dict[str, Any], Shape]) -> None:
    compare(*case)


@st.composite
def affine_maps(draw: Any) -> tuple[str, dict[str, Any], Shape]:
    """A random map that is drawn from a range of one point, so that both libraries draw the same."""

    def point(least: float) -> st.SearchStrategy[Any]:
        return st.integers(int(least * 97), 97).map(lambda part: (part / 97, part / 97))

    name = draw(st.sampled_from(["RandomRotation", "RandomTranslation", "RandomZoom"]))
    if name == "RandomRotation":
        arguments: dict[str, Any] = {"factor": draw(point(-1))}
    else:
        arguments = {"height_factor": draw(point(-0.9)), "width_factor": draw(point(-0.9))}
        if name == "RandomZoom" and draw(st.booleans()):
            del arguments["width_factor"]
    arguments["fill_mode"] = draw(st.sampled_from(["reflect", "wrap", "constant", "nearest"]))
    arguments["interpolation"] = draw(st.sampled_from(["bilinear", "nearest"]))
    arguments["fill_value"] = draw(st.sampled_from([0.0, 0.75]))
    arguments["data_format"] = draw(FORMATS)
    return name, arguments, sample(2, draw(st.integers(1, 3)), arguments["data_format"])


@settings(drawn, max_examples=60)
@given(affine_maps(), st.booleans())
def test_affine_maps(case: tuple[str, dict[str, Any], Shape], training: bool) -> None:
    compare(*case, training=training)


@st.composite
def image_sizes(draw: Any) -> tuple[str, dict[str, Any], Shape]:
    """Images of 9 x 8 pixels brought to another size."""
    name, data_format = draw(st.sampled_from(["CenterCrop", "Resizing", "Resizing"])), draw(FORMATS)
    arguments: dict[str, Any] = {"height": draw(st.integers(1, 14)), "width": draw(st.integers(1, 14))}
    if name == "Resizing":
        arguments["interpolation"] = draw(st.sampled_from(["nearest", "bilinear", "bicubic"]))
        arguments["antialias"] = arguments["width"] > 1 and draw(st.booleans())
        ratio = draw(st.sampled_from([None, "crop_to_aspect_ratio", "pad_to_aspect_ratio"]))
        arguments |= {ratio: True, "fill_value": draw(st.sampled_from([0, 0.5]))} if ratio else {}
    return name, arguments | {"data_format": data_format}, sample(2, draw(st.integers(1, 3)), data_format)


@settings(drawn, max_examples=60)
@given(image_sizes())
def test_image_sizes(case: tuple[str, dict[str, Any], Shape]) -> None:
    compare(*case)


@pytest.mark.parametrize("name", ["RandomBrightness", "RandomContrast"])
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_tones(name: str, data_format: Any) -> None:
    """For the same random numbers."""
    arguments = {"factor": 0.5, "value_range": (-0.5, 1), "data_format": data_format}
    ours, theirs = getattr(L, name)(**arguments), getattr(keras.layers, name)(**arguments)
    x = RNG.normal(size=(3, *sample(2, 2, data_format))).astype(np.float32)
    amount = RNG.uniform(-0.5, 1.5, (3, 1, 1, 1)).astype(np.float32)
    mine, other = Tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    key = "contrast_factor" if name == "RandomContrast" else "rgb_delta"
    z = theirs.transform_images(other * 1, {key: torch.tensor(amount)}, training=True)
    y = ours.toned(mine, Tensor(amount)).clip(-0.5, 1)
    dy = RNG.normal(size=x.shape).astype(np.float32)
    y.backward(dy)
    z.backward(torch.tensor(dy))
    close(y.detach().numpy(), z.detach().numpy(), "the output")
    close(mine.grad.data, other.grad.numpy(), "the gradient")


@pytest.mark.parametrize("invert", [False, True])
@pytest.mark.parametrize(
    ("axis", "shape"), [(-1, (5,)), (None, (5, 4)), (1, (5, 4)), ((1, 3), (3, 2, 4)), ([-1, 1], (3, 2, 4)), (None, ())]
)
@pytest.mark.parametrize("given_as", ["array", "tensor", "batches", "generator", "pairs"])
def test_normalization_adapts(axis: Any, shape: Shape, invert: bool, given_as: str) -> None:
    x = (RNG.normal(size=(12, *shape)) * 3 + 5).astype(np.float32)
    x[..., :1] = 2.0  # of which the deviation is 0, and taken for 1e-7
    batches = [x[:5], x[5:11], x[11:]]
    ways: dict[str, Any] = {"array": x, "tensor": Tensor(x), "batches": batches, "generator": iter(batches)}
    ours, theirs = (module.Normalization(axis, invert=invert) for module in (L, keras.layers))
    ours.adapt(ways[given_as] if given_as != "pairs" else [(batch, batch) for batch in batches])
    theirs.adapt(x)
    assert list(ours.named_weights()) == [weight.name for weight in theirs.weights]
    for a, b in zip(ours.get_weights(), theirs.get_weights()):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(ours.mean.numpy(), theirs.mean.numpy(), rtol=1e-6)
    np.testing.assert_allclose(ours.variance.numpy(), theirs.variance.numpy(), rtol=1e-5)
    np.testing.assert_allclose(ours(x).numpy(), theirs(x).numpy(), rtol=1e-4, atol=1e-4)


OTHERS: list[tuple[str, dict[str, Any], Shape]] = [
    ("Dense", {"units": 4}, (5,)),
    ("Dense", {"units": 4, "activation": "relu", "use_bias": False}, (3, 5)),
    ("Activation", {"activation": "tanh"}, (4, 3)),
    ("Flatten", {}, (3, 4, 2)),
    ("Flatten", {"data_format": "channels_first"}, (3, 4, 2)),
    ("Flatten", {}, (3,)),
    ("Reshape", {"target_shape": (4, 6)}, (2, 3, 4)),
    ("Reshape", {"target_shape": (-1, 2)}, (2, 3, 4)),
    ("Reshape", {"target_shape": [24]}, (2, 3, 4)),
    ("Permute", {"dims": (2, 1)}, (3, 4)),
    ("Permute", {"dims": [3, 1, 2]}, (3, 4, 5)),
    ("RepeatVector", {"n": 3}, (4,)),
    ("Rescaling", {"scale": 0.5}, (3, 2)),
    ("Rescaling", {"scale": [0.5, 2.0], "offset": [1.0, -1.0]}, (3, 2)),
    ("ReLU", {}, (3, 4)),
    ("ReLU", {"max_value": 0.75}, (3, 40)),
    ("ReLU", {"negative_slope": 0.2, "max_value": 0.75, "threshold": 0.3}, (3, 40)),
    ("ReLU", {"threshold": 0.5}, (3, 40)),
    ("LeakyReLU", {}, (3, 40)),
    ("LeakyReLU", {"negative_slope": 0.1}, (3, 40)),
    ("ELU", {}, (3, 40)),
    ("ELU", {"alpha": 0.5}, (3, 40)),
    ("Softmax", {}, (3, 4)),
    ("Softmax", {"axis": 1}, (3, 4)),
    ("Softmax", {"axis": [1, 2]}, (3, 4)),
    ("Softmax", {"axis": (-3, -1)}, (3, 4, 2)),
    ("PReLU", {}, (3, 4)),
    ("PReLU", {"shared_axes": [1, 2]}, (3, 4, 5)),
    ("PReLU", {"shared_axes": 1}, (3, 4)),
    ("LayerNormalization", {}, (3, 4)),
    ("LayerNormalization", {"axis": 2, "epsilon": 0.1}, (3, 4)),
    ("LayerNormalization", {"axis": [1, 2, 3]}, (3, 4, 2)),
    ("LayerNormalization", {"axis": (1, 3), "center": False}, (3, 4, 2)),
    ("LayerNormalization", {"scale": False}, (3, 4)),
    ("BatchNormalization", {}, (4,)),
    ("BatchNormalization", {"axis": 1, "center": False}, (3, 4, 2)),
    ("BatchNormalization", {"scale": False, "epsilon": 0.1, "momentum": 0.5}, (3, 4)),
    ("Dropout", {"rate": 0.5}, (3, 4)),
    ("SpatialDropout1D", {"rate": 0.5}, (3, 4)),
    ("SpatialDropout2D", {"rate": 0.5, "data_format": "channels_first"}, (3, 4, 2)),
    ("SpatialDropout3D", {"rate": 0.0}, (3, 4, 2, 2)),
    ("AlphaDropout", {"rate": 0.5}, (3, 4)),
    ("GaussianDropout", {"rate": 0.5}, (3, 4)),
    ("GaussianNoise", {"stddev": 0.5}, (3, 4)),
    ("Identity", {}, (3, 4)),
    ("Normalization", {"mean": 0.5, "variance": 2}, (3, 4)),
    ("Normalization", {"mean": [0.5, -1.0], "variance": [2.0, 0.0], "invert": True}, (3, 2)),
    ("Normalization", {"axis": (1, 3), "mean": [[0.5, 1], [1, 2], [3, 4]], "variance": [[1, 2]] * 3}, (3, 4, 2)),
    ("Normalization", {"axis": (3, 1), "mean": [0.5, 1], "variance": [1, 2]}, (3, 4, 2)),
    ("RandomBrightness", {"factor": 0.5}, (3, 4, 2)),
    ("RandomContrast", {"factor": 0.5}, (3, 4, 2)),
    ("RandomCrop", {"height": 3, "width": 4}, (3, 4, 2)),
    ("RandomFlip", {"mode": "horizontal"}, (3, 4, 2)),
    ("Lambda", {"function": lambda x: x**2 + 1}, (3, 4)),
    ("Lambda", {"function": lambda x, training: x * 2, "output_shape": (3, 4)}, (3, 4)),
    ("Lambda", {"function": lambda x, by: x + by, "arguments": {"by": 2}, "output_shape": lambda s: s}, (3, 4)),
]


@pytest.mark.parametrize(("name", "arguments", "shape"), OTHERS)
def test_other_layers(name: str, arguments: dict[str, Any], shape: Shape) -> None:
    compare(name, arguments, shape, batch=3)


@pytest.mark.parametrize(("name", "arguments", "shape"), [case for case in OTHERS if case[0] == "BatchNormalization"])
def test_batch_normalization_while_training(name: str, arguments: dict[str, Any], shape: Shape) -> None:
    compare(name, arguments, shape, batch=6, training=True)


def test_layer_normalization_of_an_axis_in_the_middle() -> None:
    """Which Keras on PyTorch refuses: as along the last axis of the transposed input."""
    middle, last = L.LayerNormalization(axis=1), L.LayerNormalization()
    x = RNG.normal(size=(2, 5, 3)).astype(np.float32)
    weights = [RNG.normal(size=5), RNG.normal(size=5)]
    for layer, inputs in ((middle, x), (last, x.swapaxes(1, 2))):
        layer(inputs)
        layer.set_weights(weights)
    np.testing.assert_array_equal(middle(x).data, last(x.swapaxes(1, 2)).data.swapaxes(1, 2))


@pytest.mark.filterwarnings("ignore:You passed `rms_scaling")
@pytest.mark.parametrize("axis", [-1, (1, 2)])
def test_layer_normalization_by_the_variance_alone(axis: Any) -> None:
    compare("LayerNormalization", {"axis": axis, "rms_scaling": True}, (5, 4))


def test_the_grid_has_every_layer() -> None:
    tested = {name for name, _, _ in OTHERS} | OURS | {"Input", "InputLayer", "Layer"}
    rest = [name for name in names_of_layers() if getattr(L, name).__name__ not in tested]
    drawn_kinds = ("Conv", "Pool", "ZeroPadding", "Cropping", "UpSampling", "Rotation", "Translation", "Zoom",
                   "CenterCrop", "Resizing")  # fmt: skip
    assert all(any(kind in name for kind in drawn_kinds) for name in rest), rest


@pytest.mark.parametrize(
    ("name", "shape", "kept"),
    [
        ("Dropout", (8, 5), (400, 8, 5)),
        ("SpatialDropout1D", (8, 5), (400, 1, 5)),
        ("SpatialDropout2D", (4, 2, 5), (400, 1, 1, 5)),
        ("SpatialDropout3D", (2, 2, 2, 5), (400, 1, 1, 1, 5)),
    ],
)
def test_dropout_drops_what_keras_drops(name: str, shape: Shape, kept: Shape) -> None:
    x = np.ones((400, *shape), np.float32)
    for layer in (getattr(L, name)(0.25), getattr(keras.layers, name)(0.25)):
        y = np.asarray(keras.ops.convert_to_numpy(layer(x, training=True)) if "keras" in str(type(layer)) else
                       layer(x, training=True).numpy())  # fmt: skip
        np.testing.assert_array_equal(np.unique(y), np.float32([0, 1 / 0.75]))
        part = y[tuple(slice(0, size) for size in kept)]
        np.testing.assert_array_equal(y, np.broadcast_to(part, y.shape))
        assert (part == 0).mean() == pytest.approx(0.25, abs=0.03)


@pytest.mark.parametrize("name", list(activations._FUNCTIONS))
def test_activations_by_name(name: str) -> None:
    compare("Activation", {"activation": name}, (3, 40))


# -- weights ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "arguments", "shape"),
    [
        ("Dense", {"units": 300}, (200,)),
        ("Conv1D", {"filters": 100, "kernel_size": 5}, (20, 100)),
        ("Conv2D", {"filters": 64, "kernel_size": 3}, (9, 9, 64)),
        ("Conv2D", {"filters": 64, "kernel_size": 3, "groups": 2, "kernel_initializer": "he_normal"}, (9, 9, 64)),
        ("Conv3D", {"filters": 32, "kernel_size": 3}, (5, 5, 5, 32)),
        ("Conv1DTranspose", {"filters": 200, "kernel_size": 3}, (9, 50)),
        ("Conv2DTranspose", {"filters": 100, "kernel_size": 3}, (9, 9, 30)),
        ("Conv3DTranspose", {"filters": 50, "kernel_size": 3}, (5, 5, 5, 20)),
        ("DepthwiseConv1D", {"kernel_size": 50, "depth_multiplier": 4}, (60, 200)),
        ("DepthwiseConv2D", {"kernel_size": 7, "depth_multiplier": 4}, (9, 9, 200)),
        ("SeparableConv1D", {"filters": 200, "kernel_size": 50}, (60, 200)),
        ("SeparableConv2D", {"filters": 200, "kernel_size": 12}, (12, 12, 200)),
        ("BatchNormalization", {}, (3, 4)),
        ("LayerNormalization", {}, (3, 4)),
        ("PReLU", {}, (3, 4)),
    ],
)
def test_initial_values(name: str, arguments: dict[str, Any], shape: Shape) -> None:
    ours, theirs = getattr(L, name)(**arguments), getattr(keras.layers, name)(**arguments)
    ours.build_for((None, *shape))
    theirs.build((None, *shape))
    steps = np.linspace(0.02, 0.98, 13)
    for mine, other in zip(ours.get_weights(), theirs.get_weights()):
        assert mine.dtype == other.dtype == np.float32
        # Of 20,000 values and more: the quantiles of two draws lie about a hundredth of the deviation apart.
        np.testing.assert_allclose(np.quantile(mine, steps), np.quantile(other, steps), atol=0.05 * other.std())


def test_names_count_per_class_as_in_keras() -> None:
    def names(module: Any) -> list[str]:
        made = [
            module.Conv2D(1, 1), module.Convolution2D(1, 1), module.Conv2DTranspose(1, 1), module.MaxPool2D(),
            module.GlobalAvgPool2D(), module.ReLU(), module.PReLU(), module.ELU(), module.Conv2D(1, 1),
            module.SeparableConv2D(1, 1), module.DepthwiseConv2D(1), module.AdaptiveMaxPooling1D(1), module.LeakyReLU(),
            module.SpatialDropout2D(0.5), module.BatchNormalization(), module.Conv2D(1, 1, name="own"),
        ]  # fmt: skip
        return [layer.name for layer in made]

    keras.utils.clear_session()  # here alone, for it takes a second
    assert names(L) == names(keras.layers)


def test_the_old_path_of_the_convolutions() -> None:
    from pycnn.layers.convolutional import Conv2D

    assert Conv2D is L.Conv2D is L.convolutional.Conv2D


# -- regularizers and constraints ------------------------------------------------------------------------------------


def test_both_norms_have_factors_by_name() -> None:
    """As Keras' documentation says; Keras 3 knows the name no more, and its class has factors of 0."""
    found = regularizers.get("l1_l2")
    assert isinstance(found, regularizers.L1L2)
    assert found.get_config() == {"l1": 0.01, "l2": 0.01}


@pytest.mark.parametrize("name", ["l1", "l2", "l1l2", "L1", "L2", "L1L2"])
def test_regularizers(name: str) -> None:
    w = RNG.normal(size=(3, 4)).astype(np.float32)
    assert regularizers.get(name)(Tensor(w)).item() == pytest.approx(float(keras.regularizers.get(name)(w)), rel=1e-5)
    arguments = inspect.signature(type(regularizers.get(name))).parameters
    theirs = inspect.signature(type(keras.regularizers.get(name))).parameters
    assert {key: p.default for key, p in arguments.items()} == {key: p.default for key, p in theirs.items()}


@pytest.mark.parametrize("name", ["max_norm", "non_neg", "unit_norm", "min_max_norm", "MaxNorm", "MinMaxNorm"])
def test_constraints(name: str) -> None:
    w = (RNG.normal(size=(3, 3, 2, 4)) * [0.01, 0.3, 1, 3]).astype(np.float32)
    theirs = keras.constraints.get(name)
    expected = keras.ops.convert_to_numpy(theirs(w))
    np.testing.assert_allclose(constraints.get(name)(Tensor(w)).numpy(), expected, rtol=1e-5, atol=1e-7)
    config = theirs.get_config()
    assert constraints.get(name).get_config() == config
    if "axis" in config:
        arguments = config | {"axis": [0, 1, 2]}
        ours, theirs = getattr(constraints, name)(**arguments), getattr(keras.constraints, name)(**arguments)
        expected = keras.ops.convert_to_numpy(theirs(w))
        np.testing.assert_allclose(ours(Tensor(w)).numpy(), expected, rtol=1e-5, atol=1e-7)


def test_training_with_regularizers_and_constraints() -> None:
    def make(module: Any) -> Any:
        rules = {"kernel_regularizer": "l2", "bias_regularizer": "l1", "activity_regularizer": "l2"}
        return [
            module.Conv2D(3, 3, strides=2, kernel_constraint="max_norm", **rules),
            module.BatchNormalization(gamma_regularizer="l2", beta_constraint="non_neg"),
            module.SeparableConv2D(4, 2, depthwise_regularizer="l1", pointwise_constraint="unit_norm"),
            module.PReLU(alpha_regularizer="l2", shared_axes=[1, 2], alpha_constraint="non_neg"),
            module.GlobalAveragePooling2D(),
            module.Dense(2, bias_constraint="non_neg", **rules),
        ]

    from pycnn.models import Sequential
    from pycnn.optimizers import SGD

    ours = Sequential([L.Input((9, 9, 2)), *make(L)])
    theirs = keras.Sequential([keras.Input((9, 9, 2)), *make(keras.layers)])
    theirs.set_weights(ours.get_weights())
    ours.compile(SGD(0.1), "mse")
    theirs.compile(keras.optimizers.SGD(0.1), "mse")
    x = RNG.normal(size=(12, 9, 9, 2)).astype(np.float32)
    y = RNG.normal(size=(12, 2)).astype(np.float32)
    arguments = {"batch_size": 4, "epochs": 2, "shuffle": False, "verbose": 0, "validation_data": (x, y)}
    mine, other = ours.fit(x, y, **arguments).history, theirs.fit(x, y, **arguments).history
    for key, values in other.items():
        np.testing.assert_allclose(mine[key], values, rtol=1e-4, err_msg=key)
    for a, b in zip(ours.get_weights(), theirs.get_weights()):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


# -- what is refused -------------------------------------------------------------------------------------------------

REFUSED: list[tuple[str, dict[str, Any], Shape | None]] = [
    ("Conv2D", {"filters": 0, "kernel_size": 3}, None),
    ("Conv2D", {"filters": 2, "kernel_size": 0}, None),
    ("Conv2D", {"filters": 2, "kernel_size": (3, 3, 3)}, None),
    ("Conv2D", {"filters": 2, "kernel_size": 3, "strides": 0}, None),
    ("Conv2D", {"filters": 2, "kernel_size": 3, "strides": 2, "dilation_rate": 2}, None),
    ("Conv2D", {"filters": 3, "kernel_size": 3, "groups": 2}, None),
    ("Conv2D", {"filters": 2, "kernel_size": 3, "groups": 0}, None),
    ("Conv2D", {"filters": 2, "kernel_size": 3, "padding": "causal"}, None),
    ("Conv2D", {"filters": 2, "kernel_size": 3, "data_format": "last"}, None),
    ("Conv2D", {"filters": 2, "kernel_size": 3, "activation": "rleu"}, None),
    ("Conv2D", {"filters": 2, "kernel_size": 3, "kernel_regularizer": "l3"}, None),
    ("Conv2D", {"filters": 2, "kernel_size": 3, "bias_constraint": "norm"}, None),
    ("Conv2D", {"filters": 2, "kernel_size": 3, "colour": "red"}, None),
    ("Conv2D", {"filters": 2, "kernel_size": 3, "groups": 2}, (9, 9, 3)),
    ("Conv2D", {"filters": 2, "kernel_size": 3}, (2, 9, 3)),
    ("Conv2D", {"filters": 2, "kernel_size": 3}, (9, 3)),
    ("Conv1D", {"filters": 2, "kernel_size": 3, "padding": "full"}, None),
    ("Conv3D", {"filters": 2, "kernel_size": (3, 3)}, None),
    ("Conv2DTranspose", {"filters": 0, "kernel_size": 3}, None),
    ("Conv2DTranspose", {"filters": 2, "kernel_size": 3, "output_padding": 1}, None),
    ("Conv2DTranspose", {"filters": 2, "kernel_size": 3, "strides": 2, "output_padding": -1}, None),
    ("Conv2DTranspose", {"filters": 2, "kernel_size": 3, "strides": 2, "dilation_rate": 2}, None),
    ("Conv1DTranspose", {"filters": 2, "kernel_size": 3, "padding": "causal"}, None),
    ("DepthwiseConv2D", {"kernel_size": 3, "depth_multiplier": 0}, None),
    ("DepthwiseConv2D", {"kernel_size": 3}, (2, 9, 3)),
    ("SeparableConv2D", {"filters": 0, "kernel_size": 3}, None),
    ("SeparableConv2D", {"filters": 2, "kernel_size": 3, "depth_multiplier": 0}, None),
    ("MaxPooling2D", {"pool_size": 0}, None),
    ("MaxPooling2D", {"pool_size": (2, 2, 2)}, None),
    ("MaxPooling2D", {"pool_size": 3}, (2, 2, 3)),
    ("MaxPooling2D", {}, (9, 3)),
    ("AveragePooling3D", {"pool_size": 2, "data_format": "NHWC"}, None),
    ("AdaptiveAveragePooling2D", {"output_size": (2, 2, 2)}, None),
    ("Dense", {"units": 0}, None),
    ("Dense", {"units": 2.5}, None),
    ("Reshape", {"target_shape": (-1, -1)}, None),
    ("Reshape", {"target_shape": (5, 5)}, (2, 3)),
    ("Reshape", {"target_shape": (-1, 4)}, (2, 3)),
    ("Permute", {"dims": (0, 1)}, None),
    ("Permute", {"dims": (1, 3)}, None),
    ("RepeatVector", {"n": 0}, None),
    ("ReLU", {"max_value": -1.0}, None),
    ("ReLU", {"negative_slope": -1.0}, None),
    ("ReLU", {"threshold": None}, None),
    ("LeakyReLU", {"negative_slope": -0.1}, None),
    ("LayerNormalization", {"axis": "last"}, None),
    ("LayerNormalization", {"axis": 3}, (4, 5)),
    ("Dropout", {"rate": 1.5}, None),
    ("SpatialDropout2D", {"rate": -0.5}, None),
    ("AlphaDropout", {"rate": 1.5}, None),
    ("GaussianDropout", {"rate": -0.5}, None),
    ("GaussianNoise", {"stddev": 1.5}, None),
    ("Normalization", {"mean": 1.0}, None),
    ("Normalization", {"mean": [1.0, 2.0], "variance": 1.0}, None),
    ("Normalization", {"mean": [[1.0, 2.0]], "variance": [[1.0, 2.0]]}, None),
    ("Normalization", {"mean": [1.0, 2.0], "variance": [1.0, 2.0]}, (4, 3)),
    ("Normalization", {"axis": 3}, (4, 3)),
    ("RandomBrightness", {"factor": 1.5}, None),
    ("RandomBrightness", {"factor": 0.5, "value_range": 255}, None),
    ("RandomBrightness", {"factor": 0.5, "value_range": (0, 1, 2)}, None),
    ("RandomContrast", {"factor": -0.5}, None),
    ("RandomContrast", {"factor": (0.5, 0.6, 0.7)}, None),
    ("Resizing", {"height": 4, "width": 4, "interpolation": "lanczos5"}, (9, 9, 3)),
    ("Resizing", {"height": 4, "width": 4, "fill_mode": "reflect"}, (9, 9, 3)),
    ("Resizing", {"height": 0, "width": 4}, (9, 9, 3)),
    ("Resizing", {"height": 4, "width": 4, "crop_to_aspect_ratio": True, "pad_to_aspect_ratio": True}, (9, 9, 3)),
    ("Resizing", {"height": 4, "width": 4, "data_format": "first"}, None),
    ("CenterCrop", {"height": 4, "width": 4}, (9, 3, 3, 3)),
    ("RandomRotation", {"factor": 1.5}, None),
    ("RandomRotation", {"factor": (0.1, 0.2, 0.3)}, None),
    ("RandomRotation", {"factor": "half"}, None),
    ("RandomRotation", {"factor": 0.5, "fill_mode": "mirror"}, None),
    ("RandomRotation", {"factor": 0.5, "interpolation": "bicubic"}, None),
    ("RandomTranslation", {"height_factor": 1.5, "width_factor": 0}, None),
    ("RandomTranslation", {"height_factor": 0, "width_factor": (-2, 0)}, None),
    ("RandomTranslation", {"height_factor": 0, "width_factor": None}, None),
    ("RandomTranslation", {"height_factor": 0, "width_factor": 0, "data_format": "first"}, None),
    ("RandomZoom", {"height_factor": -1.0}, None),
    ("RandomZoom", {"height_factor": (0.5, 1.5)}, None),
    ("RandomZoom", {"height_factor": None}, None),
    ("RandomZoom", {"height_factor": 0.5, "fill_mode": "zeros"}, None),
    ("ZeroPadding1D", {"padding": (1, 2, 3)}, None),
    ("ZeroPadding1D", {"padding": -1}, None),
    ("ZeroPadding1D", {"padding": "same"}, None),
    ("ZeroPadding2D", {"padding": (1, 2, 3)}, None),
    ("ZeroPadding2D", {"padding": ((1, 2), (1, 2, 3))}, None),
    ("ZeroPadding2D", {"padding": (-1, 1)}, None),
    ("ZeroPadding2D", {"padding": 1.5}, None),
    ("ZeroPadding2D", {"data_format": "first"}, None),
    ("ZeroPadding2D", {}, (9, 3)),
    ("ZeroPadding3D", {"padding": (1, 2)}, None),
    ("Cropping1D", {"cropping": (1, -1)}, None),
    ("Cropping1D", {"cropping": 2}, (4, 3)),
    ("Cropping2D", {"cropping": -1}, None),
    ("Cropping2D", {"cropping": ((1, 2), 3, 4)}, None),
    ("Cropping2D", {"cropping": (1, 2)}, (9, 4, 3)),
    ("Cropping2D", {}, (9, 4, 3, 2)),
    ("Cropping3D", {"cropping": None}, None),
    ("Cropping3D", {}, (2, 9, 9, 3)),
    ("UpSampling1D", {"size": 0}, None),
    ("UpSampling1D", {"size": (2,)}, None),
    ("UpSampling1D", {"size": True}, None),
    ("UpSampling2D", {"size": (2, 2, 2)}, None),
    ("UpSampling2D", {"interpolation": "lanczos3"}, (4, 4, 1)),
    ("UpSampling2D", {"interpolation": "linear"}, (4, 4, 1)),
    ("UpSampling3D", {"size": -1}, None),
    ("UpSampling3D", {}, (9, 9, 3)),
]


@pytest.mark.parametrize(("name", "arguments", "shape"), REFUSED)
def test_what_keras_refuses_is_refused(name: str, arguments: dict[str, Any], shape: Shape | None) -> None:
    """Of the class alone, or of a layer that is given samples of ``shape``."""
    made = []
    with pytest.raises(Exception):  # noqa: B017, PT012 - Keras' own are of many kinds
        made.append(getattr(keras.layers, name)(**arguments))
        made[0](np.zeros((2, *(shape or (1, 1, 1))), np.float32))
    assert bool(made) == (shape is not None), "refused at the same time"
    with pytest.raises(ValueError, match=r"received|has no argument|unknown|does not fit"):
        getattr(L, name)(**arguments).build_for((None, *(shape or (1, 1, 1))))
