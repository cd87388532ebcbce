"""Models and weights in files: the same again, also by Keras, whole or not at all."""

import errno
import io
import json
import os
import signal
import stat
import subprocess
import sys
import time
import zipfile

import numpy as np
import pytest

import pycnn
from pycnn import layers, models
from pycnn.layers import Layer
from pycnn.models import Sequential, load_model, model_from_json
from pycnn.saving import InvalidFileError, register_keras_serializable, safetensors
from pycnn.saving.atomic import replaced_file
from pycnn.saving.paths import layers_by_path, weights_by_path
from pycnn.utils import set_random_seed


@register_keras_serializable("tests")
class Block(Layer):
    """Layers in attributes, lists within lists, and dictionaries, and a weight of its own."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.several = [layers.Dense(units), layers.Dense(units), [layers.Dense(units)]]
        self.alone = layers.Dense(units)
        self.named = {"x": layers.Dense(units)}
        self._last = layers.Dense(units)

    def build(self, input_shape):
        self.shift = self.add_weight((input_shape[-1],), "ones", name="shift")

    def call(self, inputs):
        x = inputs + self.shift
        for layer in (*self.several[:2], self.several[2][0], self.alone, self.named["x"], self._last):
            x = layer(x)
        return x


def stack(package=pycnn, name="stack"):
    kinds = package.layers
    return package.models.Sequential(
        [
            kinds.InputLayer(shape=(8, 8, 3)),
            kinds.Conv2D(4, 3),
            kinds.PReLU(),
            kinds.BatchNormalization(),
            kinds.Dropout(0.25, seed=3),
            package.models.Sequential([kinds.DepthwiseConv2D(2), kinds.SeparableConv2D(3, 2)]),
            kinds.Conv2DTranspose(2, 2),
            kinds.LayerNormalization(),
            kinds.Flatten(),
            kinds.Dense(3, activation="softmax"),
        ],
        name=name,
    )


def functional(package=pycnn):
    images, sizes = package.layers.Input((8, 8, 3)), package.layers.Input((4,))
    shared = package.layers.Dense(4)
    x = package.layers.Conv2D(4, 3, activation="relu")(images)
    x = package.layers.Add()([x, package.models.Sequential([package.layers.Conv2D(4, 1)])(x)])
    x = package.layers.GlobalAveragePooling2D()(package.layers.BatchNormalization()(x))
    joined = package.layers.Concatenate()([shared(x), shared(sizes)])
    return package.models.Model([images, sizes], package.layers.Dense(2)(joined))


def with_own_layer():
    return Sequential([layers.Input((4,)), Block(4), layers.Dense(2, activation=layers.PReLU())])


@register_keras_serializable("tests")
class Own(models.Model):
    """A model of a user's class, whose layers are built when it is called."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.first, self.last = layers.Dense(units), layers.Dense(2)

    def call(self, inputs):
        return self.last(self.first(inputs))


@register_keras_serializable("tests")
class OwnGraph(models.Model):
    """A functional model that is made in the constructor of a user's class."""

    def __init__(self, units, **kwargs):
        x = layers.Input((4,))
        super().__init__(x, layers.Dense(units)(x), **kwargs)


@register_keras_serializable("tests")
class Plain(models.Model):
    """A functional model of a user's class, made as any other."""


def with_own_model():
    model = Own(3, name="own")
    model(np.zeros((1, 4), np.float32))
    return model


def with_plain_graph():
    x = layers.Input((4,))
    return Plain(x, layers.Dense(3)(x))


MODELS = {"stack": stack, "functional": functional, "own layer": with_own_layer}
USERS = {"own model": with_own_model, "own graph": lambda: OwnGraph(3), "plain graph": with_plain_graph}


def inputs_of(model):
    generator = np.random.default_rng(0)
    shapes = model.input_shape if isinstance(model.input_shape, list) else [model.input_shape]
    found = [generator.standard_normal((5, *shape[1:]), np.float32) for shape in shapes]
    return found if len(found) > 1 else found[0]


def outputs_of(model):
    outputs = model(inputs_of(model))
    if hasattr(outputs, "detach"):
        outputs = outputs.detach()
    return np.asarray(outputs.numpy())


def stirred(model):
    """The model with weights that no initializer gives, so that each of them shows."""
    generator = np.random.default_rng(1)
    model.set_weights([generator.uniform(0.1, 0.9, w.shape).astype(w.dtype) for w in model.get_weights()])
    return model


def same(first, second):
    return len(first) == len(second) and all((a == b).all() and a.dtype == b.dtype for a, b in zip(first, second))


# -- pycnn's own files -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("made", [*MODELS.values(), *USERS.values()], ids=[*MODELS, *USERS])
def test_a_model_is_the_same_again(made, tmp_path):
    model = stirred(made())
    model.compile("sgd", "mse", metrics=["accuracy"])
    model.save(tmp_path / "model.pycnn")
    again = load_model(tmp_path / "model.pycnn")
    assert same(again.get_weights(), model.get_weights())
    assert (outputs_of(again) == outputs_of(model)).all()
    assert again.to_json() == model.to_json()
    assert type(again.optimizer) is type(model.optimizer)
    assert load_model(tmp_path / "model.pycnn", compile=False).optimizer is None
    model.save(tmp_path / "second.pycnn")
    assert (tmp_path / "second.pycnn").read_bytes() == (tmp_path / "model.pycnn").read_bytes()


@pytest.mark.parametrize("made", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("suffix", ["safetensors", "weights.h5", "pycnn", "keras"])
def test_weights_are_the_same_again(made, suffix, tmp_path):
    if suffix in ("weights.h5", "keras"):
        pytest.importorskip("h5py")
    model, other, path = stirred(made()), made(), tmp_path / f"x.{suffix}"
    (model.save if suffix in ("pycnn", "keras") else model.save_weights)(path)
    other.load_weights(path)
    assert same(other.get_weights(), model.get_weights())


def test_architecture_alone_is_the_same_again():
    model = functional()
    again = model_from_json(model.to_json())
    assert again.to_json() == model.to_json()
    assert json.loads(model.to_json(indent=2)) == json.loads(model.to_json())
    with pytest.raises(InvalidFileError, match="expected a model"):
        model_from_json('{"module": "keras.layers", "class_name": "ReLU", "config": {}}')


def test_halves_are_kept(tmp_path):
    for dtype in ("float16", "bfloat16", "float64"):
        pytest.importorskip("ml_dtypes")
        model = stirred(Sequential([layers.Input((3,)), layers.Dense(2, dtype=dtype)]))
        model.save(tmp_path / "half.pycnn")
        assert same(load_model(tmp_path / "half.pycnn").get_weights(), model.get_weights())
        pytest.importorskip("h5py")
        model.save_weights(tmp_path / "half.weights.h5")
        other = Sequential([layers.Input((3,)), layers.Dense(2, dtype=dtype)])
        other.load_weights(tmp_path / "half.weights.h5")
        assert same(other.get_weights(), model.get_weights())


def test_weights_of_another_precision_are_converted(tmp_path):
    model = stirred(Sequential([layers.Input((3,)), layers.Dense(2)]))
    model.save_weights(tmp_path / "x.safetensors")
    half = Sequential([layers.Input((3,)), layers.Dense(2, dtype="float16")])
    half.load_weights(tmp_path / "x.safetensors")
    assert (half.get_weights()[0] == model.get_weights()[0].astype(np.float16)).all()


def trained(model, epochs):
    generator = np.random.default_rng(4)
    x, y = generator.random((20, 8, 8, 3), np.float32), generator.integers(0, 3, 20)
    model.fit(x, y, batch_size=8, epochs=epochs, verbose=0)
    return model


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda: pycnn.optimizers.Adam(0.01),
        lambda: pycnn.optimizers.SGD(pycnn.optimizers.schedules.ExponentialDecay(0.1, 3, 0.5), momentum=0.9),
    ],
)
def test_training_goes_on_with_the_same_bits(optimizer, tmp_path):
    set_random_seed(1)
    model = stack()
    model.add(layers.Dropout(0.2))
    model.add(layers.Dense(3, activation="softmax"))
    model.compile(optimizer(), "sparse_categorical_crossentropy", metrics=["accuracy"])
    trained(model, 2).save(tmp_path / "model.pycnn")
    expected = trained(model, 2).get_weights()
    pycnn.random.generator().random(7)
    again = trained(load_model(tmp_path / "model.pycnn", resume=True), 2)
    assert same(again.get_weights(), expected)
    set_random_seed(2)
    state = pycnn.random.generator().bit_generator.state
    other = load_model(tmp_path / "model.pycnn")
    assert pycnn.random.generator().bit_generator.state == state
    assert not same(trained(other, 2).get_weights(), expected)


def test_weights_have_the_paths_of_keras():
    assert list(weights_by_path(with_own_layer())) == [
        "layers/block",
        "layers/block/alone",
        "layers/block/named/dense",
        "layers/block/several/dense",
        "layers/block/several/dense_1",
        "layers/block/several/container/dense",
        "layers/block/_last",
        "layers/dense",
        "layers/dense/activation",
    ]
    assert "layers/sequential/layers/depthwise_conv2d" in layers_by_path(stack())


# -- whole or not at all ---------------------------------------------------------------------------------------------

SAVING = """
import sys, time
from pycnn.saving import atomic
from pycnn import layers, models
model = models.Sequential([layers.Input((300,)), layers.Dense(300)])
model.save(sys.argv[1])
print("saved", flush=True)
real = atomic.os.fsync
def slow(file):
    print("written", flush=True)
    time.sleep(60)
    real(file)
atomic.os.fsync = slow
model.set_weights([2 + weight for weight in model.get_weights()])
model.save(sys.argv[1])
"""


def test_a_process_that_is_killed_while_it_saves_leaves_the_old_file_whole(tmp_path):
    path = tmp_path / "model.pycnn"
    child = subprocess.Popen([sys.executable, "-c", SAVING, str(path)], stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout.readline() == "saved\n"
        before = path.read_bytes()
        assert child.stdout.readline() == "written\n"
    finally:
        child.send_signal(signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
        child.wait()
        child.stdout.close()
    assert child.returncode != 0
    assert path.read_bytes() == before
    assert load_model(path).count_params() == 90_300
    assert len(os.listdir(tmp_path)) == 2  # what the killed process has begun is there under another name
    Sequential([layers.Input((3,)), layers.Dense(2)]).save(path)
    assert load_model(path).count_params() == 8


WRITING = """
import sys
from pycnn import layers, models
model = models.Sequential([layers.Input((500,)), layers.Dense(500)])
print("begun", flush=True)
while True:
    model.save(sys.argv[1])
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no such signal")
def test_a_process_that_is_killed_at_any_moment_leaves_a_whole_file(tmp_path):
    path = tmp_path / "model.pycnn"
    for moment in (0.3, 0.317):
        child = subprocess.Popen([sys.executable, "-c", WRITING, str(path)], stdout=subprocess.PIPE, text=True)
        assert child.stdout.readline() == "begun\n"
        time.sleep(moment)
        child.kill()
        child.wait()
        child.stdout.close()
        assert load_model(path).count_params() == 250_500


def test_what_fails_while_it_is_written_leaves_the_old_file_whole(tmp_path, monkeypatch):
    path = tmp_path / "x.safetensors"
    model = Sequential([layers.Input((3,)), layers.Dense(2)])
    model.save_weights(path)
    before = path.read_bytes()

    def fails(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pycnn.saving.atomic.os.fsync", fails)
    with pytest.raises(OSError, match=r"x\.safetensors: cannot write the weights: No space left"):
        stirred(model).save_weights(path)
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["x.safetensors"]
    with pytest.raises(FileExistsError, match="overwrite=False"):
        model.save_weights(path, overwrite=False)
    with pytest.raises(FileNotFoundError) as caught:
        model.save_weights(tmp_path / "no" / "x.safetensors")
    assert caught.value.errno == errno.ENOENT


@pytest.mark.skipif(os.name == "nt", reason="files have no such permissions")
def test_a_replaced_file_keeps_its_permissions(tmp_path):
    path = tmp_path / "x.safetensors"
    model = Sequential([layers.Input((3,)), layers.Dense(2)])
    model.save_weights(path)
    for mode in (0o600, 0o640):
        path.chmod(mode)
        model.save_weights(path)
        assert stat.S_IMODE(path.stat().st_mode) == mode


def test_names_may_be_as_long_as_the_file_system_allows(tmp_path):
    path = tmp_path / ("a" * 243 + ".safetensors")
    Sequential([layers.Input((3,)), layers.Dense(2)]).save_weights(path)
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


@register_keras_serializable("tests")
class Drawing(Layer):
    """A layer with a generator of its own, of a kind that its class says."""

    def __init__(self, kind, **kwargs):
        super().__init__(**kwargs)
        self.kind, self.rng = kind, np.random.Generator(getattr(np.random, kind)(3))

    def call(self, inputs):
        return inputs * float(self.rng.normal())


@pytest.mark.parametrize("kind", ["PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64"])
def test_generators_of_layers_go_on_where_they_were(kind, tmp_path):
    model = Sequential([layers.Input((3,)), Drawing(kind)])
    outputs_of(model)
    model.save(tmp_path / "model.pycnn")
    again = load_model(tmp_path / "model.pycnn")
    for _ in range(3):
        assert (outputs_of(again) == outputs_of(model)).all()


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with replaced_file(tmp_path / "link") as file:
        file.write(b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"


# -- safetensors -----------------------------------------------------------------------------------------------------


def test_the_package_safetensors_reads_and_writes_the_same(tmp_path):
    theirs = pytest.importorskip("safetensors.numpy")
    generator = np.random.default_rng(0)
    arrays = {
        "scalar": np.array(3.0),
        "empty": np.zeros((0, 4), np.float32),
        "transposed": generator.random((4, 3)).T,
        "bool": np.array([True, False]),
        **{
            kind: generator.integers(0, 100, (3, 2)).astype(kind)
            for kind in ("int8", "uint8", "int16", "int64", "uint64")
        },
        **{kind: generator.random((2, 1, 3)).astype(kind) for kind in ("float16", "float32", "float64")},
    }
    file = io.BytesIO()
    safetensors.write(file, arrays, {"made": "here"})
    for found in (
        theirs.load(file.getvalue()),
        safetensors.read(file.getvalue(), "file"),
        safetensors.read(theirs.save({name: np.array(array, order="C") for name, array in arrays.items()}), "file"),
    ):
        assert set(found) == set(arrays)
        assert all(found[name].dtype == array.dtype for name, array in arrays.items())
        assert all(np.array_equal(found[name], array) for name, array in arrays.items())
    assert file.getvalue()[8 : 8 + 16] == b'{"__metadata__":'
    with pytest.raises(TypeError, match="expected numbers"):
        safetensors.write(io.BytesIO(), {"x": np.array(["text"])})


# -- Keras -------------------------------------------------------------------------------------------------------------

BOTH = {"stack": stack, "functional": functional}


def close(ours, theirs):
    if hasattr(theirs, "detach"):
        theirs = theirs.detach().numpy()
    return np.allclose(ours, np.asarray(theirs), rtol=1e-5, atol=1e-5)


@pytest.fixture
def keras():
    return pytest.importorskip("keras")


@pytest.mark.parametrize("made", BOTH.values(), ids=BOTH)
def test_weights_move_both_ways(made, keras, tmp_path):
    ours, theirs = stirred(made()), made(keras)
    ours.save_weights(tmp_path / "ours.weights.h5")
    theirs.load_weights(tmp_path / "ours.weights.h5")
    assert same(ours.get_weights(), theirs.get_weights())
    assert close(outputs_of(ours), theirs(inputs_of(ours)))
    theirs.save_weights(tmp_path / "theirs.weights.h5")
    other = made()
    other.load_weights(tmp_path / "theirs.weights.h5")
    assert same(ours.get_weights(), other.get_weights())


@pytest.mark.parametrize("made", BOTH.values(), ids=BOTH)
def test_models_move_both_ways(made, keras, tmp_path):
    ours = stirred(made())
    ours.compile("adam", "mse", metrics=["accuracy"])
    ours.save(tmp_path / "ours.keras")
    theirs = keras.models.load_model(tmp_path / "ours.keras")
    assert same(ours.get_weights(), theirs.get_weights())
    assert close(outputs_of(ours), theirs(inputs_of(ours)))
    theirs.save(tmp_path / "theirs.keras")
    other = load_model(tmp_path / "theirs.keras")
    assert (outputs_of(other) == outputs_of(ours)).all()
    assert type(other.optimizer).__name__ == "Adam"
    x = [each[:2] for each in inputs_of(ours)] if isinstance(inputs_of(ours), list) else inputs_of(ours)[:2]
    theirs.fit(x, np.asarray(theirs(x).detach()), verbose=0)
    theirs.save(tmp_path / "trained.keras")
    with pytest.warns(UserWarning, match="the state of the optimizer is not read"):
        trained = load_model(tmp_path / "trained.keras")
    assert same(trained.get_weights(), theirs.get_weights())
    loaded = made(keras)
    loaded.load_weights(tmp_path / "ours.keras")
    assert same(ours.get_weights(), loaded.get_weights())


@pytest.mark.parametrize("made", BOTH.values(), ids=BOTH)
def test_models_and_weights_of_keras_2_are_read(made, keras, tmp_path):
    h5py = pytest.importorskip("h5py")
    theirs = stirred(made(keras))
    theirs.layers[-1].trainable = False
    theirs.save(tmp_path / "whole.h5")
    again = load_model(tmp_path / "whole.h5")
    assert close(outputs_of(again), theirs(inputs_of(again)))
    with h5py.File(tmp_path / "whole.h5") as whole, h5py.File(tmp_path / "published.h5", "w") as published:
        group = whole["model_weights"]
        for name in group:
            group.copy(name, published)
        for name, value in group.attrs.items():
            published.attrs[name] = value
    for path in ("whole.h5", "published.h5"):
        ours = made()
        ours.load_weights(tmp_path / path)
        assert same(ours.get_weights(), again.get_weights())


def test_layers_of_keras_2_are_found_by_name(keras, tmp_path):
    pytest.importorskip("h5py")

    def made(package, *names):
        kinds = package.layers
        return package.models.Sequential([kinds.InputLayer((3,)), *(kinds.Dense(3, name=name) for name in names)])

    theirs = stirred(made(keras, "first", "second"))
    theirs.save(tmp_path / "x.h5")
    ours = made(pycnn, "second", "other")
    before = ours.get_weights()
    ours.load_weights(tmp_path / "x.h5", by_name=True)
    assert same(ours.get_weights(), [*theirs.get_weights()[2:], *before[2:]])
    ours.load_weights(tmp_path / "x.h5")
    assert same(ours.get_weights(), theirs.get_weights())
    short = made(pycnn, "second")
    with pytest.raises(InvalidFileError, match=r"it has 2 layers with weights, and the model 1; with by_name=True"):
        short.load_weights(tmp_path / "x.h5")
    ours.save_weights(tmp_path / "y.safetensors")
    with pytest.raises(ValueError, match="by_name=True is for files in Keras' former format"):
        ours.load_weights(tmp_path / "y.safetensors", by_name=True)


# -- what does not fit -------------------------------------------------------------------------------------------------


def test_what_does_not_fit_is_named_and_nothing_is_changed(tmp_path):
    pytest.importorskip("h5py")
    model = Sequential([layers.Input((3,)), layers.Dense(2), layers.Dense(4)])
    wide = stirred(Sequential([layers.Input((3,)), layers.Dense(2), layers.Dense(5)]))
    long = stirred(Sequential([layers.Input((3,)), layers.Dense(2), layers.Dense(4), layers.Dense(1)]))
    before = model.get_weights()
    for suffix in ("safetensors", "weights.h5"):
        wide.save_weights(tmp_path / f"wide.{suffix}")
        with pytest.raises(
            InvalidFileError, match=r"layers/dense_1/kernel: expected shape \(2, 4\), received \(2, 5\)"
        ):
            model.load_weights(tmp_path / f"wide.{suffix}")
        long.save_weights(tmp_path / f"long.{suffix}")
        with pytest.raises(InvalidFileError, match=r"the model has no layers/dense_2/"):
            model.load_weights(tmp_path / f"long.{suffix}")
        model.save_weights(tmp_path / f"short.{suffix}")
        with pytest.raises(InvalidFileError, match=r"layers/dense_2/kernel.* is missing"):
            long.load_weights(tmp_path / f"short.{suffix}")
        assert same(model.get_weights(), before)
    with pytest.warns(UserWarning, match="some weights were left as they are: layers/dense_1/kernel"):
        model.load_weights(tmp_path / "wide.safetensors", skip_mismatch=True)
    assert same(model.get_weights(), [*wide.get_weights()[:2], *before[2:]])


def test_names_and_states_that_cannot_be_are_refused(tmp_path):
    model = Sequential([layers.Input((3,)), layers.Dense(2)])
    for call, name in ((model.save, "x.h5"), (model.save, "x"), (model.save_weights, "x.h5"), (load_model, "x.onnx")):
        with pytest.raises(ValueError, match="expected the name of a file that ends in"):
            call(tmp_path / name)
    unbuilt = Sequential([layers.Dense(2)])
    for call in (unbuilt.save, unbuilt.save_weights, unbuilt.load_weights):
        with pytest.raises(ValueError, match="has no weights yet"):
            call(tmp_path / ("x.pycnn" if call == unbuilt.save else "x.safetensors"))
    model.save(tmp_path / "x.pycnn")
    with pytest.raises(ValueError, match="never executed"):
        load_model(tmp_path / "x.pycnn", safe_mode=False)
    with pytest.raises(FileNotFoundError):
        load_model(tmp_path / "none.pycnn")
    with pytest.raises(TypeError, match="a function without a name"):
        Sequential([layers.Input((3,)), layers.Dense(2, activation=lambda x: x)]).save(tmp_path / "y.pycnn")
    assert sorted(os.listdir(tmp_path)) == ["x.pycnn"]


def test_the_absence_of_h5py_is_explained(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    model = Sequential([layers.Input((3,)), layers.Dense(2)])
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'pycnn\[keras\]'"):
        model.save(tmp_path / "x.keras")
    assert os.listdir(tmp_path) == []
    model.save(tmp_path / "x.pycnn")
    assert load_model(tmp_path / "x.pycnn").count_params() == 8
    assert zipfile.is_zipfile(tmp_path / "x.pycnn")
    assert models.load_model is load_model
