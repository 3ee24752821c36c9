"""What has parameters or state: language models, actor, critic, references, reward models, learned components."""

from lit_rlhf.components.actor import Actor
from lit_rlhf.components.attention import Layout, Padded
from lit_rlhf.components.cached import Cached
from lit_rlhf.components.critic import Critic
from lit_rlhf.components.language_model import LanguageModel
from lit_rlhf.components.learned import Learned, LearnedTemperature, LogPartition
from lit_rlhf.components.lora import LoRA
from lit_rlhf.components.reference import EMA, AdapterOff, FromCheckpoint, FrozenCopy, Reference
from lit_rlhf.components.reward import RewardModel

__all__ = [
    "EMA", "Actor", "AdapterOff", "Cached", "Critic", "FromCheckpoint", "FrozenCopy", "LanguageModel", "Layout",
    "Learned", "LearnedTemperature", "LoRA", "LogPartition", "Padded", "Reference", "RewardModel",
]
