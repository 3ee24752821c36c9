"""The pure plan: orders, shares of ranks and micro-batches."""

from collections import Counter

import numpy as np
import pytest

from lit_rlhf.data.plan import drawn, evenly, filled, micro_batches, over_ranks, packed, shuffled

LENGTHS = np.random.default_rng(0).integers(3, 60, size=37).tolist()


def test_shuffled_is_a_permutation_that_depends_on_seed_and_epoch():
    strata = np.zeros(50)
    orders = [shuffled(strata, seed, epoch) for seed in (0, 1) for epoch in (0, 1)]
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert len({tuple(order) for order in orders}) == 4
    np.testing.assert_array_equal(orders[0], shuffled(strata, 0, 0))


def test_shuffled_takes_nothing_from_the_global_generator():
    before = np.random.get_state()[1].copy()
    shuffled(np.zeros(10), 0, 0)
    np.testing.assert_array_equal(before, np.random.get_state()[1])


@pytest.mark.parametrize("good", [3, 10, 50])
def test_every_stretch_has_its_share_of_each_stratum(good):
    strata = np.repeat([1.0, 0.0], [good, 100 - good])
    for epoch in range(5):
        order = shuffled(strata, 0, epoch)
        counts = strata[order].reshape(10, 10).sum(1)
        assert abs(counts - good / 10).max() <= 1 + 1e-9


def test_filled_has_full_stretches_and_the_rest_last():
    assert [s.stop - s.start for s in filled(10, 4)] == [4, 4, 2]
    assert filled(0, 4) == ()


def test_evenly_differs_by_one_at_most_and_covers():
    for n in range(1, 30):
        for largest in (1, 4, 7):
            sizes = [s.stop - s.start for s in evenly(n, largest)]
            assert sum(sizes) == n and max(sizes) <= largest and max(sizes) - min(sizes) <= 1
            assert len(sizes) == -(-n // largest)


@pytest.mark.parametrize("ranks", [1, 2, 3, 8])
def test_ranks_share_the_groups_and_are_balanced(ranks):
    shares = over_ranks(LENGTHS, ranks)
    assert sorted(group for share in shares for group in share) == list(range(len(LENGTHS)))
    loads = [sum(LENGTHS[group] for group in share) for share in shares]
    assert max(loads) - min(loads) <= max(LENGTHS)


def test_packed_bins_hold_every_group_once_within_the_budget():
    groups = tuple(range(5, 30))
    bins = packed(groups, LENGTHS, 80)
    assert sorted(group for part in bins for group in part) == list(groups)
    assert all(sum(LENGTHS[group] for group in part) <= 80 for part in bins)


@pytest.mark.parametrize("ranks", [1, 2, 3, 5])
@pytest.mark.parametrize("budget", [60, 120, 10_000])
def test_every_rank_has_the_same_number_of_micro_batches_and_every_group_counts_once(ranks, budget):
    plan = micro_batches(LENGTHS, ranks, budget)
    assert len({len(own) for own in plan}) == 1
    assert all(sum(LENGTHS[group] for group in part.groups) <= budget for own in plan for part in own)
    counted = Counter(group for own in plan for part in own if part.counted for group in part.groups)
    assert counted == Counter(range(len(LENGTHS)))


@pytest.mark.parametrize("budget", [60, 120, 10_000])
def test_the_share_of_a_rank_does_not_depend_on_the_budget(budget):
    plan = micro_batches(LENGTHS, 3, budget)
    for own, share in zip(plan, over_ranks(LENGTHS, 3), strict=True):
        assert sorted(group for part in own if part.counted for group in part.groups) == list(share)


def test_a_rank_splits_its_bins_before_it_repeats_a_group():
    plan = micro_batches([50, 50, 30, 20, 10, 10, 10, 10, 10], ranks=2, budget=60)
    assert all(part.counted for own in plan for part in own)


def test_fewer_groups_than_ranks_are_repeated_uncounted():
    plan = micro_batches([7, 3], ranks=4, budget=10)
    assert [[part.groups for part in own] for own in plan[:2]] == [[(0,)], [(1,)]]
    assert [(part.groups, part.counted) for own in plan[2:] for part in own] == [((1,), False)] * 2


@pytest.mark.parametrize("taken", [[], [0], [5, 1, 2], [0, 1, 2, 3, 4, 6]])
def test_one_that_is_not_taken_is_drawn_each_alike(taken):
    free = [group for group in range(7) if group not in taken]
    found = Counter(drawn(7, np.array(taken, dtype=np.int64), (3, draw)) for draw in range(2100))
    assert sorted(found) == free
    assert all(abs(count - 2100 / len(free)) < 5 * (2100 / len(free)) ** 0.5 for count in found.values())


def test_one_of_all_is_drawn_where_all_are_taken():
    assert {drawn(3, np.arange(3), (0, draw)) for draw in range(40)} == {0, 1, 2}
