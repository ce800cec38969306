"""The unigram and bigram losses, compared with numbers computed by hand."""

import math

import numpy as np
import pytest

from npgpt.baselines import bigram_loss, unigram_loss
from npgpt.errors import DataError


def test_unigram_by_hand() -> None:
    train, ids = np.array([0, 0, 1]), np.array([1, 0, 2])
    # p = (3, 2, 1)/6 with one added to each count; the targets are 0 and 2
    assert unigram_loss(train, ids, 3) == pytest.approx(-(math.log(3 / 6) + math.log(1 / 6)) / 2)


def test_bigram_loss_of_a_periodic_text_is_near_zero() -> None:
    train = np.tile([0, 1, 2, 3], 50)
    ids = np.tile([0, 1, 2, 3], 5)
    assert unigram_loss(train, ids, 4) == pytest.approx(math.log(4), abs=0.01)
    assert bigram_loss(train, ids, 4) == pytest.approx(-math.log(0.99 + 0.01 / 4), abs=1e-3)


def test_bigram_equals_unigram_on_random_text() -> None:
    random = np.random.default_rng(0)
    train, ids = random.integers(0, 50, 2000), random.integers(0, 50, 2000)
    assert bigram_loss(train, ids, 50) == pytest.approx(unigram_loss(train, ids, 50), abs=0.05)


def test_mixing_weight_does_not_depend_on_the_validation_text() -> None:
    train = np.random.default_rng(0).integers(0, 50, 300)  # random: most pairs occur once
    # If λ were chosen on the validation text (here the training text), it would be 0.99 and the loss near log 6.
    assert bigram_loss(train, train, 50) > unigram_loss(train, train, 50) - 0.5 > math.log(6) + 0.5


def test_bigram_uses_unigram_after_an_unseen_token() -> None:
    train = np.tile(np.array([0, 1], np.uint8), 100)
    assert bigram_loss(train, np.array([2, 0]), 300) == pytest.approx(unigram_loss(train, np.array([2, 0]), 300))
    assert bigram_loss(train, np.array([0, 1, 0]), 300) == pytest.approx(
        bigram_loss(train.astype(int), np.array([0, 1, 0]), 300)
    )


def test_too_few_tokens_are_rejected() -> None:
    with pytest.raises(DataError, match="training tokens are too few"):
        bigram_loss(np.array([1, 2, 3]), np.array([1, 2]), 4)
    for loss in (unigram_loss, bigram_loss):
        with pytest.raises(DataError, match="1 validation tokens are too few"):
            loss(np.arange(50), np.array([1]), 50)
