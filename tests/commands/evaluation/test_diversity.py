"""Diversity of a few texts, counted by hand."""

import pytest

from lit_rlhf.commands.evaluation.diversity import distinct, similarity, unique, words


def test_words_and_marks():
    assert words("It's good, very good.") == ("It", "'", "s", "good", ",", "very", "good", ".")


def test_distinct_ngrams():
    texts = ["a b a", "a b"]
    assert distinct(texts, 1) == 2 / 5
    assert distinct(texts, 2) == 2 / 3  # ab, ba, ab
    assert distinct(texts, 4) is None


def test_unique_texts():
    assert unique(["a", "b", "a", "c"]) == 3 / 4
    assert unique(["a"]) is None


def test_similarity_is_the_words_in_common():
    assert similarity(["a b", "b a"]) == 1.0
    assert similarity(["a a b", "a c"]) == 2 / 5
    assert similarity(["a", "b"]) == 0.0
    assert similarity(["a b", "a b", "c"]) == pytest.approx(1 / 3)
    assert similarity(["", ""]) == 1.0 and similarity(["a"]) is None
