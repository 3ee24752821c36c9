"""jsonargparse's own help of a class."""

import pytest

from lit_rlhf.cli import main


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--model.loss.help", "RDA"], "lit_rlhf.losses.rda.RDA"),
        (["--model.loss.help=RDA"], "lit_rlhf.losses.rda.RDA"),
        (["--model.loss.help"], "lit_rlhf.losses.pra.PRA"),
        (["--model.loss=RDA", "--model.loss.help"], "lit_rlhf.losses.rda.RDA"),
        (["--model.loss.link.help", "Squared"], "lit_rlhf.losses.links.Squared"),
        (["--data.help", "Files"], "--data.micro_batch_tokens"),
        (["--trainer.help"], "--trainer.max_steps"),
    ],
    ids=" ".join,
)
def test_a_class_is_explained(words, said, capsys):
    assert main(["fit", *words]) == 0
    assert said in capsys.readouterr().out


@pytest.mark.parametrize(("word", "said"), [("--model.loss.help=PRB", "PRB"), ("--model.losss.help=PRA", "losss")])
def test_what_is_not_there_is_answered_in_a_line(word, said, capsys):
    assert main(["fit", word]) == 2
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1 and said in shown
