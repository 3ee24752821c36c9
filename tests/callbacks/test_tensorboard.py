from lit_rlhf.callbacks.tensorboard import flattened


def test_a_tree_of_settings_becomes_dotted_leaves():
    tree = {"data": {"size": 3, "names": ["a", {"b": 1.5}]}, "on": True, "none": None, "text": "x"}
    assert flattened(tree) == {"data.size": 3, "data.names.0": "a", "data.names.1.b": 1.5, "on": True, "text": "x"}
