import pytest

from lit_rlhf.callbacks.files import replacing


def test_the_target_changes_only_at_the_end(tmp_path):
    target = tmp_path / "deep" / "a.txt"
    with replacing(target) as file:
        file.write("first")
        assert not target.exists()
    with replacing(target, "wb") as file:
        file.write(b"second")
        assert target.read_text() == "first"
    assert target.read_text() == "second" and [path.name for path in target.parent.iterdir()] == ["a.txt"]


def test_an_error_leaves_the_target_and_no_trace(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("before")
    with pytest.raises(KeyError), replacing(target) as file:
        file.write("half")
        raise KeyError
    assert target.read_text() == "before" and len(list(tmp_path.iterdir())) == 1
