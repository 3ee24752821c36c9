"""The actor is its language model."""

import pytest
import torch
from components.tiny import config, dense, model, sequences

from lit_rlhf.components.actor import Actor
from lit_rlhf.components.language_model import LanguageModel
from lit_rlhf.errors import InputError


def test_log_probs_are_the_models(tmp_path):
    part = Actor(model(), lr=0.1)
    part.build()
    values = dense(part.model.net, sequences()).gather(1, sequences().completion_ids[:, None])[:, 0]
    torch.testing.assert_close(part.token_logps(sequences()).values, values, atol=1e-5, rtol=1e-5)
    plain, asked = part.token_logps(sequences()), part.token_logps(sequences(), collision=True)
    assert plain.entropy is None and plain.collision is None and asked.entropy is None and (asked.collision < 0).all()
    assert part.head_parity(sequences()) < 1e-5 and part.lr == 0.1
    part.save(tmp_path / "saved")
    again = Actor(str(tmp_path / "saved"))
    again.build()
    assert torch.equal(again.token_logps(sequences()).values, part.token_logps(sequences()).values)


def test_weights_are_at_their_place_in_checkpoints():
    part = Actor(model())
    assert all(name.startswith("model.net.") for name in part.state_dict())


def test_the_precision_of_training_is_not_the_models():
    with pytest.raises(InputError, match="the precision of training is trainer.precision"):
        Actor(LanguageModel(config=config(), dtype="bfloat16"))
