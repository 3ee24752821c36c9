"""What has parameters or state: language models, actor, critic, references, reward models, learned components."""

from lit_rlhf.components.actor import Actor
from lit_rlhf.components.critic import Critic
from lit_rlhf.components.language_model import LanguageModel
from lit_rlhf.components.learned import LearnedTemperature, LogPartition
from lit_rlhf.components.lora import LoRA
from lit_rlhf.components.reference import EMA, AdapterOff, FromCheckpoint, FrozenCopy, Reference
from lit_rlhf.components.reward import RewardModel

__all__ = [
    "EMA", "Actor", "AdapterOff", "Critic", "FromCheckpoint", "FrozenCopy", "LanguageModel", "LearnedTemperature", "LoRA",
    "LogPartition", "Reference", "RewardModel",
]
