"""Initial weights against Keras' formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pycnn import initializers
from pycnn.utils import set_random_seed

SHAPE = (3, 3, 64, 128)
FAN_IN, FAN_OUT = 3 * 3 * 64, 3 * 3 * 128


@pytest.fixture(autouse=True)
def _seeded() -> None:
    set_random_seed(1)


@pytest.mark.parametrize(
    ("shape", "fans"),
    [((), (1, 1)), ((7,), (7, 7)), ((5, 8), (5, 8)), (SHAPE, (FAN_IN, FAN_OUT)), ((2, 3, 4, 5, 6), (120, 144))],
)
def test_fans(shape: tuple[int, ...], fans: tuple[int, int]) -> None:
    assert initializers.compute_fans(shape) == fans


@pytest.mark.parametrize(
    ("name", "limit"),
    [
        ("glorot_uniform", math.sqrt(6 / (FAN_IN + FAN_OUT))),
        ("he_uniform", math.sqrt(6 / FAN_IN)),
        ("lecun_uniform", math.sqrt(3 / FAN_IN)),
        ("random_uniform", 0.05),
    ],
)
def test_uniform_kinds_fill_their_interval(name: str, limit: float) -> None:
    values = initializers.get(name)(SHAPE)
    assert values.dtype == np.float32
    assert np.abs(values).max() <= limit * (1 + 1e-6)
    assert np.abs(values).max() > 0.999 * limit
    assert values.std() == pytest.approx(limit / math.sqrt(3), rel=0.01)
    assert values.mean() == pytest.approx(0, abs=0.01 * limit)


@pytest.mark.parametrize(
    ("name", "stddev"),
    [
        ("glorot_normal", math.sqrt(2 / (FAN_IN + FAN_OUT))),
        ("he_normal", math.sqrt(2 / FAN_IN)),
        ("lecun_normal", math.sqrt(1 / FAN_IN)),
    ],
)
def test_truncated_kinds_have_their_deviation_after_the_cut(name: str, stddev: float) -> None:
    values = initializers.get(name)(SHAPE)
    assert values.std() == pytest.approx(stddev, rel=0.01)
    # Keras cuts at two deviations of the wider normal whose cut-off form has the wanted deviation.
    assert np.abs(values).max() <= 2 * stddev / 0.87962566103423978 * (1 + 1e-6)


def test_normal_is_not_cut_and_truncated_normal_is() -> None:
    normal = initializers.RandomNormal(mean=1.0, stddev=0.1)((100_000,))
    cut = initializers.TruncatedNormal(mean=1.0, stddev=0.1)((100_000,))
    assert normal.mean() == pytest.approx(1.0, abs=2e-3)
    assert normal.std() == pytest.approx(0.1, rel=0.01)
    assert np.abs(normal - 1).max() > 0.3
    assert np.abs(cut - 1).max() <= 0.2 + 1e-6
    assert cut.std() == pytest.approx(0.1 * 0.87962566103423978, rel=0.01)


def test_constants() -> None:
    assert (initializers.get("zeros")((2, 3)) == 0).all()
    assert (initializers.get("ones")((2, 3)) == 1).all()
    assert (initializers.Constant(2.5)((2, 3), dtype="float64") == 2.5).all()
    assert initializers.Constant(2.5)((2, 3), dtype="float64").dtype == np.float64


def test_a_seed_gives_the_same_values_at_every_call_and_no_seed_others() -> None:
    seeded = initializers.GlorotUniform(seed=3)
    assert (seeded((4, 5)) == seeded((4, 5))).all()
    assert (initializers.GlorotUniform()((4, 5)) != initializers.GlorotUniform()((4, 5))).any()


def test_the_library_seed_repeats_all_draws() -> None:
    first = initializers.get("he_normal")((50, 50))
    set_random_seed(1)
    assert (initializers.get("he_normal")((50, 50)) == first).all()


@pytest.mark.parametrize("identifier", ["HeNormal", "he_normal", initializers.HeNormal, initializers.HeNormal()])
def test_get_takes_names_classes_and_objects(identifier: object) -> None:
    assert isinstance(initializers.get(identifier), initializers.HeNormal)


def test_get_takes_functions_and_arrays() -> None:
    assert initializers.get(np.ones)((2,)).tolist() == [1, 1]
    values = np.arange(6.0).reshape(2, 3)
    assert (initializers.get(values)((2, 3)) == values).all()
    with pytest.raises(ValueError, match=r"shape \(3, 2\), received \(2, 3\)"):
        initializers.get(values)((3, 2))


def test_errors_name_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"'glorot_unifrom'.*glorot_uniform"):
        initializers.get("glorot_unifrom")
    with pytest.raises(ValueError, match="received 3"):
        initializers.get(3)
    with pytest.raises(ValueError, match=r"fan_avg.*received 'fan_average'"):
        initializers.VarianceScaling(mode="fan_average")
    with pytest.raises(ValueError, match="positive"):
        initializers.VarianceScaling(scale=0)
