"""Damaged and hostile files: refused with a reason, with nothing changed and no memory taken for what they claim."""

import io
import json
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pycnn import layers
from pycnn.models import Sequential, load_model
from pycnn.saving import InvalidFileError, archive, safetensors

SETTINGS = settings(
    max_examples=150,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def made():
    return Sequential(
        [layers.Input((4, 4, 1)), layers.Conv2D(2, 3), layers.BatchNormalization(), layers.Flatten(), layers.Dense(2)]
    )


def refuses(function, *args, match="."):
    """Whether a call is refused as documented, without much memory."""
    tracemalloc.start()
    try:
        with pytest.raises(InvalidFileError, match=match):
            function(*args)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 50e6


@pytest.fixture
def model():
    return made()


@pytest.fixture
def parts(model, tmp_path):
    """The parts of a model's file."""
    model.compile("adam", "mse")
    model.fit(np.zeros((2, 4, 4, 1), np.float32), np.zeros((2, 2), np.float32), verbose=0)
    model.save(tmp_path / "whole.pycnn")
    with zipfile.ZipFile(tmp_path / "whole.pycnn") as file:
        return {name: file.read(name) for name in file.namelist()}


def archived(parts, **options):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", **options) as written:
        for name, part in parts.items():
            written.writestr(name, part)
    return file.getvalue()


def header(entries, body=b""):
    text = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text + body


# -- safetensors -----------------------------------------------------------------------------------------------------


def entry(dtype="F32", shape=(2,), begin=0, end=8):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


BAD_SAFETENSORS = {
    "nothing": (b"", "received 0 bytes"),
    "a length and no header": (struct.pack("<Q", 2**62), "its header says that it has 4611686018427387904 bytes"),
    "no JSON": (header(b"{"), "expected JSON"),
    "a list": (header([1]), "expected a dictionary"),
    "no text": (header(b"\xff\xfe"), "expected JSON"),
    "an array twice": (header(b'{"a": 1, "a": 1}'), "two entries of one name"),
    "JSON that nests": (header(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"), "nest too deep"),
    "a huge shape": (header({"a": entry(shape=(2**40, 2**20), end=8)}, b"12345678"), "expected .* bytes for F32"),
    "a huge shape of nothing": (
        header({"a": entry(shape=(0, 2**47, 2**47), end=0)}),
        "at most 281474976710656 elements",
    ),
    "a shape beyond 64 bits": (header({"a": entry(shape=(2**70,))}, b"12345678"), "expected a shape"),
    "a negative size": (header({"a": entry(shape=(-2, -1))}, b"12345678"), "expected a shape"),
    "a size that is no integer": (header({"a": entry(shape=(2.0,))}, b"12345678"), "expected a shape"),
    "many axes": (header({"a": entry(shape=(1,) * 40, end=4)}, b"1234"), "at most 32 axes"),
    "an unknown dtype": (header({"a": entry(dtype="C64")}, b"12345678"), "expected a dtype"),
    "an array of objects": (header({"a": entry(dtype="O")}, b"12345678"), "expected a dtype"),
    "bytes behind the end": (header({"a": entry()}, b"1234"), "expected its bytes at"),
    "bytes before the beginning": (header({"a": entry(begin=-8, end=0)}, b"1234"), "expected two data_offsets"),
    "arrays over each other": (header({"a": entry(), "b": entry()}, b"12345678"), "expected its bytes at 8"),
    "a hole": (header({"a": entry(begin=4, end=12)}, b"123456789012"), "expected its bytes at 0"),
    "more than the arrays": (header({"a": entry()}, b"123456789"), "expected 8 bytes of arrays"),
    "an entry that is none": (header({"a": [1]}), "expected dtype, shape and data_offsets"),
    "an entry with more": (header({"a": {**entry(), "code": "import os"}}, b"12345678"), "expected dtype, shape"),
}


@pytest.mark.parametrize(("data", "match"), BAD_SAFETENSORS.values(), ids=BAD_SAFETENSORS)
def test_bad_arrays_are_refused(data, match, model, tmp_path):
    refuses(safetensors.read, data, "file", match=match)
    before = model.get_weights()
    (tmp_path / "x.safetensors").write_bytes(data)
    refuses(model.load_weights, tmp_path / "x.safetensors", match=match)
    assert all((a == b).all() for a, b in zip(before, model.get_weights()))


def test_numbers_that_are_no_weights_are_refused(model, tmp_path):
    for dtype in ("int32", "bool", "uint8"):
        arrays = {name: array.astype(dtype) for name, array in weights_of(model).items()}
        with open(tmp_path / "x.safetensors", "wb") as file:
            safetensors.write(file, arrays)
        refuses(model.load_weights, tmp_path / "x.safetensors", match=f"expected float32 numbers, received {dtype}")


def weights_of(model):
    from pycnn.saving.weights import named_arrays

    return named_arrays(model)


# -- archives --------------------------------------------------------------------------------------------------------


def test_parts_of_other_names_are_refused(parts, tmp_path):
    path = tmp_path / "x.pycnn"
    outside = tmp_path / "outside"
    for name in ("../outside", str(outside), "weights.safetensors/../../outside", "weights.pkl", "a\\..\\outside"):
        path.write_bytes(archived({**parts, name: b"evil"}))
        refuses(load_model, path, match="expected the parts")
        refuses(made().load_weights, path, match="expected the parts")
    assert not outside.exists()
    for name in parts:
        path.write_bytes(archived({other: part for other, part in parts.items() if other != name}))
        refuses(load_model, path, match="expected the parts")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_part_that_is_there_twice_is_refused(parts, tmp_path):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as written:
        for name, part in [*parts.items(), ("config.json", b"{}")]:
            written.writestr(name, part)
    (tmp_path / "x.pycnn").write_bytes(file.getvalue())
    refuses(load_model, tmp_path / "x.pycnn", match="expected each part once")


def test_bombs_are_refused(parts, tmp_path):
    path = tmp_path / "x.pycnn"
    bomb = archived({**parts, "weights.safetensors": bytes(200_000_000)}, compression=zipfile.ZIP_DEFLATED)
    path.write_bytes(bomb)
    refuses(load_model, path, match=r"weights\.safetensors: expected at most 100 times its")
    refuses(made().load_weights, path, match=r"weights\.safetensors: expected at most 100 times its")
    path.write_bytes(archived(parts, compression=zipfile.ZIP_BZIP2))
    refuses(load_model, path, match="stored or deflated")
    path.write_bytes(archived(parts, compression=zipfile.ZIP_DEFLATED))  # as someone may have packed it again
    assert load_model(path).count_params() == made().count_params()


def test_sizes_that_an_archive_only_claims_are_refused(parts, tmp_path):
    path = tmp_path / "x.pycnn"
    data = bytearray(archived(parts))
    at = data.index(b"PK\x01\x02")  # the first entry of the directory: its sizes are 20 and 24 bytes behind
    for size in (0, 10, 2**31, 2**32 - 2):
        data[at + 20 : at + 28] = struct.pack("<II", size, size)
        path.write_bytes(bytes(data))
        refuses(load_model, path, match="damaged archive|expected")


def changed(parts, name, change):
    value = json.loads(parts[name])
    change(value)
    return archived({**parts, name: json.dumps(value).encode()})


def dense(config):
    return config["config"]["layers"][-1]["config"]


CHANGES = {
    "another format": ("metadata.json", lambda v: v.update(format="x"), "expected the format 'pycnn model'"),
    "a later version": ("metadata.json", lambda v: v.update(format_version=99), "of version 99"),
    "a huge layer": ("config.json", lambda v: dense(v).update(units=2**40), "and the file has"),
    "a large layer": ("config.json", lambda v: dense(v).update(units=10), "and the file has"),
    "a small layer": ("config.json", lambda v: dense(v).update(units=1), "expected shape"),
    "no number": ("config.json", lambda v: dense(v).update(units="2"), "units: expected a positive integer"),
    "an unknown class": ("config.json", lambda v: v.update(class_name="Popen", module="subprocess"), "unknown class"),
    "an unknown layer": (
        "config.json",
        lambda v: v["config"]["layers"][-1].update(class_name="system", module="os", registered_name="os>system"),
        "unknown class 'system' of 'os'",
    ),
    "code": (
        "config.json",
        lambda v: dense(v).update(activation={"class_name": "__lambda__", "config": {"value": "4wEA"}}),
        "never executed",
    ),
    "an unknown function": (
        "config.json",
        lambda v: dense(v).update(activation={"class_name": "function", "module": "os", "config": "system"}),
        "unknown function 'system'",
    ),
    "a layer for a model": ("config.json", lambda v: v.update(v["config"]["layers"][1]), "expected a model"),
    "an unknown loss": ("config.json", lambda v: v["compile_config"].update(loss="mystery"), "unknown loss"),
    "an unknown setting": (
        "config.json",
        lambda v: v["compile_config"].update(run="x"),
        "compile has no argument 'run'",
    ),
    "no random state": ("training.json", lambda v: v.pop("random"), "cannot build the model"),
    "another random state": ("training.json", lambda v: v["random"].update(state={}), "cannot build the model"),
    "a negative random state": (
        "training.json",
        lambda v: v["random"]["state"].update(state=-1),
        "cannot build the model",
    ),
    "states of layers that there are not": (
        "training.json",
        lambda v: v["layers"].update(x={"y": {}}),
        "expected the states of the generators",
    ),
}


@pytest.mark.parametrize(("name", "change", "match"), CHANGES.values(), ids=CHANGES)
def test_changed_descriptions_are_refused(name, change, match, parts, tmp_path):
    (tmp_path / "x.pycnn").write_bytes(changed(parts, name, change))
    refuses(load_model, tmp_path / "x.pycnn", match=match)


def test_another_state_of_the_optimizer_is_refused(parts, tmp_path):
    state = dict(safetensors.read(parts["training.safetensors"], "state"))
    assert state["iterations"] == 1
    for name, array in (
        ("0/velocity", np.zeros(3, np.float32)),
        ("99/velocity", np.zeros(3)),
        ("iterations", np.zeros(2)),
    ):
        file = io.BytesIO()
        safetensors.write(file, {**state, name: array})
        (tmp_path / "x.pycnn").write_bytes(archived({**parts, "training.safetensors": file.getvalue()}))
        refuses(load_model, tmp_path / "x.pycnn", match="state: ")


def test_descriptions_that_nest_or_are_too_long_are_refused(parts, tmp_path, monkeypatch):
    path = tmp_path / "x.pycnn"
    path.write_bytes(archived({**parts, "config.json": b'{"a":' + b"[" * 50_000 + b"]" * 50_000 + b"}"}))
    refuses(load_model, path, match="nest too deep")
    nested = json.loads(parts["config.json"])
    for _ in range(60):
        nested = {"module": "keras", "class_name": "Sequential", "config": {"name": "x", "layers": [nested]}}
    path.write_bytes(archived({**parts, "config.json": json.dumps(nested).encode()}))
    refuses(load_model, path, match="within each other")
    monkeypatch.setattr("pycnn.saving.json_text.LONGEST", 100)
    path.write_bytes(archived(parts))
    refuses(load_model, path, match="expected at most 100 bytes of JSON")


# -- HDF5 ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def h5py():
    return pytest.importorskip("h5py")


def test_models_of_keras_with_something_else_for_an_array_are_refused(h5py, model, tmp_path):
    model.save(tmp_path / "whole.keras")
    with zipfile.ZipFile(tmp_path / "whole.keras") as file:
        parts = {name: file.read(name) for name in file.namelist()}
    weights = io.BytesIO(parts["model.weights.h5"])
    with h5py.File(weights, "a") as file:
        del file["layers/dense/vars/0"]
        file["layers/dense/vars/0"] = np.dtype("f4")
    path = tmp_path / "x.keras"
    path.write_bytes(archived({**parts, "model.weights.h5": weights.getvalue()}))
    refuses(load_model, path, match="expected an array, received a datatype")


def test_names_without_anything_under_them_are_refused(h5py, model, tmp_path):
    path = tmp_path / "x.weights.h5"
    model.save_weights(path)
    data, messages = path.read_bytes(), set()
    for place in (place for place in range(len(data)) if data[place : place + 5] == b"vars\0"):
        # A group is searched by the order of its names, and listed by that of their places.
        path.write_bytes(data[:place] + b"\x01" + data[place + 1 :])
        try:
            model.load_weights(path)
        except InvalidFileError as error:
            messages.add(str(error))
    assert any("which it does not have" in message for message in messages)


def test_hostile_hdf5_files_are_refused(h5py, model, tmp_path):
    path = tmp_path / "x.weights.h5"
    place = "layers/dense/vars/0"

    def huge(group, name):
        group.create_dataset(name, shape=(2**20, 2**20), dtype="f4", chunks=(1024, 1024), compression="gzip")

    def outside(group, name):
        (tmp_path / "secret").write_bytes(bytes(32))
        group.create_dataset(name, (4, 2), "f4", external=[(str(tmp_path / "secret"), 0, 32)])

    def virtual(group, name):
        layout = h5py.VirtualLayout((8, 2), "f4")
        layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "x", (8, 2))
        group.create_virtual_dataset(name, layout)

    hostile = {
        "expected about as many bytes|expected shape": huge,
        "expected an array whose numbers are in the file": outside,
        "an array whose numbers are": virtual,
        "received a SoftLink": lambda group, name: group.__setitem__(name, h5py.SoftLink("/layers/conv2d/vars/0")),
        "received a ExternalLink": lambda group, name: group.__setitem__(name, h5py.ExternalLink("/etc/passwd", "/x")),
        "received a group": lambda group, name: group.create_group(name),
        "received a datatype": lambda group, name: group.__setitem__(name, np.dtype("f4")),
        "expected float32 numbers, received object": lambda group, name: group.create_dataset(
            name, data=np.array(["text"] * 16, object).reshape(8, 2), dtype=h5py.string_dtype()
        ),
        "expected float32 numbers, received complex64": lambda group, name: group.create_dataset(
            name, data=np.zeros((8, 2), np.complex64)
        ),
        "is missing": lambda group, name: None,
    }
    before = model.get_weights()
    for match, put in hostile.items():
        model.save_weights(path)
        with h5py.File(path, "a") as file:
            del file[place]
            put(file[place.rpartition("/")[0]], "0")
        refuses(model.load_weights, path, match=match)
    model.save_weights(path)
    with h5py.File(path, "a") as file:
        file["layers/dense"]["itself"] = file["layers"]  # groups without end
    refuses(model.load_weights, path, match="nest too deep")
    assert all((a == b).all() for a, b in zip(before, model.get_weights()))


def test_a_huge_model_in_a_small_file_of_keras_is_refused(h5py, tmp_path):
    path = tmp_path / "x.keras"
    made().save(path)
    with zipfile.ZipFile(path) as file:
        parts = {name: file.read(name) for name in file.namelist()}
    path.write_bytes(changed(parts, "config.json", lambda v: dense(v).update(units=2**30)))
    refuses(load_model, path, match="and the file has")
    path.write_bytes(archived({**parts, "assets/x": b""}))
    refuses(load_model, path, match="expected the parts")
    path.write_bytes(archived({**parts, "model.weights.h5": b"\x89HDF\r\n\x1a\n" + bytes(500)}))
    refuses(load_model, path, match="damaged HDF5 file")


# -- any bytes -------------------------------------------------------------------------------------------------------


def mutated(data, draw):
    """Bytes that are changed, cut off, put in, or taken out."""
    data = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        kind = draw(st.sampled_from(["change", "cut", "insert", "remove", "zero"]))
        if kind == "change":
            data[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
        elif kind == "cut":
            del data[at:]
        elif kind == "insert":
            data[at:at] = draw(st.binary(min_size=1, max_size=16))
        elif kind == "remove":
            del data[at : at + draw(st.integers(1, 16))]
        else:
            data[at : at + 8] = bytes(len(data[at : at + 8]))
    return bytes(data)


def test_mutated_arrays_are_taken_whole_or_not_at_all(model, tmp_path):
    path = tmp_path / "x.safetensors"
    model.save_weights(path)
    whole = path.read_bytes()
    other = made()

    @SETTINGS
    @given(st.data())
    def check(data):
        check_weights(other, path, mutated(whole, data.draw))

    check()


def check_weights(model, path, data):
    before = model.get_weights()
    path.write_bytes(data)
    try:
        model.load_weights(path)
    except InvalidFileError:
        assert all(np.array_equal(a, b, equal_nan=True) for a, b in zip(before, model.get_weights()))


def test_mutated_descriptions_of_arrays_are_refused(model, tmp_path):
    """The header alone: most of the bytes of a file are numbers, which may be any."""
    path = tmp_path / "x.safetensors"
    model.save_weights(path)
    whole = path.read_bytes()
    (length,) = struct.unpack("<Q", whole[:8])
    other = made()

    @SETTINGS
    @given(st.data())
    def check(data):
        check_weights(other, path, mutated(whole[: 8 + length], data.draw) + whole[8 + length :])

    check()


@pytest.mark.parametrize("name", ["config.json", "metadata.json", "training.json", "training.safetensors"])
def test_mutated_parts_are_refused_or_make_a_model(name, parts, tmp_path):
    path = tmp_path / "x.pycnn"

    @settings(SETTINGS, max_examples=60)
    @given(st.data())
    def check(data):
        path.write_bytes(archived({**parts, name: mutated(parts[name], data.draw)}))
        try:
            model = load_model(path)
        except InvalidFileError:
            return
        assert model.count_params() == made().count_params()

    check()


def test_mutated_archives_are_refused_or_are_the_same(parts, tmp_path):
    path = tmp_path / "x.pycnn"
    whole = archived(parts)
    weights = safetensors.read(parts["weights.safetensors"], "weights")

    @SETTINGS
    @given(st.data())
    def check(data):
        path.write_bytes(mutated(whole, data.draw))
        try:
            model = load_model(path)
        except InvalidFileError:
            return
        found = weights_of(model)
        assert all((found[name] == array).all() for name, array in weights.items())  # the checksums say so

    check()


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=5),
    st.lists(st.integers(-3, 9), max_size=3),
    st.just({}),
    st.sampled_from(["Dense", "keras.layers", "Sequential", "__numpy__", "__tensor__", "function", "DTypePolicy"]),
)


def test_descriptions_with_other_values_are_refused_or_make_a_model(parts, tmp_path):
    path = tmp_path / "x.pycnn"

    def places(value, found):
        for key, each in list(value.items() if isinstance(value, dict) else enumerate(value)):
            found.append((value, key))
            if isinstance(each, dict | list):
                places(each, found)
        return found

    @SETTINGS
    @given(st.data())
    def check(data):
        config = json.loads(parts["config.json"])
        container, key = data.draw(st.sampled_from(places(config, [])))
        if data.draw(st.booleans()):
            container[key] = data.draw(VALUES)
        else:
            del container[key]
        path.write_bytes(archived({**parts, "config.json": json.dumps(config).encode()}))
        try:
            model = load_model(path)
        except InvalidFileError:
            return
        assert model.count_params() == made().count_params()

    check()


def test_mutated_hdf5_files_are_taken_whole_or_not_at_all(h5py, model, tmp_path):
    path = tmp_path / "x.weights.h5"
    model.save_weights(path)
    whole = path.read_bytes()
    other = made()

    @SETTINGS
    @given(st.data())
    def check(data):
        check_weights(other, path, mutated(whole, data.draw))

    check()


def test_the_names_of_parts_are_those_that_are_written(parts):
    own = (archive.METADATA, archive.CONFIG, archive.WEIGHTS, archive.TRAINING, archive.TRAINING_ARRAYS)
    assert set(parts) == set(own)
