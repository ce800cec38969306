"""Random numbers: the same in every version, and statistically random."""

import numpy as np

from npgpt.rng import make_key, normal, permutation, random_bits


def test_numbers_never_change_between_versions() -> None:
    key = make_key("dropout", 1, 2, "blocks.0")
    assert key == 637495739812109513
    assert random_bits(key, np.arange(3, dtype=np.uint32)).tolist() == [1295712569, 2545552693, 4107403773]


def test_normal_has_mean_0_variance_1_and_no_correlation() -> None:
    x = normal(make_key("test"), (200, 500))
    assert abs(x.mean()) < 0.01
    assert abs(x.std() - 1) < 0.01
    assert np.abs(x).max() < 6
    assert abs((x[:, 1:] * x[:, :-1]).mean()) < 0.01
    assert abs(np.mean(np.abs(x) < 1) - 0.6827) < 0.01


def test_bits_are_balanced_and_keys_are_uncorrelated() -> None:
    bits = random_bits(5, np.arange(100_000, dtype=np.uint32))
    ones = [(bits >> np.uint32(i) & np.uint32(1)).mean() for i in range(32)]
    assert max(abs(np.array(ones) - 0.5)) < 0.01
    other = random_bits(6, np.arange(100_000, dtype=np.uint32))
    assert np.mean(bits == other) < 0.001
    assert abs(np.corrcoef(bits, other)[0, 1]) < 0.01
    assert len(np.unique(bits)) == len(bits)


def test_key_does_not_depend_on_the_integer_type() -> None:
    assert make_key("a", np.int64(3)) == make_key("a", np.uint8(3)) == make_key("a", 3) != make_key("a", 4)


def test_permutation() -> None:
    assert sorted(permutation(1, 1000)) == list(range(1000))
    assert list(permutation(1, 1000)) != list(permutation(2, 1000))
