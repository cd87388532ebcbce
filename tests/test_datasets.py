"""The data sets: the digits in the package, and CIFAR-10 from files that may be anything.

The batches here are written opcode by opcode as Python 2 wrote the published ones, with 20 images
instead of 10,000. Where the real CIFAR-10 is, the environment variable PYCNN_TEST_DATA tells.
"""

import contextlib
import errno
import gzip
import hashlib
import http.server
import io
import os
import pickle
import random
import re
import struct
import sys
import tarfile
import threading
import tracemalloc
import urllib.request
from importlib import resources

import numpy as np
import pytest

from pycnn.datasets import DataError, DownloadError, _download, cifar10, digits
from pycnn.datasets._pickles import PickledArray, read_pickle

IMAGES = 20
REAL_DATA = os.environ.get("PYCNN_TEST_DATA")


# --- digits ---------------------------------------------------------------------------------------

# sha256 of the text of optdigits.tes without its last, empty line.
SOURCE_SHA256 = "6ebb3d2fee246a4e99363262ddf8a00a3c41bee6014c373ed9d9216ba7f651b8"
# Published by UCI beside the data.
CLASS_COUNTS = [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
FIRST_IMAGE = """
 0 0  5 13  9  1 0 0
 0 0 13 15 10 15 5 0
 0 3 15  2  0 11 8 0
 0 4 12  0  0  8 8 0
 0 5  8  0  0  9 8 0
 0 4 11  0  1 12 7 0
 0 2 14  5 10 12 0 0
 0 0  6 13 10  0 0 0
"""


def rows_of(x, y):
    """One tuple of 65 numbers per image, as in the source."""
    return [(*image.ravel().tolist(), int(label)) for image, label in zip(x, y)]


def test_digits_file_repeats_the_source_character_by_character():
    images, labels = digits._read()
    text = "".join(",".join(map(str, row)) + "\n" for row in rows_of(images, labels))
    assert hashlib.sha256(text.encode()).hexdigest() == SOURCE_SHA256
    assert images[0, :, :, 0].tolist() == [[int(v) for v in line.split()] for line in FIRST_IMAGE.split("\n")[1:-1]]


def test_digits_shapes_dtypes_and_sums():
    (x_train, y_train), (x_test, y_test) = digits.load_data()
    assert x_train.shape == (1438, 8, 8, 1)
    assert x_test.shape == (359, 8, 8, 1)
    assert y_train.shape == (1438,)
    assert y_test.shape == (359,)
    assert {x_train.dtype, x_test.dtype, y_train.dtype, y_test.dtype} == {np.dtype(np.uint8)}
    x, y = np.concatenate([x_train, x_test]), np.concatenate([y_train, y_test])
    assert (x.min(), x.max(), x.sum()) == (0, 16, 561_718)
    assert np.bincount(y).tolist() == CLASS_COUNTS
    sums = [56415, 57007, 55566, 56151, 56239, 55915, 56336, 54289, 57408, 56392]
    assert [int(x[y == digit].sum()) for digit in range(10)] == sums


def test_digits_split_is_disjoint_and_complete():
    train, test = (set(rows_of(*part)) for part in digits.load_data())
    assert len(train) == 1438
    assert len(test) == 359
    assert not train & test
    assert train | test == set(rows_of(*digits._read()))


def test_digits_split_is_fixed_shuffled_and_stratified():
    (_, y_train), (x_test, y_test) = digits.load_data()
    assert hashlib.sha256(x_test.tobytes()).hexdigest().startswith("ad52702282de676d")
    assert np.bincount(y_test).tolist() == [round(0.2 * count) for count in CLASS_COUNTS]
    # Each tenth of the images to train has every class: validation_split takes the last one.
    assert all(len(set(tenth)) == 10 for tenth in np.array_split(y_train, 10))


def test_digits_labels_belong_to_their_images():
    (x_train, y_train), (x_test, y_test) = digits.load_data()
    train, test = x_train.reshape(-1, 64).astype(float), x_test.reshape(-1, 64).astype(float)
    distances = (train**2).sum(1) - 2 * test @ train.T
    assert np.mean(y_train[distances.argmin(1)] == y_test) > 0.98


def test_digits_name_their_source_and_licence():
    text = (resources.files("pycnn.datasets") / "digits.txt").read_text()
    for words in ("Alpaydin", "Kaynak", "10.24432/C50P49", "CC BY 4.0", SOURCE_SHA256):
        assert words in text
    assert "CC BY 4.0" in digits.load_data.__doc__


@pytest.mark.parametrize("damage", [lambda raw: raw[:1000], lambda raw: b"", lambda raw: raw.replace(b"PK", b"QK")])
def test_digits_file_damaged(damage, tmp_path, monkeypatch):
    raw = (resources.files("pycnn.datasets") / "digits.npz").read_bytes()
    (tmp_path / "digits.npz").write_bytes(damage(raw))
    monkeypatch.setattr(resources, "files", lambda package: tmp_path)
    with pytest.raises(DataError, match=r"digits\.npz: expected .* received"):
        digits.load_data()


# --- writing CIFAR-10 -----------------------------------------------------------------------------


def py2_string(value):
    """SHORT_BINSTRING or BINSTRING: how protocol 2 of Python 2 writes a str."""
    return b"U" + bytes([len(value)]) + value if len(value) < 256 else b"T" + struct.pack("<i", len(value)) + value


def py2_int(value):
    return b"J" + struct.pack("<i", value)


def py2_list(items):
    return b"](" + b"".join(items) + b"e"


def py2_array(contents, shape, typecode=b"u1"):
    """A NumPy 1 array, opcode for opcode as in the published batches (without their memo)."""
    minus_one = py2_int(-1)
    return (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01("
        + b"".join(map(py2_int, shape))
        + b"tcnumpy\ndtype\n"
        + py2_string(typecode)
        + b"K\x00K\x01\x87R(K\x03U\x01|NNN"
        + minus_one
        + minus_one
        + b"K\x00tb\x89"
        + py2_string(contents)
        + b"tb"
    )


def py2_dict(**entries):
    items = b"".join(py2_string(key.encode()) + value for key, value in entries.items())
    return b"\x80\x02}(" + items + b"u."


def content_of(name):
    """Pixels (20, 3072) and labels of one synthetic batch, different for each batch."""
    rng = np.random.default_rng(cifar10.BATCHES.index(name))
    return rng.integers(0, 256, (IMAGES, 3072), dtype=np.uint8), rng.integers(0, 10, IMAGES).tolist()


def batch(name="data_batch_1", **replaced):
    """One batch in the published format, with entries replaced by other opcodes or (None) left out."""
    pixels, labels = content_of(name)
    entries = {
        "batch_label": py2_string(b"training batch 1 of 5"),
        "labels": py2_list(map(py2_int, labels)),
        "data": py2_array(pixels.tobytes(), pixels.shape),
        "filenames": py2_list(py2_string(b"camion_s_%06d.png" % n) for n in range(IMAGES)),
    }
    entries.update(replaced)
    return py2_dict(**{key: value for key, value in entries.items() if value is not None})


def write_folder(parent, **replaced):
    folder = parent / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    for name in cifar10.BATCHES:
        (folder / name).write_bytes(replaced.get(name, batch(name)))
    return folder


def archive_bytes(change=lambda member: None):
    """cifar-10-python.tar.gz, in the order of the published one; ``change`` may alter each TarInfo."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name in ("data_batch_4", "readme.html", "test_batch", "data_batch_3", *cifar10.BATCHES):
            if f"cifar-10-batches-py/{name}" in archive.getnames():
                continue
            contents = batch(name) if name in cifar10.BATCHES else b"<html>"
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.size = len(contents)
            change(member)
            archive.addfile(member, io.BytesIO(contents))
    return packed.getvalue()


def assert_is_synthetic(loaded):
    (x_train, y_train), (x_test, y_test) = loaded
    assert x_train.shape == (5 * IMAGES, 32, 32, 3)
    assert x_test.shape == (IMAGES, 32, 32, 3)
    assert y_train.shape == (5 * IMAGES, 1)
    assert y_test.shape == (IMAGES, 1)
    assert {x_train.dtype, x_test.dtype, y_train.dtype, y_test.dtype} == {np.dtype(np.uint8)}
    for index, name in enumerate(cifar10.TRAIN_BATCHES):
        assert_is_batch(x_train[index * IMAGES :][:IMAGES], y_train[index * IMAGES :][:IMAGES], name)
    assert_is_batch(x_test, y_test, "test_batch")


def assert_is_batch(x, y, name):
    pixels, labels = content_of(name)
    assert y[:, 0].tolist() == labels
    for channel in range(3):
        plane = pixels[:, 1024 * channel : 1024 * (channel + 1)].reshape(IMAGES, 32, 32)
        np.testing.assert_array_equal(x[..., channel], plane)


@pytest.fixture(autouse=True)
def small_and_offline(tmp_path, monkeypatch):
    """Twenty images per batch, an empty cache folder, and no way to the publisher's server."""
    monkeypatch.setattr(cifar10, "IMAGES_PER_BATCH", IMAGES)
    monkeypatch.setattr(cifar10, "URL", "http://127.0.0.1:9/nothing-listens-here")
    monkeypatch.setenv("PYCNN_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("PYCNN_DATA", raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")


# --- CIFAR-10: where it is looked for -------------------------------------------------------------


def test_cifar10_from_the_folder_its_parent_or_the_archive(tmp_path):
    folder = write_folder(tmp_path / "data")
    archive = tmp_path / "packed" / "cifar-10-python.tar.gz"
    archive.parent.mkdir()
    archive.write_bytes(archive_bytes())
    renamed = tmp_path / "renamed.tgz"
    renamed.write_bytes(archive.read_bytes())
    for path in (folder, folder.parent, str(folder), archive, archive.parent, renamed):
        assert_is_synthetic(cifar10.load_data(path))


def test_cifar10_order_of_places(tmp_path, monkeypatch):
    order = []
    monkeypatch.setattr(cifar10, "download", lambda url, target, **expected: order.append(target))
    explicit, variable, cache = (tmp_path / name for name in ("explicit", "variable", "cache/datasets"))
    variable.mkdir()

    # Nothing anywhere: a variable that names a folder with other data is passed over, then a download.
    monkeypatch.setenv("PYCNN_DATA", str(variable))
    assert cifar10._locate(None) == cache / "cifar-10-python.tar.gz"
    assert order == [cache / "cifar-10-python.tar.gz"]
    in_cache = write_folder(cache)
    assert cifar10._locate(None) == in_cache
    in_variable = write_folder(variable)
    assert cifar10._locate(None) == in_variable
    in_explicit = write_folder(explicit)
    assert cifar10._locate(explicit) == in_explicit
    assert len(order) == 1


def test_cifar10_explicit_path_never_falls_back(tmp_path, monkeypatch):
    monkeypatch.setenv("PYCNN_DATA", str(write_folder(tmp_path / "data").parent))
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"empty: expected cifar-10-batches-py or .*neither"):
        cifar10.load_data(tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match=r"absent: expected a folder .*nothing"):
        cifar10.load_data(tmp_path / "absent")


def test_cifar10_variable_that_names_nothing_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setenv("PYCNN_DATA", str(tmp_path / "absent"))
    with pytest.raises(FileNotFoundError, match=r"\$PYCNN_DATA: .*absent: expected a folder"):
        cifar10.load_data()


def test_cifar10_class_names():
    assert len(cifar10.CLASS_NAMES) == 10
    assert (cifar10.CLASS_NAMES[0], cifar10.CLASS_NAMES[6]) == ("airplane", "frog")


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_cifar10_batches_saved_again_by_python_3(protocol, tmp_path):
    replaced = {}
    for name in cifar10.BATCHES:
        pixels, labels = content_of(name)
        replaced[name] = pickle.dumps({b"data": pixels, b"labels": labels}, protocol=protocol)
    assert_is_synthetic(cifar10.load_data(write_folder(tmp_path, **replaced)))


def test_pickled_array_in_fortran_order():
    array = np.asfortranarray(np.arange(6, dtype=np.uint8).reshape(2, 3))
    np.testing.assert_array_equal(read_pickle(pickle.dumps(array, protocol=2), "array").array, array)


# --- CIFAR-10: hostile pickles --------------------------------------------------------------------


class Call:
    """Pickles as the call of a function, which ``pickle.load`` makes."""

    def __init__(self, function, *arguments):
        self.parts = function, arguments

    def __reduce__(self):
        return self.parts


def hostile_calls(witness):
    """Objects that, unpickled in good faith, leave the file or folder ``witness`` behind."""
    return {
        "os.system": Call(os.system, f"mkdir '{witness}'"),
        "os.mkdir": Call(os.mkdir, str(witness)),
        "eval": Call(eval, f"open({str(witness)!r}, 'w').close()"),
        "exec": Call(exec, f"open({str(witness)!r}, 'w').close()"),
        "numpy": Call(np.save, f"{witness}.npy", [1]),
        "nested call": Call(tuple, [Call(os.mkdir, str(witness))]),
    }


HOSTILE = sorted(hostile_calls("/nowhere"))
PLACES = ["whole", "data", "labels", "filenames", "deep", "protocol 4"]


def hostile_batch(call, place):
    if place == "whole":
        return pickle.dumps(call, protocol=2)
    if place == "protocol 4":
        return pickle.dumps({b"data": call}, protocol=4)
    pixels, labels = content_of("data_batch_1")
    entries = {b"data": pixels, b"labels": labels, b"filenames": []}
    if place == "deep":
        entries[b"filenames"] = [{b"a": [(1, [call])]}]
    else:
        entries[place.encode()] = [call]
    return pickle.dumps(entries, protocol=2)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("attack", HOSTILE)
def test_hostile_pickles_are_refused_and_not_run(attack, place, tmp_path):
    witness = tmp_path / "witness"
    raw = hostile_batch(hostile_calls(witness)[attack], place)
    folder = write_folder(tmp_path / "data", data_batch_3=raw)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(DataError, match=r"data_batch_3: expected .* it asks for '[\w.]+'.*nothing of it was run"):
        cifar10.load_data(folder)
    assert sorted(tmp_path.iterdir()) == before
    # The attack is real: the ordinary unpickler falls for it.
    pickle.loads(raw)
    assert sorted(tmp_path.iterdir()) != before


@pytest.mark.parametrize(
    "name",
    [
        b"os\nsystem",
        b"posix\nsystem",
        b"__builtin__\neval",
        b"builtins\ngetattr",
        b"subprocess\nPopen",
        b"numpy\nload",
        b"numpy.core.multiarray\nfromfile",
        b"numpy\nndarray.tofile",
        b"numpy.core.multiarray\nscalar",
        b"_codecs\ndecode",
        b"codecs\nencode",
        b"copy_reg\n_reconstructor",
        b"pycnn.datasets._pickles\nos",
    ],
)
def test_other_names_are_refused_by_name(name):
    found = re.escape(name.decode().replace("\n", "."))
    with pytest.raises(DataError, match=f"somewhere: expected .* asks for '{found}'"):
        read_pickle(b"\x80\x02c" + name + b"\n.", "somewhere")


def test_names_built_at_run_time_are_refused():
    stack_global = b"\x80\x04\x8c\x02os\x8c\x06system\x93."
    with pytest.raises(DataError, match=r"asks for 'os\.system'"):
        read_pickle(stack_global, "somewhere")


@pytest.mark.parametrize("extension", [b"\x82\x01", b"\x83\x01\x00", b"\x84\x01\x00\x00\x00", b"Pname\n"])
def test_extensions_and_persistent_ids_are_refused(extension):
    with pytest.raises(DataError, match="somewhere"):
        read_pickle(b"\x80\x02" + extension + b".", "somewhere")


@pytest.mark.parametrize("stand_in", [b"cnumpy\nndarray\n", b"cnumpy\ndtype\n", b"c_codecs\nencode\n"])
@pytest.mark.parametrize("state", [b"}U\x05arrayK\x01s", b"N}X\x05\x00\x00\x00arrayK\x01s\x86"])
def test_stand_ins_cannot_be_altered(stand_in, state):
    with contextlib.suppress(DataError):
        read_pickle(b"\x80\x02" + stand_in + state + b"b.", "somewhere")
    assert PickledArray.array is None
    pixels, labels = content_of("data_batch_1")
    again = read_pickle(pickle.dumps({b"data": pixels, b"labels": labels}, protocol=2), "somewhere")
    np.testing.assert_array_equal(again[b"data"].array, pixels)


@pytest.mark.parametrize(
    "raw",
    [
        b"\x80\x02}r" + struct.pack("<I", 2**25) + b".",  # LONG_BINPUT: a memo of 512 MiB
        b"\x80\x02}p33554432\n.",  # PUT
        b"\x80\x04\x8e" + struct.pack("<Q", 2**29) + b"abc.",  # BINBYTES8
        b"\x80\x03B" + struct.pack("<I", 2**29) + b"abc.",  # BINBYTES
        b"\x80\x02T" + struct.pack("<i", 2**29) + b"abc.",  # BINSTRING
        b"\x80\x05\x96" + struct.pack("<Q", 2**29) + b"abc.",  # BYTEARRAY8
    ],
)
def test_announced_memory_is_not_allocated(raw):
    tracemalloc.start()
    try:
        tracemalloc.reset_peak()
        before, _peak = tracemalloc.get_traced_memory()
        with pytest.raises(DataError, match="somewhere: expected"):
            read_pickle(raw, "somewhere")
        assert tracemalloc.get_traced_memory()[1] - before < 10_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (py2_array(b"1234", (5,)), "uint8 array of shape"),
        (py2_array(b"1234", (-1, -4)), "expected"),
        (py2_array(b"", (2**31 - 1,) * 4), "received 0"),
        (py2_array(b"1234", (4,), typecode=b"O"), r"dtype 'u1' \(uint8\), received b'O'"),
        (py2_array(b"12345678", (1,), typecode=b"f8"), r"dtype 'u1' \(uint8\), received b'f8'"),
        (b"cnumpy\nndarray\nNNN\x87R(K\x01(K\x04tNI00\nU\x041234tb", "dtype and bytes, received"),
        (b"cnumpy\nndarray\nNNN\x87RK\x05b", "unpack"),
        (b"c_codecs\nencode\nX\x01\x00\x00\x00aX\x03\x00\x00\x00hex\x86R", "to encode as 'latin1'"),
    ],
)
def test_arrays_that_do_not_add_up(state, message):
    with pytest.raises(DataError, match=message):
        read_pickle(b"\x80\x02" + state + b".", "somewhere")


# --- CIFAR-10: damaged and wrong files ------------------------------------------------------------


@pytest.mark.parametrize("cut", [0, 1, 2, 30, 150, 400, 30_000, 62_000, -1])
def test_truncated_batches(cut, tmp_path):
    folder = write_folder(tmp_path, data_batch_2=batch()[:cut])
    with pytest.raises(DataError, match=r"data_batch_2: expected a pickle .* received"):
        cifar10.load_data(folder)


# A byte that becomes the opcode of a quoted string makes pickletools parse pixels as escapes.
@pytest.mark.filterwarnings("ignore:invalid escape sequence:DeprecationWarning")
def test_flipped_bytes_give_a_data_error_or_a_sound_batch():
    generator = random.Random(0)
    sound, messages = 0, []
    for _ in range(500):
        raw = bytearray(batch())
        # Mostly in the structure; the pixels take 98 % of the file and would take as many of the hits.
        position = generator.choice([generator.randrange(450), -1 - generator.randrange(700)])
        raw[position] = generator.randrange(256)
        try:
            images, labels = cifar10._decode(bytes(raw), "flipped")
        except DataError as error:
            messages.append(str(error))
        else:
            sound += 1
            assert images.shape == (IMAGES, 32, 32, 3)
            assert all(0 <= label <= 9 for label in labels)
    assert sound > 50
    assert len(messages) > 50
    assert all("flipped: expected" in message and len(message) < 600 for message in messages)


@pytest.mark.parametrize("garbage", [b"", b"\x00" * 1000, b"<html>404 Not Found</html>", bytes(range(256))])
def test_garbage(garbage, tmp_path):
    folder = write_folder(tmp_path / "data", test_batch=garbage)
    with pytest.raises(DataError, match=r"test_batch: expected a pickle"):
        cifar10.load_data(folder)
    file = tmp_path / "garbage.tar.gz"
    file.write_bytes(garbage)
    with pytest.raises(DataError, match=r"garbage\.tar\.gz: expected"):
        cifar10.load_data(file)


PIXELS, LABELS = content_of("data_batch_1")
HUGE_INTEGER = b"\x8b" + struct.pack("<i", 5000) + b"\x01" * 5000


@pytest.mark.parametrize(
    ("replaced", "message"),
    [
        ({"data": None}, "expected a dictionary with b'data' and b'labels', received a dict with the keys b'batch_l"),
        ({"labels": None}, "expected a dictionary"),
        ({"data": py2_list([])}, r"b'data' to be a uint8 array of shape \(20, 3072\), received a list of length 0"),
        ({"data": py2_array(bytes(19 * 3072), (19, 3072))}, r"shape \(20, 3072\), received an array of shape \(19"),
        ({"data": py2_array(bytes(20 * 3072), (20, 3, 32, 32))}, r"received an array of shape \(20, 3, 32, 32\)"),
        ({"data": py2_array(bytes(20 * 3072), (3072, 20))}, r"received an array of shape \(3072, 20\)"),
        ({"data": py2_array(bytes(20 * 3072 * 4), (20, 3072), b"f4")}, "received b'f4'"),
        ({"labels": py2_list(map(py2_int, LABELS[:-1]))}, "list of 20 integers, received a list of length 19"),
        ({"labels": py2_string(b"1234567890" * 2)}, "list of 20 integers, received b'1234567890"),
        ({"labels": py2_list(map(py2_int, [*LABELS[:-1], 10]))}, "labels from 0 to 9, received 10 for image 19"),
        ({"labels": py2_list(map(py2_int, [-1, *LABELS[1:]]))}, "labels from 0 to 9, received -1 for image 0"),
        ({"labels": py2_list([HUGE_INTEGER] * 20)}, "received an object of type int for image 0"),
        ({"labels": py2_list([b"G" + struct.pack(">d", 1.0)] * 20)}, "received an object of type float for image 0"),
        ({"labels": py2_list([b"\x88"] * 20)}, "received an object of type bool for image 0"),
    ],
)
def test_wrong_structure(replaced, message, tmp_path):
    folder = write_folder(tmp_path, data_batch_5=batch(**replaced))
    with pytest.raises(DataError, match=f"data_batch_5: .*{message}"):
        cifar10.load_data(folder)


def test_batch_that_is_no_dictionary():
    with pytest.raises(DataError, match=r"expected a dictionary .*, received a list of length 0"):
        cifar10._decode(b"\x80\x02].", "somewhere")


def test_missing_batches(tmp_path):
    folder = write_folder(tmp_path)
    (folder / "data_batch_1").unlink()
    (folder / "test_batch").unlink()
    with pytest.raises(DataError, match=r"cifar-10-batches-py: expected .*; missing data_batch_1, test_batch"):
        cifar10.load_data(folder)


def test_batch_of_absurd_size_is_not_read(tmp_path):
    folder = write_folder(tmp_path)
    os.truncate(folder / "data_batch_4", 1 << 30)  # sparse: takes no space
    with pytest.raises(DataError, match="data_batch_4: expected 0 to 67,108,864 bytes, received 1,073,741,824"):
        cifar10.load_data(folder)


# --- CIFAR-10: damaged and hostile archives -------------------------------------------------------


def load_archive(tmp_path, raw):
    archive = tmp_path / "cifar-10-python.tar.gz"
    archive.write_bytes(raw)
    before = sorted(tmp_path.rglob("*"))
    try:
        return cifar10.load_data(archive)
    finally:
        assert sorted(tmp_path.rglob("*")) == before, "reading an archive must not write anything"


@pytest.mark.parametrize("share", [0.001, 0.3, 0.7, 0.999])
def test_truncated_archive(share, tmp_path):
    raw = archive_bytes()
    with pytest.raises(DataError, match=r"tar\.gz: expected a complete .* damaged, cut off"):
        load_archive(tmp_path, raw[: int(share * len(raw))])


def test_archive_with_another_checksum(tmp_path):
    raw = bytearray(archive_bytes())
    raw[-8] ^= 1  # gzip ends with a CRC-32 and the length
    with pytest.raises(DataError, match="CRC check failed"):
        load_archive(tmp_path, bytes(raw))


def test_archive_of_something_else(tmp_path):
    with pytest.raises(DataError, match=r"another format"):
        load_archive(tmp_path, gzip.compress(b"not a tar archive" * 100))


def test_archive_without_a_batch(tmp_path):
    def rename(member):
        if member.name.endswith("test_batch"):
            member.name = "elsewhere/test_batch"

    with pytest.raises(DataError, match=r"tar\.gz: expected .*; missing test_batch"):
        load_archive(tmp_path, archive_bytes(rename))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE])
def test_archive_members_that_are_no_files(kind, tmp_path):
    def disguise(member):
        if member.name.endswith("data_batch_2"):
            member.type, member.linkname, member.size = kind, "/etc/passwd", 0

    with pytest.raises(DataError, match="data_batch_2: expected a regular file, received a member of tar type"):
        load_archive(tmp_path, archive_bytes(disguise))


@pytest.mark.parametrize("name", ["../../escaped", "/pycnn-escaped", "cifar-10-batches-py/../escaped"])
def test_archive_members_with_other_names_are_passed_over(name, tmp_path):
    def rename(member):
        if member.name.endswith("readme.html"):
            member.name = name

    assert_is_synthetic(load_archive(tmp_path, archive_bytes(rename)))


@pytest.mark.parametrize("size", [-512, 1 << 40])
def test_archive_members_of_absurd_size(size, tmp_path):
    member = tarfile.TarInfo("cifar-10-batches-py/data_batch_1")
    member.size = size
    with pytest.raises(DataError, match=r"data_batch_1.*: expected 0 to 67,108,864 bytes, received"):
        load_archive(tmp_path, gzip.compress(member.tobuf(tarfile.GNU_FORMAT) + bytes(10240)))


def test_archive_that_announces_a_name_of_absurd_size(tmp_path):
    member = tarfile.TarInfo("name")
    member.type, member.size = tarfile.GNUTYPE_LONGNAME, 1 << 70
    with pytest.raises(DataError, match="another format"):
        load_archive(tmp_path, gzip.compress(member.tobuf(tarfile.GNU_FORMAT) + bytes(10240)))


# --- CIFAR-10: the download -----------------------------------------------------------------------


class Server:
    """A web server on this machine; ``reply`` is what it sends, ``announced`` the length it claims."""

    def __init__(self):
        self.reply, self.announced, self.status, self.requests = b"", None, 200, 0
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                outer.requests += 1
                self.send_response(outer.status)
                if outer.announced is not None:
                    self.send_header("Content-Length", str(outer.announced))
                self.end_headers()
                with contextlib.suppress(OSError):
                    self.wfile.write(outer.reply)

            def log_message(self, format, *arguments):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/cifar-10-python.tar.gz"


@pytest.fixture
def server(monkeypatch):
    server = Server()
    thread = threading.Thread(target=server.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setattr(cifar10, "URL", server.url)
    yield server
    server.server.shutdown()
    thread.join()
    server.server.server_close()


@pytest.fixture
def published(server, monkeypatch):
    """The archive that the server has, with the size and hash that pycnn expects."""
    raw = archive_bytes()
    server.reply, server.announced = raw, len(raw)
    monkeypatch.setattr(cifar10, "ARCHIVE_BYTES", len(raw))
    monkeypatch.setattr(cifar10, "ARCHIVE_SHA256", hashlib.sha256(raw).hexdigest())
    return raw


def test_download_and_then_the_cache(server, published, tmp_path, capsys):
    assert_is_synthetic(cifar10.load_data())
    cached = tmp_path / "cache" / "datasets" / "cifar-10-python.tar.gz"
    assert cached.read_bytes() == published
    assert list(cached.parent.iterdir()) == [cached]
    lines = capsys.readouterr().err.splitlines()
    assert 1 <= len(lines) <= 10
    assert re.fullmatch(r"Downloading cifar-10-python\.tar\.gz: (\S+) of \1 MB", lines[-1])

    assert_is_synthetic(cifar10.load_data())
    assert server.requests == 1
    assert capsys.readouterr().err == ""


def test_download_shows_a_bar_on_a_terminal(server, published, monkeypatch):
    pytest.importorskip("rich")
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", terminal)
    assert_is_synthetic(cifar10.load_data())
    assert "Downloading cifar-10-python.tar.gz" in terminal.getvalue()
    assert "\x1b[" in terminal.getvalue()


def test_download_shows_lines_on_a_terminal_without_rich(server, published, monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(_download.importlib.util, "find_spec", lambda name: None)
    assert_is_synthetic(cifar10.load_data())
    assert "Downloading cifar-10-python.tar.gz" in terminal.getvalue()
    assert "\x1b[" not in terminal.getvalue()


@pytest.fixture
def failing_download(server, published, tmp_path):
    """Call to see a download fail, with an older file of that name and a neighbour left as they were."""

    def check(message):
        folder = tmp_path / "cache" / "datasets"
        folder.mkdir(parents=True)
        files = {folder / "cifar-10-python.tar.gz": b"an older file", folder / "neighbour": b"untouched"}
        for file, contents in files.items():
            file.write_bytes(contents)
        with pytest.raises(DownloadError, match=message) as caught:
            cifar10._downloaded(folder)
        assert isinstance(caught.value, DataError)
        assert isinstance(caught.value, OSError)
        assert "cifar-10-python.tar.gz" in str(caught.value)
        assert {file: file.read_bytes() for file in folder.iterdir()} == files

    return check


def test_download_with_another_hash(server, published, failing_download):
    server.reply = published[:-1] + b"?"
    failing_download(r"expected the sha256 hash [0-9a-f]{64}, received [0-9a-f]{64}")


def test_download_cut_half_way(server, published, failing_download):
    server.reply = published[: len(published) // 2]
    failing_download(rf"expected {len(published):,} bytes, received {len(published) // 2:,}")


@pytest.mark.parametrize("announced", [None, 0])
def test_download_of_nothing(announced, server, failing_download):
    server.reply, server.announced = b"", announced
    failing_download(r"expected [\d,]+ bytes, received 0")


class Endless(io.BytesIO):
    """A reply that goes on for ever; fails the test when more of it is taken than tells so."""

    def __init__(self, enough):
        super().__init__()
        self.left = enough

    def read(self, size=-1):
        assert self.left > 0, "the download must stop once more than expected has arrived"
        self.left -= size
        return bytes(size)


def test_download_that_does_not_end(published, failing_download, monkeypatch):
    monkeypatch.setattr(urllib.request, "urlopen", lambda url, timeout: Endless(enough=len(published) + 1))
    failing_download(rf"expected {len(published):,} bytes, received more")


def test_download_of_more_than_expected(server, published, failing_download):
    server.reply, server.announced = published * 2, None
    failing_download(rf"expected {len(published):,} bytes, received more")


def test_download_refused_by_the_server(server, failing_download):
    server.status = 404
    failing_download("404")


def test_download_without_a_connection(server, failing_download, monkeypatch):
    monkeypatch.setattr(cifar10, "URL", "http://127.0.0.1:9/cifar-10-python.tar.gz")
    failing_download("cannot download http://127.0.0.1:9/.* refused")


def test_download_with_a_reply_that_is_not_http(failing_download, monkeypatch):
    def bad_status_line(url, timeout):
        raise http.client.BadStatusLine("SSH-2.0")

    monkeypatch.setattr(urllib.request, "urlopen", bad_status_line)
    failing_download("SSH-2.0")


class FullDisk(io.FileIO):
    def write(self, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_download_to_a_full_disk(failing_download, monkeypatch):
    monkeypatch.setattr(os, "fdopen", FullDisk)
    failing_download(os.strerror(errno.ENOSPC))


def test_download_to_a_disk_that_fills_at_the_end(failing_download, monkeypatch):
    def fsync(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fsync)
    failing_download(os.strerror(errno.ENOSPC))


def test_download_that_cannot_take_its_name(failing_download, monkeypatch):
    def replace(part, target):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "replace", replace)
    failing_download(os.strerror(errno.EACCES))


def test_download_beyond_the_file_size_limit(published, failing_download):
    """Not a pretended error: the system refuses to let the file grow."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(published) // 2, hard))
    try:
        failing_download(os.strerror(errno.EFBIG))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_download_into_a_place_that_is_no_folder(server, published, tmp_path):
    (tmp_path / "cache").write_bytes(b"a file where the folder should be")
    with pytest.raises(DownloadError, match="cannot download"):
        cifar10.load_data()
    assert (tmp_path / "cache").read_bytes() == b"a file where the folder should be"
    assert server.requests == 0


def test_download_interrupted_from_the_keyboard(tmp_path, monkeypatch):
    class Interrupted(io.BytesIO):
        def read(self, size=-1):
            if self.tell():
                raise KeyboardInterrupt
            return super().read(size)

    monkeypatch.setattr(urllib.request, "urlopen", lambda url, timeout: Interrupted(bytes(1 << 20)))
    with pytest.raises(KeyboardInterrupt):
        cifar10.load_data()
    assert list((tmp_path / "cache" / "datasets").iterdir()) == []


def test_damaged_archive_in_the_cache_is_named(server, published, tmp_path):
    cached = tmp_path / "cache" / "datasets" / "cifar-10-python.tar.gz"
    cached.parent.mkdir(parents=True)
    cached.write_bytes(published[:5000])
    with pytest.raises(DataError, match=r"cache.datasets.cifar-10-python\.tar\.gz: .* replace it with http"):
        cifar10.load_data()
    assert cached.read_bytes() == published[:5000]


# --- the real CIFAR-10 ----------------------------------------------------------------------------


@pytest.mark.skipif(not REAL_DATA, reason="set PYCNN_TEST_DATA to the folder with cifar-10-batches-py")
def test_real_cifar10(monkeypatch):
    monkeypatch.setattr(cifar10, "IMAGES_PER_BATCH", 10_000)
    (x_train, y_train), (x_test, y_test) = cifar10.load_data(REAL_DATA)
    assert x_train.shape == (50_000, 32, 32, 3)
    assert x_test.shape == (10_000, 32, 32, 3)
    assert np.bincount(y_train[:, 0]).tolist() == [5000] * 10
    assert np.bincount(y_test[:, 0]).tolist() == [1000] * 10
    assert [cifar10.CLASS_NAMES[label] for label in y_train[:3, 0]] == ["frog", "truck", "truck"]
    # The means of the channels over the training images that the literature gives, as shares of 255.
    np.testing.assert_allclose(x_train.mean((0, 1, 2)) / 255, [0.4914, 0.4822, 0.4465], atol=5e-5)


def test_a_path_must_be_text_or_a_path():
    with pytest.raises(TypeError, match="path: expected a folder or file as text or Path, received 3"):
        cifar10.load_data(3)


def test_an_empty_dictionary_is_called_empty(tmp_path):
    folder = write_folder(tmp_path / "data", data_batch_3=pickle.dumps({}, protocol=2))
    with pytest.raises(DataError, match=r"received an empty dict$"):
        cifar10.load_data(folder)
