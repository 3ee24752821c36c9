"""The built-in task's reward, response by response."""

import numpy as np
import pytest
import torch
from rewards.given import response

from lit_rlhf.data import grammar
from lit_rlhf.data.reviews import Reviews
from lit_rlhf.errors import InputError
from lit_rlhf.rewards.reviews import ReviewReward


def of(prompt, ids):
    return response(grammar.decoded(ids), prompt, ids=tuple(int(index) for index in ids))


@pytest.mark.parametrize("prompt", grammar.PROMPTS[:2])
def test_every_response_has_the_reward_of_the_grammar(prompt):
    found = ReviewReward()([of(prompt, ids) for ids in grammar.response_ids()])
    torch.testing.assert_close(found.total, torch.from_numpy(grammar.rewards(prompt)).float(), atol=0, rtol=0)
    assert found.parts == ()


def test_it_is_what_the_data_say():
    prompt, ids = grammar.PROMPTS[3], grammar.response_ids()[77]
    expected = Reviews().reward_of(np.array(grammar.encoded(prompt)), ids)
    assert float(ReviewReward()([of(prompt, ids)]).total) == pytest.approx(expected, abs=1e-6)


def test_what_is_not_of_the_task_is_refused():
    with pytest.raises(InputError, match="rows.jsonl:1: the prompt 'why.' is none of the built-in task's 8"):
        ReviewReward()([response("good")])
    with pytest.raises(InputError, match="max_new_tokens=3"):
        ReviewReward()([of("film was", grammar.encoded("good good good good"))])
