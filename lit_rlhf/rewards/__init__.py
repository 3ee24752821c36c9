"""Rewards and judges: numbers for responses, and preferences between them.

Their names are imported when they are asked for: a process that calls a user's function needs none of them.
"""

from importlib import import_module
from typing import Any

_HOME = {
    "base": ("Judge", "Part", "Response", "Reward", "Scores"),
    "compose": ("BatchNormalised", "Clipped", "GroupNormalised", "WeightedSum"),
    "function": ("Function",),
    "judge": ("FunctionJudge", "RewardJudge"),
    "maths": ("MathAnswer",),
    "model": ("ModelReward",),
    "reviews": ("ReviewReward",),
    "text": ("CosineLength", "LengthPenalty", "Matches", "RepetitionPenalty", "Tags"),
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}

__all__ = sorted(_MODULE_OF)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
