"""SAC: soft actor-critic on tokens."""

from __future__ import annotations

from typing import Any

from lit_rlhf.algorithms.online import OnlineAlgorithm, rollout_of
from lit_rlhf.algorithms.replay import Replay
from lit_rlhf.components.actor import Actor
from lit_rlhf.components.soft_q import SoftCritic, base_of
from lit_rlhf.losses.base import LossHead
from lit_rlhf.losses.soft import SoftPolicy, SoftQ
from lit_rlhf.rewards.base import Reward
from lit_rlhf.types import Batch, Evidence


class SAC(OnlineAlgorithm):
    """BDA, prior form, by soft values of every next token on its own samples; posterior form with a reference.

    L = mean_t E_{a~pi}[tau log(pi / u)(a | s_t) - min_i Q_i(s_t, a)] + mean_t sum_i (Q_i(s_t, a_t) - y_t)^2 / 2,
    y_t = r_t + gamma E_{a~pi}[min_i Q'_i(s_{t+1}, a) - tau log(pi / u)(a | s_{t+1})], Q' a slow copy of Q; each term
    moves its own part. `TemperatureLoss` with a `LearnedTemperature` makes tau a learned one.

    Target: e^{r/tau} / Z, or u e^{r/tau} / Z, at gamma = 1 and a fixed tau.
    See "Soft Actor-Critic Algorithms and Applications" by Haarnoja et al. (https://arxiv.org/abs/1812.05905).
    The default parts are `SoftPolicy() + SoftQ()`, a `SoftCritic` on the actor's own source and `Replay()`.
    """

    def __init__(
        self, actor: Actor, reward: Reward, loss: LossHead | None = None, critic: SoftCritic | None = None,
        replay: Replay | None = None, **kwargs,
    ) -> None:
        super().__init__(
            actor=actor, loss=loss or SoftPolicy() + SoftQ(), reward=reward,
            critic=critic or SoftCritic(actor.model.source), replay=replay or Replay(), **kwargs,
        )

    def evidence(self, batch: Batch) -> Evidence:
        rollout, sequences = rollout_of(batch), batch.sequences
        if rollout is None:
            return super().evidence(batch)
        hidden = self.actor.hidden(sequences)
        return Evidence(
            policy=self.actor.token_logps(sequences, "entropy" in self.loss.needs, law=rollout.law, hidden=hidden),
            soft_q=self.critic.states(sequences, self.actor.model, hidden, base_of(self.reference, self.actor, sequences)),
            reference=rollout.reference, **{part.fills: part(sequences) for part in self.learned},
        )

    def _step(self, optimizer: Any) -> bool:
        if finite := super()._step(optimizer):
            self.critic.after_update()
        return finite

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["slow_critic"] = self.critic.target_state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        self.critic.load_target_state(checkpoint["slow_critic"])
