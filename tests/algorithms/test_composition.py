import pytest
from components.tiny import config
from tokens import byte_tokenizer

from lit_rlhf.algorithms.base import Algorithm
from lit_rlhf.algorithms.dro import DRO
from lit_rlhf.components.actor import Actor
from lit_rlhf.components.cached import Cached
from lit_rlhf.components.language_model import LanguageModel
from lit_rlhf.components.learned import LogPartition
from lit_rlhf.components.reference import AdapterOff
from lit_rlhf.errors import InputError
from lit_rlhf.losses.pra import PRA


@pytest.fixture
def speaking(tmp_path):
    """A model whose tokenizer has this word as a token of its own."""

    def made(word):
        byte_tokenizer(word).save_pretrained(tmp_path / word)
        return LanguageModel(config=config(vocab_size=300), tokenizer=str(tmp_path / word))

    return made


def test_a_part_over_other_tokens_is_refused_before_any_weight(speaking):
    algorithm = DRO(Actor(speaking("hello")), learned=[LogPartition(speaking("world"))])
    with pytest.raises(InputError, match=r"^model\.learned\.0\.model: .* has other tokens than the actor"):
        algorithm.configure_model()
    assert algorithm.actor.model.net is None


@pytest.mark.parametrize("reference", [AdapterOff, lambda: Cached(reference=AdapterOff())])
def test_a_reference_that_cannot_serve_the_actor_is_refused_before_any_weight(reference, speaking):
    algorithm = Algorithm(Actor(speaking("hello")), PRA(), reference())
    with pytest.raises(InputError, match=r"^model\.reference: AdapterOff .* --model\.actor\.model\.lora=LoRA"):
        algorithm.configure_model()
    assert algorithm.actor.model.net is None
