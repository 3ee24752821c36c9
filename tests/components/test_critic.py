"""Values before each token."""

import torch
from components.tiny import config, make_run, model, sequences, spread

from lit_rlhf.components.actor import Actor
from lit_rlhf.components.critic import Critic
from lit_rlhf.components.language_model import LanguageModel


def test_values_are_a_linear_function_of_the_states():
    critic = Critic(LanguageModel(config=config()), lr=0.5)
    critic.build()
    assert torch.equal(critic.values(sequences()), torch.zeros(17)) and critic.lr == 0.5
    spread(critic)
    states = critic.model.hidden(sequences())
    expected = states @ critic.head.weight[0] + critic.head.bias
    torch.testing.assert_close(critic.values(sequences()), expected)


def test_every_weight_is_trained():
    critic = Critic(LanguageModel(config=config()))
    critic.build()
    spread(critic)
    critic.values(sequences()).square().sum().backward()
    assert all(weight.grad is not None for weight in critic.parameters())


def test_a_policy_is_a_trunk(tmp_path):
    policy = Actor(model())
    policy.build()
    critic = Critic(make_run(tmp_path / "run", "actor", policy))
    critic.build()
    assert torch.equal(critic.model.hidden(sequences()), policy.model.hidden(sequences()))
