"""What objects say of themselves in dictionaries: the same as Keras' objects, and enough to make them again."""

import inspect
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pycnn
import pycnn.utils
from pycnn import constraints, initializers, layers, losses, metrics, optimizers, regularizers
from pycnn.configuration import argument_names
from pycnn.layers import Layer
from pycnn.models import Sequential
from pycnn.saving.registry import custom_object_scope, known_class, register_keras_serializable
from pycnn.saving.serialization import deserialize_keras_object, serialize_keras_object, sharing_objects

#: What Keras' dictionaries hold of settings that pycnn does not have.
NOT_OURS = {
    "quantization_config", "synchronized", "renorm", "renorm_clipping", "renorm_momentum", "sparse", "ragged",
    "optional", "input_axes", "output_axes", "ignore_class", "lora_rank", "lora_alpha",
}  # fmt: skip


def as_json(value):
    return json.loads(json.dumps(value))


def comparable(value, ours=None):
    """A dictionary as it would be in a file, without what only Keras has, and without what changes nothing."""
    if isinstance(value, dict):
        if value.get("class_name") == "DTypePolicy":  # Keras writes the name alone for some classes, and reads both
            return value["config"]["name"]
        kept = {
            name: comparable(each)
            for name, each in value.items()
            if name not in NOT_OURS and not (name == "activity_regularizer" and each is None)
        }
        return {**kept, "seed": None} if isinstance(kept.get("seed"), dict) else kept
    if isinstance(value, list | tuple):
        return [comparable(each) for each in value]
    # Keras keeps some numbers in single precision.
    return float(np.float32(value)) if isinstance(value, float) else value


sizes = st.integers(1, 4)
DRAWN = {
    "filters": st.sampled_from([2, 4]),
    "units": sizes,
    "n": sizes,
    "kernel_size": sizes,
    "pool_size": sizes,
    "strides": sizes,
    "output_size": sizes,
    "output_padding": st.none(),
    "padding": st.sampled_from(["valid", "same"]),
    "data_format": st.sampled_from([None, "channels_last", "channels_first"]),
    "dilation_rate": st.just(1),
    "groups": st.sampled_from([1, 2]),
    "depth_multiplier": sizes,
    "activation": st.sampled_from([None, "relu", "swish", "softmax", "leaky_relu"]),
    "keepdims": st.booleans(),
    "use_bias": st.booleans(),
    "center": st.booleans(),
    "scale": st.booleans(),
    "rms_scaling": st.just(False),
    "trainable": st.booleans(),
    "rate": st.sampled_from([0.0, 0.25, 0.5]),
    "momentum": st.sampled_from([0.9, 0.99]),
    "epsilon": st.sampled_from([1e-3, 1e-5]),
    "axes": st.just(1),
    "normalize": st.booleans(),
    "axis": st.sampled_from([-1, 1]),
    "seed": st.sampled_from([None, 5]),
    "target_shape": st.just((2, -1)),
    "dims": st.just((2, 1)),
    "alpha": st.sampled_from([0.5, 1.0]),
    "max_value": st.sampled_from([None, 6.0]),
    "negative_slope": st.sampled_from([0.0, 0.25]),
    "threshold": st.sampled_from([0.0, 0.5]),
    "shared_axes": st.sampled_from([None, [1, 2]]),
    "dtype": st.sampled_from([None, "float64", "float16"]),
    "cropping": sizes,
    "size": sizes,
    "height": sizes,
    "width": sizes,
    "stddev": st.sampled_from([0.0, 0.5]),
    "factor": st.sampled_from([(0.25, 0.5), (0.0, 1.0)]),
    "height_factor": st.sampled_from([0.25, (-0.25, 0.5)]),
    "width_factor": st.sampled_from([0.25, (-0.25, 0.5)]),
    "fill_mode": st.sampled_from(["constant", "reflect", "nearest", "wrap"]),
    "fill_value": st.sampled_from([0.0, 0.5]),
}
INITIALIZERS = ["zeros", "he_normal", "GlorotUniform", "random_normal", "variance_scaling"]
REGULARIZERS = [None, "l2", "L1L2"]
CONSTRAINTS = [None, "max_norm", "NonNeg", "unit_norm", "MinMaxNorm"]


def drawn_arguments(kind, draw):
    found = {}
    for name in argument_names(kind):
        if name.endswith("_initializer"):
            found[name] = draw(st.sampled_from(INITIALIZERS))
        elif name.endswith("_regularizer") and name != "activity_regularizer":
            found[name] = draw(st.sampled_from(REGULARIZERS))
        elif name.endswith("_constraint"):
            found[name] = draw(st.sampled_from(CONSTRAINTS))
        elif name in DRAWN:
            found[name] = draw(DRAWN[name])
    if kind is layers.Rescaling:
        return {"scale": draw(st.sampled_from([0.5, [1.0, 2.0]])), "offset": 1.0}
    if "ZeroPadding" in kind.__name__:
        found["padding"] = draw(sizes)
    if kind is layers.Resizing:
        found["fill_mode"] = "constant"
    if kind is layers.RandomCrop:
        found["seed"] = 5  # Keras draws another where it is given none
    if kind is layers.InputLayer:
        return {"shape": (None, 3), "batch_size": draw(st.sampled_from([None, 2]))}
    if issubclass(kind, layers.SpatialDropout1D | layers.SpatialDropout2D | layers.SpatialDropout3D):
        found.pop("trainable")
    if issubclass(kind, layers.SpatialDropout1D):
        found.pop("data_format")
    return found


#: All but what takes a function, which has a test of its own.
LAYERS = sorted(
    {kind for kind in vars(layers).values() if inspect.isclass(kind) and issubclass(kind, Layer)}
    - {Layer, layers.Lambda},
    key=lambda kind: kind.__name__,
)


@pytest.mark.parametrize("kind", LAYERS, ids=lambda kind: kind.__name__)
def test_layers_say_what_those_of_keras_say_and_are_made_again_from_it(kind):
    keras = pytest.importorskip("keras")
    theirs = getattr(keras.layers, kind.__name__, None)

    @settings(max_examples=5, deadline=None, database=None, derandomize=True)
    @given(st.data())
    def compare(data):
        arguments = drawn_arguments(kind, data.draw)
        layer = kind(name="a_name", **arguments)
        config = as_json(layer.get_config())
        assert as_json(kind.from_config(config).get_config()) == config
        if theirs is not None:
            expected = as_json(theirs(name="a_name", **arguments).get_config())
            assert comparable(config) == comparable(expected)
            assert as_json(deserialize_keras_object(described(kind, expected)).get_config()) == config

    compare()


def test_a_lambda_of_a_registered_function_is_made_again():
    @register_keras_serializable(package="tests")
    def halved(x, by=2.0):
        return x * (1 / by)

    layer = layers.Lambda(halved, arguments={"by": 4.0}, name="a_name")
    again = layers.Lambda.from_config(as_json(layer.get_config()))
    assert again.get_config() == layer.get_config()
    assert again(np.ones((1, 2), np.float32)).numpy().tolist() == [[0.25, 0.25]]


def described(kind, config, module="keras.layers"):
    return {"module": module, "class_name": kind.__name__, "config": config, "registered_name": None}


def objects(of, module):
    found = {kind for kind in vars(module).values() if inspect.isclass(kind) and issubclass(kind, of)}
    return sorted((kind for kind in found if kind.__name__ not in ABSTRACT), key=lambda kind: kind.__name__)


ABSTRACT = {
    "Initializer", "_Random", "Regularizer", "Constraint", "Optimizer", "Loss", "LossFunctionWrapper", "Metric",
    "MeanMetricWrapper", "AverageLoss",
}  # fmt: skip
SMALL = [
    *[("initializers", kind) for kind in objects(initializers.Initializer, initializers)],
    *[("regularizers", kind) for kind in objects(regularizers.Regularizer, regularizers)],
    *[("constraints", kind) for kind in objects(constraints.Constraint, constraints)],
    *[("losses", kind) for kind in objects(losses.Loss, losses)],
    *[("optimizers", kind) for kind in objects(optimizers.Optimizer, optimizers)],
    *[("metrics", kind) for kind in objects(metrics.Metric, metrics)],
]


@pytest.mark.parametrize(("module", "kind"), SMALL, ids=lambda value: getattr(value, "__name__", value))
def test_small_objects_say_what_those_of_keras_say_and_are_made_again_from_it(module, kind):
    keras = pytest.importorskip("keras")
    pycnn.utils.clear_session()  # optimizers are named by counting
    keras.utils.clear_session(free_memory=False)
    ours, theirs = kind(), getattr(getattr(keras, module), kind.__name__)()
    config, expected = as_json(ours.get_config()), as_json(theirs.get_config())
    assert as_json(kind.from_config(config).get_config()) == config
    missing = {"axis": -1, "dtype": "float32"}  # of losses and metrics, which do not have them here
    # Keras does not write these, and makes other objects again than those that it was given.
    forgotten = {name: value for name, value in config.items() if name in ("delta", "thresholds", "from_sorted_ids")}
    assert comparable({**missing, **config}) == comparable({**missing, **forgotten, **expected})
    again = deserialize_keras_object(described(kind, expected, f"keras.{module}"))
    assert comparable(as_json(again.get_config())) == comparable(config)


def test_arguments_other_than_the_defaults_are_kept():
    assert losses.MeanSquaredError(reduction="sum").get_config()["reduction"] == "sum"
    smoothed = losses.CategoricalCrossentropy(label_smoothing=0.25, name="soft")
    assert losses.CategoricalCrossentropy.from_config(smoothed.get_config()).get_config() == smoothed.get_config()
    assert smoothed.get_config()["label_smoothing"] == 0.25
    scaled = initializers.VarianceScaling(2.0, "fan_out", "uniform", seed=3)
    assert scaled.get_config() == {"scale": 2.0, "mode": "fan_out", "distribution": "uniform", "seed": 3}
    wrapped = losses.LossFunctionWrapper(losses.mean_squared_error, name="mine")
    assert losses.LossFunctionWrapper.from_config(wrapped.get_config()).fn is losses.mean_squared_error
    layer = layers.Dense(2, kernel_regularizer=regularizers.L2(0.5), activation=layers.ReLU(max_value=2.0))
    again = layers.Dense.from_config(as_json(layer.get_config()))
    assert again.kernel_regularizer.l2 == 0.5
    assert again.activation.max_value == 2.0


def test_settings_that_pycnn_does_not_have_are_refused_unless_they_change_nothing():
    config = layers.BatchNormalization().get_config()
    assert layers.BatchNormalization.from_config({**config, "renorm": False}).momentum == 0.99
    with pytest.raises(ValueError, match=r"BatchNormalization: pycnn has no argument 'renorm' for True"):
        layers.BatchNormalization.from_config({**config, "renorm": True})
    with pytest.raises(ValueError, match="Did you mean 'momentum'"):
        layers.BatchNormalization.from_config({**config, "momentun": 0.5})
    with pytest.raises(ValueError, match=r"dtype: expected one of .*'mixed_float16'"):
        deserialize_keras_object({"class_name": "DTypePolicy", "config": {"name": "mixed_float16"}})


# -- classes of users ------------------------------------------------------------------------------------------------


class Given(Layer):
    """Says nothing of itself."""

    def __init__(self, factor, *, shifts=(1, 2), **kwargs):
        super().__init__(**kwargs)
        self.twice = 2 * factor

    def call(self, inputs):
        return inputs * float(self.twice)


class Said(Layer):
    def __init__(self, factor, inner=None, **kwargs):
        super().__init__(**kwargs)
        self.factor, self.inner = factor, inner

    def get_config(self):
        return super().get_config() | {"factor": self.factor, "inner": serialize_keras_object(self.inner)}


class Fixed(layers.Dense):
    def __init__(self, words):
        super().__init__(2 * words, name="fixed")


class Many(Layer):
    def __init__(self, *sizes):
        super().__init__()


def test_a_users_layer_is_what_its_constructor_was_given():
    layer = Given(3, shifts=(4, 5), name="given", trainable=False)
    config = layer.get_config()
    assert config["factor"] == 3
    assert config["shifts"] == (4, 5)
    assert (config["name"], config["trainable"]) == ("given", False)
    again = Given.from_config(as_json(config))
    assert (again.twice, again.name, again.trainable) == (6, "given", False)
    assert Given(1, name=None).get_config()["name"].startswith("given")
    assert Fixed(3).get_config()["words"] == 3
    assert "units" not in Fixed(3).get_config()
    with pytest.raises(NotImplementedError, match=r"Many must define get_config\(\): its constructor takes \*sizes"):
        Many(1, 2).get_config()


def test_a_users_layer_may_say_itself_what_it_is():
    config = Said(3, layers.Dense(2, name="inner"), name="said").get_config()
    assert set(config) == {"name", "trainable", "dtype", "factor", "inner"}
    again = Said.from_config(as_json(config))
    assert (again.name, again.factor, again.inner.units) == ("said", 3, 2)


class Unpacked(layers.Conv2D):
    """Makes the objects within itself, as many users' classes for Keras do."""

    def __init__(self, inner, **kwargs):
        super().__init__(filters=2, kernel_size=3, **kwargs)
        self.inner = inner

    def get_config(self):
        config = super().get_config()
        for name in ("filters", "kernel_size"):
            config.pop(name)
        return config | {"inner": serialize_keras_object(self.inner)}

    @classmethod
    def from_config(cls, config):
        return cls(deserialize_keras_object(config.pop("inner")), **config)


def test_constructors_take_what_get_config_gives():
    layer = Unpacked(layers.Dense(2), kernel_regularizer="l2", activation=layers.ReLU(max_value=3.0), dtype="float64")
    again = Unpacked.from_config(as_json(layer.get_config()))
    assert (again.dtype, again.inner.units, again.activation.max_value) == ("float64", 2, 3.0)
    assert as_json(again.get_config()) == as_json(layer.get_config())


def test_classes_and_functions_of_users_are_found_only_when_they_are_registered():
    description = as_json(serialize_keras_object(Given(3)))
    assert description["module"] == __name__
    with pytest.raises(ValueError, match=r"unknown class 'Given' .*register_keras_serializable"):
        deserialize_keras_object(description)
    with custom_object_scope({"Given": Given}):
        assert deserialize_keras_object(description).twice == 6
    assert deserialize_keras_object(description, custom_objects={"Given": Given}).twice == 6

    @register_keras_serializable("tests")
    def doubled(x):
        return x * 2.0

    layer = layers.Dense(2, activation=doubled)
    assert layer.get_config()["activation"]["config"] == "tests>doubled"
    assert layers.Dense.from_config(as_json(layer.get_config())).activation is doubled
    with pytest.raises(ValueError, match=r"'tests>doubled' is registered already"):
        register_keras_serializable("tests", "doubled")(lambda x: x)
    with pytest.raises(TypeError, match="a function without a name"):
        layers.Dense(2, activation=lambda x: x).get_config()
    with pytest.raises(ValueError, match="unknown function 'mystery'"):
        deserialize_keras_object({"class_name": "function", "config": "mystery", "module": "os"})


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("system", "os"), ("Tensor", "pycnn"), ("get", "keras.initializers"), ("np", "keras.initializers"),
        ("__class__", "keras.layers"), ("Popen", "subprocess"), ("Configurable", "pycnn.layers"), ("Dense", "builtins"),
        ("../x", "keras.layers"), ("Conv2D", "keras.losses"),
    ],
)  # fmt: skip
def test_nothing_else_can_be_named(name, module):
    assert known_class(name, module) is None
    with pytest.raises(ValueError, match="unknown class"):
        deserialize_keras_object({"class_name": name, "module": module, "config": {}})


@pytest.mark.parametrize(
    "config",
    [
        {"class_name": "__lambda__", "config": {"value": "4wEAAAAA"}},
        {"class_name": 3, "config": {}},
        {"class_name": "Dense", "config": [1]},
        {"class_name": "Dense", "module": "keras.layers", "config": {"units": -1}},
        {"class_name": "Sequential", "module": "keras", "config": {"layers": 3}},
    ],
)
def test_descriptions_of_nothing_are_refused(config):
    with pytest.raises(ValueError, match=r"expected|arguments|lambda|positive"):
        deserialize_keras_object(config)


def test_descriptions_that_nest_too_deep_are_refused():
    config = {"class_name": "Dense", "config": {}}
    for _ in range(300):
        config = {"class_name": "Activation", "module": "keras.layers", "config": {"activation": config}}
    with pytest.raises(ValueError, match="at most 100"):
        deserialize_keras_object(config)


def test_an_object_that_is_met_twice_is_one_object_again():
    slope = layers.PReLU()
    model = Sequential([layers.Input((3,)), layers.Dense(2, activation=slope), layers.Dense(2, activation=slope)])
    with sharing_objects():
        description = as_json(serialize_keras_object(model))
    with sharing_objects():
        again = deserialize_keras_object(description)
    assert again.layers[0].activation is again.layers[1].activation
    apart = deserialize_keras_object(as_json(serialize_keras_object(model)))
    assert apart.layers[0].activation is not apart.layers[1].activation


# -- models ----------------------------------------------------------------------------------------------------------


def test_a_stack_says_what_that_of_keras_says_and_is_made_again_from_it():
    keras = pytest.importorskip("keras")

    def made(package):
        return package.models.Sequential(
            [
                package.layers.InputLayer(shape=(8, 8, 3), name="in"),
                package.layers.Conv2D(4, 3, activation="relu", name="a"),
                package.layers.BatchNormalization(name="b"),
                package.layers.Flatten(name="c"),
                package.layers.Dense(2, name="d", trainable=False),
            ],
            name="stack",
        )

    ours, theirs = made(pycnn), made(keras)
    description = as_json(serialize_keras_object(ours))
    expected = as_json(keras.saving.serialize_keras_object(theirs))
    assert comparable(without_build(description)) == comparable(without_build(expected))
    for config in (description, expected):
        again = deserialize_keras_object(config)
        assert as_json(serialize_keras_object(again)) == description
        assert again.built
        assert [weight.shape for weight in again.weights] == [weight.shape for weight in ours.weights]
    back = keras.saving.deserialize_keras_object(description)
    assert [tuple(weight.shape) for weight in back.weights] == [weight.shape for weight in ours.weights]


def without_build(value):
    """Keras says of some layers without weights what they were built for, and of others not.

    What follows from nothing having been said is left out, too: that a model was not compiled, and that there is no
    mask.
    """
    if isinstance(value, dict):
        empty = {"compile_config": {}, "mask": None}
        return {
            name: without_build(each)
            for name, each in value.items()
            if name != "build_config" and not (name in empty and each == empty[name])
        }
    return [*map(without_build, value)] if isinstance(value, list) else value


def functional(package):
    """Branches, a layer that is called twice, a model within, several inputs and outputs."""
    images, sizes = package.layers.Input((8, 8, 3), name="images"), package.layers.Input((4,), name="sizes")
    shared = package.layers.Dense(4, name="shared")
    x = package.layers.Conv2D(4, 3, activation="relu", name="convolution")(images)
    inner = package.models.Sequential([package.layers.Conv2D(4, 1, name="inside")], name="inner")
    x = package.layers.Add(name="sum")([x, inner(x)])
    x = package.layers.GlobalAveragePooling2D(name="average")(x)
    first, second = shared(x), shared(sizes)
    joined = package.layers.Concatenate(name="joined")([first, second])
    dropped = package.layers.Dropout(0.5, name="dropped")(joined, training=False)
    return package.models.Model([images, sizes], [package.layers.Dense(2, name="end")(dropped), first], name="graph")


def test_a_functional_model_says_what_that_of_keras_says_and_is_made_again_from_it():
    keras = pytest.importorskip("keras")
    pycnn.utils.clear_session()  # the input layer of the model within is named by counting
    keras.utils.clear_session(free_memory=False)
    ours, theirs = functional(pycnn), functional(keras)
    description = as_json(serialize_keras_object(ours))
    expected = as_json(keras.saving.serialize_keras_object(theirs))
    expected["registered_name"] = None  # Keras finds its own class by the module
    assert comparable(without_build(description)) == comparable(without_build(expected))
    for config in (description, expected):
        again = deserialize_keras_object(config)
        assert as_json(without_build(as_json(serialize_keras_object(again)))) == without_build(description)
        assert [weight.shape for weight in again.weights] == [weight.shape for weight in ours.weights]
    back = keras.saving.deserialize_keras_object(description)
    assert [tuple(weight.shape) for weight in back.weights] == [weight.shape for weight in ours.weights]


def test_a_functional_model_computes_the_same_again():
    model = functional(pycnn)
    again = deserialize_keras_object(as_json(serialize_keras_object(model)))
    again.set_weights(model.get_weights())
    inputs = [np.random.default_rng(0).random((2, *shape), np.float32) for shape in ((8, 8, 3), (4,))]
    for before, after in zip(model(inputs), again(inputs), strict=True):
        assert (before.detach().numpy() == after.detach().numpy()).all()


def test_graphs_of_older_files_are_read():
    def layer(kind, name, nodes, **config):
        return {"class_name": kind, "name": name, "config": {"name": name, **config}, "inbound_nodes": nodes}

    config = {
        "name": "old",
        "layers": [
            layer("InputLayer", "in", [], batch_input_shape=[None, 3], dtype="float32", sparse=False),
            layer("Dense", "a", [[["in", 0, 0, {}]]], units=2, activation="relu"),
            layer("Add", "sum", [[["a", 0, 0, {}], ["a", 0, 0, {}]]]),
        ],
        "input_layers": [["in", 0, 0]],
        "output_layers": [["sum", 0, 0]],
    }
    model = deserialize_keras_object(
        {"class_name": "Functional", "module": "keras.src.engine.functional", "config": config}
    )
    assert model.output_shape == (None, 2)
    assert model.count_params() == 8


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("layers", 2, "inbound_nodes", 0, "args", 0, "config", "keras_history", 0), "nowhere"),
        (("layers", 2, "inbound_nodes", 0, "args", 0, "config", "keras_history", 1), 7),
        (("layers", 2, "inbound_nodes", 0, "args", 0, "config", "keras_history", 2), 7),
        (("layers", 2, "inbound_nodes", 0, "args"), []),
        (("layers", 2, "inbound_nodes", 0, "kwargs"), {"mask": 1}),
        (("layers", 2, "name"), "another"),
        (("layers",), None),
        (("layers", 1), 5),
        (("output_layers",), ["nowhere", 0, 0]),
        (("input_layers",), 3),
    ],
)
def test_graphs_that_do_not_hold_together_are_refused(path, value):
    config = as_json(serialize_keras_object(functional(pycnn)))
    place = config["config"]
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    with pytest.raises((ValueError, TypeError), match=r"expected|no layer gives|there is no"):
        deserialize_keras_object(config)


def test_the_operations_of_keras_are_no_layers():
    with pytest.raises(ValueError, match=r"unknown class 'Multiply' of 'keras\.src\.ops\.numpy'"):
        deserialize_keras_object({"class_name": "Multiply", "module": "keras.src.ops.numpy", "config": {"name": "x"}})
