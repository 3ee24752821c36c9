"""Held-out prompts and mixtures."""

import subprocess
import sys

import numpy as np
import pytest

from lit_rlhf.data.splits import held_out, mixed

KEYS = [f"prompt {index % 70}" for index in range(100)]


def test_the_share_is_of_distinct_prompts_and_the_same_prompt_stays_together():
    out = held_out(KEYS, 0.1, 0, seed=0)
    apart = {key for key, is_out in zip(KEYS, out, strict=True) if is_out}
    assert len(apart) == 7 and not apart & {key for key, is_out in zip(KEYS, out, strict=True) if not is_out}


def test_folds_are_disjoint_and_cover_everything():
    folds = np.stack([held_out(KEYS, 0.2, fold, seed=3) for fold in range(5)])
    assert (folds.sum(0) == 1).all()


def test_the_order_of_rows_does_not_matter_and_the_seed_does():
    order = np.random.default_rng(0).permutation(len(KEYS))
    shuffled = held_out([KEYS[index] for index in order], 0.1, 0, seed=0)
    assert (shuffled == held_out(KEYS, 0.1, 0, seed=0)[order]).all()
    assert (held_out(KEYS, 0.1, 0, seed=1) != held_out(KEYS, 0.1, 0, seed=0)).any()


@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_another_process_holds_out_the_same_prompts(hash_seed):
    code = f"from lit_rlhf.data.splits import held_out; print(held_out({KEYS!r}, 0.1, 0, 0).nonzero()[0].tolist())"
    found = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONHASHSEED": hash_seed, "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.strip() == str(held_out(KEYS, 0.1, 0, 0).nonzero()[0].tolist())


def test_without_weights_every_row_is_read_once():
    assert [rows.tolist() for rows in mixed([3, 2], [None, None], 0)] == [[0, 1, 2], [0, 1]]


def test_weights_are_shares_and_every_row_is_read_at_least_once():
    first, second = mixed([100, 30], [1.0, 1.0], seed=0)
    assert len(first) == len(second) == 100
    assert sorted(first) == list(range(100)) and set(second) == set(range(30))
    counts = np.bincount(second)
    assert counts.min() == 3 and counts.max() == 4 and counts.sum() == 100


def test_a_mixture_is_the_same_every_time():
    again = [mixed([100, 30], [3.0, 1.0], seed=5) for _ in range(2)]
    assert all((a == b).all() for a, b in zip(*again, strict=True))
    assert len(again[0][0]) == 100 and len(again[0][1]) == 33
