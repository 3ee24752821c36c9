import torch

from lit_rlhf.losses.metrics import mean, of_pairs, of_rewards


def test_a_mean_is_two_sums_without_gradient():
    values, weight = torch.tensor([1.0, torch.nan, 4.0], requires_grad=True), torch.tensor([1.0, 0.0, 0.5])
    found = mean("a", values, weight)
    assert (found.name, float(found.total), float(found.weight)) == ("a", 3.0, 1.5)
    assert not found.total.requires_grad


def test_accuracy_counts_equal_rewards_as_half_and_leaves_out_pairs_without_a_preferred_end():
    chosen, rejected = torch.tensor([1.0, 0.0, 2.0, 1.0, 0.0]), torch.tensor([0.0, 1.0, 2.0, 0.0, 1.0])
    probability, weight = torch.tensor([0.9, 0.8, 1.0, 0.5, 0.2]), torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0])
    accuracy = {one.name: one for one in of_pairs(chosen, rejected, probability, weight)}["accuracy"]
    assert (float(accuracy.total), float(accuracy.weight)) == (1 + 4 / 2 + 16, 1 + 2 + 4 + 16)


def test_rewards_are_those_implied_and_those_given():
    names = [
        (one.name, float(one.total / one.weight))
        for one in of_rewards(torch.tensor([1.0, 3]), torch.tensor([0.0, 4]), torch.ones(2))
    ]
    assert names == [("rewards/implicit", 2.0), ("rewards/given", 2.0)]
