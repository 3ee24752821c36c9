"""The command line of `evaluate`, before anything is read."""

import pytest

from lit_rlhf.commands.evaluation.asking import OPTIONS, asked, usage
from lit_rlhf.errors import InputError


def test_policies_options_and_what_goes_on_to_the_configuration():
    words = "runs/a:best --config ppo runs/a:last --samples=8 --temperature=0.5 --data.val_size=9"
    found = asked(words.split())
    assert found.policies == ("runs/a:best", "runs/a:last") and found.samples == 8 and found.configured
    assert found.configuration == ("--config=ppo", "--sampler.temperature=0.5", "--data.val_size=9")


def test_defaults():
    found = asked(["runs/a"])
    assert (found.samples, found.split, found.limit, found.baseline, found.configured) == (4, "val", None, None, False)


@pytest.mark.parametrize("words, sentence", [
    ([], "no policy; name runs"),
    (["runs/a", "runs/a"], "runs/a: named twice; runs/a:best and runs/a:last"),
    (["runs/a", "--sample=3"], "--sample: no such option; did you mean --samples"),
    (["runs/a", "--samples=x"], "--samples=x: expected a whole number"),
    (["runs/a", "--samples=0"], "--samples=0: expected 1 or more"),
    (["runs/a", "--limit=0"], "--limit=0: expected 1 or more"),
    (["runs/a", "--split=train"], "--split=train: expected val or test"),
    (["runs/a", "--dtype=int8"], "--dtype=int8: expected float32, bfloat16, float16"),
    (["runs/a", "--baseline"], "--baseline: has no value"),
])
def test_what_is_refused(words, sentence):
    with pytest.raises(InputError) as error:
        asked(words)
    assert sentence in str(error.value)


def test_every_option_is_read():
    options = [option.removeprefix("--").partition(" ")[0] for option in OPTIONS if "key=value" not in option]
    for option in options:
        value = {"split": "test", "dtype": "bfloat16"}.get(option, "3")
        assert asked(["runs/a", f"--{option}={value}"]) != asked(["runs/a"]), option
        assert f"--{option}" in usage()
