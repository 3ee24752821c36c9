"""Learned temperature and log-partition."""

import math

import pytest
import torch
from components.tiny import config, sequences, spread

from lit_rlhf.components.language_model import LanguageModel
from lit_rlhf.components.learned import LearnedTemperature, LogPartition
from lit_rlhf.errors import InputError
from lit_rlhf.types import Evidence


def test_the_temperature_is_positive_and_learned():
    part = LearnedTemperature(initial=0.3, lr=0.1)
    part.build()
    tau = part(sequences())
    assert tau.shape == () and tau.item() == pytest.approx(0.3) and part.lr == 0.1
    tau.backward()
    assert float(part.log_tau.grad) == pytest.approx(0.3)  # d exp(a) / da
    with torch.no_grad():
        part.log_tau.fill_(-50.0)
    assert part(sequences()).item() == pytest.approx(math.exp(-50), rel=1e-5, abs=0)
    with pytest.raises(InputError, match="a temperature is positive"):
        LearnedTemperature(initial=0.0)


def test_the_log_partition_is_a_number_of_the_prompt():
    part = LogPartition(LanguageModel(config=config()))
    part.build()
    assert torch.equal(part(sequences()), torch.zeros(3))
    spread(part)
    expected = part.model.prompt_hidden(sequences()) @ part.head.weight[0] + part.head.bias
    torch.testing.assert_close(part(sequences()), expected)
    one = sequences().select(torch.tensor([2]))  # the second prompt
    torch.testing.assert_close(part(one), part(sequences())[1:2], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", [LearnedTemperature, LogPartition])
def test_they_fill_a_field_of_the_evidence(kind):
    assert kind.fills in Evidence.__dataclass_fields__
