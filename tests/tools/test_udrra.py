"""The experiments: recipes with one target, runs that are measured, tables that say what the page says."""

import json
import math

import pytest
import torch
from conformance.training import ROOT, fresh, tool
from omegaconf import OmegaConf

from lit_rlhf.callbacks.quickstart import target_tau
from lit_rlhf.theory.boltzmann import log_target
from lit_rlhf.theory.residual import fixed_label_margin

udrra = tool("udrra")
tables = udrra.tables
RECIPES = ROOT / "configs" / "recipes" / "udrra"


@pytest.mark.parametrize("name", [*udrra.FAMILIES, "ppo"])
def test_a_recipe_trains_one_model_towards_one_target(name):
    path = RECIPES / f"{name}.yaml"
    tree = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    assert tree["run"] == f"udrra/{name}" and str(path.relative_to(ROOT)) in path.read_text().splitlines()[0]
    algorithm, data = fresh(["--config", str(path), "--vars.tau=0.7"])
    assert target_tau(algorithm) == 0.7 and algorithm.reference is not None
    assert algorithm.actor.model.source == "lit_rlhf/reviews" and getattr(data, "labels", "soft") == "soft"


def test_a_run_is_measured_on_its_way_with_its_gauge():
    watch = udrra.Watch(1)
    udrra.trained(RECIPES / "bda.yaml", "--data.batch_size=4", "--model.group_size=2", steps=2, callback=watch)
    course = watch.course
    assert course.updates == [0, 1, 2] and len(course.kl) == 3 and len(course.gauge) == 2
    assert course.kl[0] > 0.5 and all(map(math.isfinite, course.kl + course.gauge))
    assert course.reward[0] < course.reward[2] and course.seconds > 0


def test_at_matched_steps_rda_moves_the_transformer_as_rloo_does():
    found = udrra.seeds(["BDA (RLOO)", "RDA", "PRA"], [0], steps=3, every=3)["courses"]
    (rloo,), (rda,), (pra,) = (found[name] for name in ("BDA (RLOO)", "RDA", "PRA"))
    assert rloo["kl"][-1] < 0.9 * rloo["kl"][0]
    assert rda["kl"] == pytest.approx(rloo["kl"], rel=1e-4)
    assert abs(pra["kl"][-1] - rloo["kl"][-1]) > 1e-3 * rloo["kl"][-1]


def test_a_place_on_the_frontier_is_on_or_below_the_curve_of_targets(monkeypatch):
    small = "--data.batch_size=4", "--model.optimizer.lr=0.0003"
    monkeypatch.setitem(udrra.FRONTIER, "DPO", (*udrra.FRONTIER["DPO"], *small))
    found = udrra.frontier(["DPO"], steps=2, taus=[0.5])
    (point,) = found["points"]["DPO"]
    above = [at["reward"] for at in found["targets"] if at["kl"] >= point["kl"]]
    assert point["tau"] == 0.5 and 1e-4 < point["kl"] < 0.5 and point["reward"] <= min(above)


def test_the_curve_of_targets_rises_with_the_distance():
    curve = udrra.targets()
    places = [(at["kl"], at["reward"]) for at in reversed(curve)]
    assert all(far[0] > near[0] and far[1] > near[1] for near, far in zip(places[:-1], places[1:], strict=True))


def test_off_line_the_best_step_takes_tau_away_and_on_policy_it_does_not():
    low, high = (tables.of_temperature(tau) for tau in (0.7, 2.0))
    assert low["off-line, fixed step"] > high["off-line, fixed step"]
    assert low["off-line, 1/lambda_max"] == high["off-line, 1/lambda_max"]
    assert low["kappa off-line"] == pytest.approx(high["kappa off-line"])
    assert low["kappa on policy"] > 2 * high["kappa on policy"]
    assert low["on policy, 1/lambda_max"] > high["on policy, 1/lambda_max"]


def test_labels_slow_by_their_variance():
    rows = [tables.of_labels(scale) for scale in (0.1, 1.0, 3.0)]
    assert all(row["least"] <= row["pace"] <= row["largest"] <= 0.25 for row in rows)
    assert rows[0]["pace"] > rows[1]["pace"] > rows[2]["pace"]


def test_pairs_by_the_slope_of_the_link_end_first():
    ends = [tables.of_design(design)[8] for design in (tables.pace.inverse_slope, lambda margin: tables.EVEN)]
    assert ends[0] < 1e-9 < ends[1]


def test_kinds_of_labels_end_apart():
    soft = tables.WORLD.pairs(tables.independent(tables.WORLD.uniform))
    fixed = tables.drawn(torch.Generator().manual_seed(60), 1)
    assert tables.course(lambda: soft, many=200)[-1] < 1e-6 < 1e-2 < tables.course(lambda: fixed, many=200)[-1]
    margins = tables.margins_of_one_label(1.0, 300)
    assert margins[-1] == pytest.approx(fixed_label_margin(299, 1.0), rel=0.02) and margins[-1] > margins[100] + 0.5


def test_pairs_that_do_not_connect_end_where_the_equation_says():
    laws = {name: torch.tensor(law) for name, law in tables.disconnected(many=300).items()}
    off, away = ((laws["reached"] - laws[name]).abs().max() for name in ("predicted", "pi^tau"))
    assert float(off) < 1e-4 < 0.01 < float(away)
    assert torch.allclose(laws["pi^tau"], log_target(tables.WORLD.reward, 0.5, tables.WORLD.log_base).exp().float())


@pytest.mark.parametrize("name", ["families", "frontier"])
def test_numbers_become_a_picture_and_a_file_that_says_how(name, tmp_path):
    course = {"updates": [0, 50], "kl": [1.0, 0.1], "gauge": [0.9, 0.2], "reward": (0.0, 1.0, 1.1), "seconds": 1.0}
    at = [{"tau": 0.5, "reward": 1.0, "kl": 0.123456789}]
    numbers = {"families": {"courses": {"BDA": course}}, "frontier": {"points": {"PPO": at}, "targets": at}}[name]
    udrra.write(name, numbers, tmp_path)
    assert (tmp_path / f"{name}.png").stat().st_size > 5000
    saved = json.loads((tmp_path / f"{name}.json").read_text())
    assert saved["made"]["command"] == f"python tools/udrra.py {name}" and saved["made"]["torch"] == torch.__version__
    assert name == "families" or saved["points"]["PPO"][0]["kl"] == 0.12346
