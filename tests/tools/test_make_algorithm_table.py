import importlib
import re
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[2] / "tools"


@pytest.fixture(scope="module")
def tool():
    sys.path.insert(0, str(TOOLS))
    try:
        yield importlib.import_module("make_algorithm_table")
    finally:
        sys.path.remove(str(TOOLS))


@pytest.fixture(scope="module")
def generated(tool):
    return tool.generated()


def test_the_page_is_what_the_tool_writes(tool, generated):
    between = tool.PAGE.read_text(encoding="utf-8").partition(tool.BEGIN)[2].partition(tool.END)[0].strip()
    assert between == generated, "run python tools/make_algorithm_table.py"


def test_every_configuration_has_a_row_of_full_cells(tool, generated):
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in generated.splitlines() if line.startswith("| [")]
    assert {row[1].strip(" `") for row in rows} == {path.stem for path in tool.CONFIGS.glob("*.yaml")}
    assert all(cell.strip() for row in rows for cell in row[:6])


def test_links_within_the_page_lead_to_a_heading(tool, generated):
    headings = [tool.anchor(line.lstrip("# ")) for line in generated.splitlines() if line.startswith("#")]
    assert len(headings) == len(set(headings))
    assert set(re.findall(r"\]\(#([^)]+)\)", generated)) <= set(headings)


def test_a_text_is_taken_apart(tool):
    from algorithm_entries import described

    found = described(
        'PRA, prior form, on x.\n\nL = -log s,\ns a number.\n\nTarget: a law,\nof r.\nSee "On x" by A et al.\n'
        "(https://x.org/1), equation 2.\nThe default head is `X()`."
    )
    assert (found.sentence, found.form, found.target) == ("PRA, prior form, on x", "prior", "a law, of r.")
    assert found.equation == "L = -log s,\ns a number."
    assert found.link == "[On x](https://x.org/1)"


def test_a_part_is_spelt_as_python_would(tool):
    head = {"class_path": "a.b.PRA", "init_args": {"tau": 0.1, "link": {"class_path": "a.Hinge"}}}
    terms = [head, {"class_path": "Scaled", "init_args": {"coefficient": 0.5, "head": {"class_path": "a.NLL"}}}]
    assert tool.spelt({"class_path": "a.Sum", "init_args": {"terms": terms}}) == "PRA(tau=0.1, link=Hinge()) + 0.5 * NLL()"
