"""What an evaluation takes of a configuration."""

import pytest

from lit_rlhf.commands.evaluation.parts import start_of
from lit_rlhf.config import compose

ACTOR = "model: {class_path: X, init_args: {actor: {class_path: Y, init_args: {model: %s}}}}\nvars: {start: runs/before}\n"


@pytest.mark.parametrize("model, start", [
    ("some/name", "some/name"),
    ("{class_path: Z, init_args: {source: some/name}}", "some/name"),
    ("{class_path: Z, init_args: {source: '${vars.start}'}}", "runs/before"),
    ("{class_path: Z, init_args: {source: '${vars.start}', config: {hidden_size: 8}}}", None),
])
def test_the_baseline_is_what_the_actor_starts_from(model, start, tmp_path):
    file = tmp_path / "some.yaml"
    file.write_text(ACTOR % model)
    assert start_of(compose([f"--config={file}"])) == start


def test_without_an_actor_there_is_no_start(tmp_path):
    file = tmp_path / "some.yaml"
    file.write_text("data: {class_path: X}\n")
    assert start_of(compose([f"--config={file}"])) is None
