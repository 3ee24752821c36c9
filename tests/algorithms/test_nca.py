import pytest
from by_hand import groups, log_sigmoid, mean, posterior, softmax, value
from support import scored

from lit_rlhf.algorithms.nca import NCA


def test_every_response_is_told_from_noise():
    batch = scored(0)

    def of_group(group):
        label, implicit = softmax([r for _, r in group]), [0.1 * y.ratio for y, _ in group]
        return -sum(p * log_sigmoid(s) + log_sigmoid(-s) / len(group) for p, s in zip(label, implicit, strict=True))

    expected = mean(of_group(group) for group in groups(batch))
    assert value(NCA(**posterior()), batch) == pytest.approx(expected, rel=1e-5)
