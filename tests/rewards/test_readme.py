"""What the page of the rewards shows is what they do."""

import re
from pathlib import Path

import pytest
import yaml
from jsonargparse import ArgumentParser
from rewards.given import response

import lit_rlhf.rewards
from lit_rlhf.rewards.base import Judge, Reward

PAGE = (Path(lit_rlhf.rewards.__file__).parent / "README.md").read_text(encoding="utf-8")
BLOCKS = dict(enumerate(re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)))
CODE = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL).group(1)


@pytest.mark.parametrize("block", BLOCKS)
def test_every_configuration_scores(block, tmp_path, monkeypatch):
    (tmp_path / "my_rewards.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    parser = ArgumentParser()
    parser.add_argument("--reward", type=Reward)
    reward = parser.instantiate(parser.parse_object({"reward": yaml.safe_load(BLOCKS[block])})).reward
    reward.check()
    reward.build()
    found = reward([response("<think>a</think><answer>42</answer>", answer="42"), response("no", answer="42")])
    assert float(found.total[0]) != float(found.total[1])


def test_every_class_is_on_the_page():
    named = {*re.findall(r"`(\w+)`", PAGE)}
    classes = [getattr(lit_rlhf.rewards, name) for name in lit_rlhf.rewards.__all__]
    parts = {one.__name__ for one in classes if issubclass(one, Reward | Judge)}
    assert parts <= named | {"Reward", "Judge"}
