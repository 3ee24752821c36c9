import torch

from lit_rlhf.theory.closed_forms.solving import increasing_root, normalised


def test_roots_are_found_elementwise_and_ends_where_there_is_none():
    goal = torch.tensor([1.0, 8.0, 1e9, -1e9], dtype=torch.float64)
    low, high = torch.full_like(goal, -10.0), torch.full_like(goal, 10.0)
    found = increasing_root(lambda x: x**3 - goal, low, high)
    assert (found - torch.tensor([1.0, 2.0, 10.0, -10.0], dtype=torch.float64)).abs().max() < 1e-13


def test_a_law_is_made_to_sum_to_one():
    logits = torch.tensor([0.3, -1.0, 2.0], dtype=torch.float64)
    wide = torch.tensor(50.0, dtype=torch.float64)
    found = normalised(lambda x: (logits + x).exp(), -wide, wide)
    assert (found - logits.softmax(-1)).abs().max() < 1e-14
