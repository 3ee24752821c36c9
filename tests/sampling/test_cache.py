"""Reserved buffers hold what growing ones hold."""

import torch
from transformers.cache_utils import DynamicCache, DynamicLayer

from lit_rlhf.sampling.cache import Reserved, length_of, remaining, reserve


def states(rows, tokens, seed):
    draw = torch.Generator().manual_seed(seed)
    return [torch.randn(rows, 2, tokens, 4, generator=draw) for _ in range(2)]


def test_rows_repeat_grow_and_leave_as_in_a_growing_cache():
    caches = [DynamicCache() for _ in range(2)]
    for cache in caches:
        for layer in range(2):
            cache.update(*states(2, 3, layer), layer)
    rows = torch.tensor([0, 0, 1, 1, 0])
    reserve(caches[0], rows, 6)
    caches[1].batch_select_indices(rows)
    assert all(type(layer) is Reserved for layer in caches[0].layers)
    gone = [(), (1, 4), (0,)]
    for seed, which in enumerate(gone):
        count = caches[1].layers[0].keys.shape[0]
        done = torch.zeros(count, dtype=torch.bool)
        done[list(which)] = True
        order = remaining(done)
        for layer in range(2):
            shown = [cache.update(*states(count, 1, 10 + seed), layer) for cache in caches]
            assert all(torch.equal(ours, theirs) for ours, theirs in zip(*shown, strict=True))
        caches[0].reorder_cache(order)
        caches[1].batch_select_indices(order)
        pairs = zip(caches[0].layers, caches[1].layers, strict=True)
        assert all(torch.equal(ours.keys, theirs.keys) for ours, theirs in pairs)
        assert length_of(caches[0]) == length_of(caches[1]) == 4 + seed
        assert caches[0].get_mask_sizes(1, 0) == caches[1].get_mask_sizes(1, 0)


def test_buffers_are_allocated_once():
    layer = DynamicLayer()
    layer.update(*states(2, 3, 0))
    reserved = Reserved(layer, torch.tensor([1, 0]), 5)
    before = reserved.keys.data_ptr(), reserved.values.data_ptr()
    for seed in (1, 2):
        reserved.update(*states(2, 1, seed))
        assert (reserved.keys.data_ptr(), reserved.values.data_ptr()) == before
    reserved.reorder_cache(torch.tensor([1]))
    assert reserved.keys.data_ptr() == before[0] and reserved.keys.shape == (1, 2, 5, 4)


def test_only_the_last_rows_take_the_places_of_those_that_are_done():
    done = torch.tensor([True, False, True, False, False, True])
    assert sorted(remaining(done).tolist()) == [1, 3, 4]
    assert remaining(torch.zeros(3, dtype=torch.bool)).tolist() == [0, 1, 2]
    assert not len(remaining(torch.ones(3, dtype=torch.bool)))
    order = remaining(done)
    moved = [(to, source) for to, source in enumerate(order.tolist()) if to != source]
    assert all(source >= len(order) for _, source in moved)
