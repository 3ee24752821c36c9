import pytest
from by_hand import drawn, log_sigmoid, mean, pairs, posterior, value

from lit_rlhf.algorithms.ld_dpo import LDDPO


def test_tokens_beyond_the_shorter_end_count_half():
    batch = drawn(prompts=8)
    ends = pairs(batch)
    assert any(len(w.policy) > len(l.policy) for w, l in ends) and any(len(w.policy) < len(l.policy) for w, l in ends)

    def reward(response, public):
        steps = [a - b for a, b in zip(response.policy, response.reference, strict=True)]
        return 0.1 * (sum(steps[:public]) + 0.5 * sum(steps[public:]))

    expected = mean(
        -log_sigmoid(reward(w, n) - reward(l, n)) for w, l in ends for n in [min(len(w.policy), len(l.policy))]
    )
    assert value(LDDPO(**posterior()), batch) == pytest.approx(expected, rel=1e-5)
