"""The experiments cover every claim, compare like with like, say what their results say, and run."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments import results
from experiments.__main__ import main
from experiments.claims import CLAIMS
from experiments.claims.arms import REFERENCE, SPATIAL, TRANSPOSED
from experiments.claims.model import Arm, Claim, Test
from experiments.figures import FIGURES
from experiments.networks import Wiring, build
from experiments.page import PAGE, page_text, picture_of
from experiments.runner import MEASURES, needed, run
from experiments.systems import SYSTEMS
from experiments.training import FULL, SMALL, Training
from experiments.verdicts import judge, outcome
from experiments.workshop import Workshop
from short_clips import cut_footage
from understudy.imaging.metrics_series import Series
from understudy.imaging.metrics_statistics import Interval
from understudy.model.networks import build_network
from understudy.perception.survey import DETECTORS
from understudy.recipes import convert_recipe, train_recipe

ROOT = Path(__file__).resolve().parents[1]
ARMS = {arm.name: arm for claim in CLAIMS for arm in claim.arms}

# ---- the registry ---------------------------------------------------------------------------------------------------------


def test_every_claim_has_its_place() -> None:
    assert [claim.name for claim in CLAIMS] == [f"C{number}" for number in range(1, 42)]


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.name)
def test_a_claim_is_tried_or_says_why_not(claim: Claim) -> None:
    if not claim.arms:
        assert claim.open_because
        return
    names = {arm.name for arm in claim.arms}
    assert len(names) == len(claim.arms)
    assert claim.tests
    assert claim.setup
    assert set(claim.shown) <= names
    for test in claim.tests:
        assert {test.of, test.against or test.of} <= names
        assert {test.figure, test.minus or test.figure} <= set(FIGURES)
    assert set(claim.figures) <= set(FIGURES)
    for arm in claim.arms:
        assert (arm.training is None) == (arm.measure in MEASURES)


def test_arms_of_one_name_are_one_arm_and_no_two_ask_the_same() -> None:
    everywhere = [arm for claim in CLAIMS for arm in claim.arms]
    assert all(arm == ARMS[arm.name] for arm in everywhere)
    assert len({arm.key(SMALL) for arm in ARMS.values()}) == len(ARMS)


@pytest.mark.parametrize("arm", [arm for arm in ARMS.values() if arm.training], ids=lambda arm: arm.name)
def test_every_training_asks_for_a_recipe_that_exists_at_both_scales(arm: Arm) -> None:
    assert arm.training is not None
    for scale in (SMALL, FULL):
        assert arm.training.recipe(scale, seed=3).seed == 3


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: system.name)
def test_what_runs_a_system_of_the_article_exists(system: Any) -> None:
    asked = dict(system.train)
    train_recipe(asked.pop("recipe", "original"), asked)
    convert_recipe("delivery", dict(system.convert))
    assert not system.detector or system.detector in DETECTORS
    assert not system.claim or system.claim in {claim.name for claim in CLAIMS}
    assert system.train or system.convert or system.detector or system.claim


# ---- verdicts -------------------------------------------------------------------------------------------------------------


def test_a_statement_holds_fails_or_is_open_by_where_its_interval_lies() -> None:
    more, less = Test("", "leak", "a", border=0.1), Test("", "leak", "a", is_more=False, border=0.1)
    above, below, across = Interval(0.3, 0.2, 0.4), Interval(0.0, -0.1, 0.05), Interval(0.1, 0.0, 0.2)
    assert [outcome(more, each) for each in (above, below, across)] == ["holds", "fails", "open"]
    assert [outcome(less, each) for each in (above, below, across)] == ["fails", "holds", "open"]
    alike = Test("", "leak", "a", within=0.15)
    assert [outcome(alike, each) for each in (above, below, across)] == ["fails", "holds", "open"]
    assert outcome(more, Interval(1.0, float("nan"), float("nan"))) == "open"


def a_claim(**changes: Any) -> Claim:
    tests = (Test("spatial leaks more", "leak", "spatial", "reference"),)
    return Claim("C0", "a trial", "it leaks", "two arms", (REFERENCE, SPATIAL), tests, ("leak",), **changes)


def keep(folder: Path, arm: Arm, seed: int, leak: np.ndarray[Any, Any]) -> None:
    results.save(arm, SMALL, seed, {"leak": Series(leak)}, {"cpu_seconds": 1.0}, folder)


def test_differences_are_paired_by_frame_and_seed(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for seed in range(3):
        hard = random.normal(0, 1, 60) + seed  # what frames and seeds do alike to both is far more than what differs
        keep(tmp_path, REFERENCE, seed, hard)
        keep(tmp_path, SPATIAL, seed, hard + 0.05)
    judged = judge(a_claim(), SMALL, tmp_path)
    assert judged.verdict == "confirmed"
    assert judged.tested[0].found.value == pytest.approx(0.05, abs=1e-3)
    assert judged.tested[0].found.low > 0.04


def test_nothing_is_decided_while_a_seed_is_missing(tmp_path: Path) -> None:
    for arm, seeds in ((REFERENCE, 3), (SPATIAL, 2)):
        for seed in range(seeds):
            keep(tmp_path, arm, seed, np.full(60, 1.0 if arm is SPATIAL else 0.0))
    judged = judge(a_claim(), SMALL, tmp_path)
    assert judged.verdict == "not settled"
    assert judged.tested[0].outcome == "holds"
    assert list(needed([a_claim()], SMALL, tmp_path)) == [(SPATIAL, 2)]


def test_a_result_of_another_question_is_none(tmp_path: Path) -> None:
    keep(tmp_path, REFERENCE, 0, np.zeros(60))
    assert results.load(REFERENCE, SMALL, 0, tmp_path) is not None
    assert results.load(REFERENCE, replace(SMALL, faces=SMALL.faces * 2), 0, tmp_path) is None


# ---- networks -------------------------------------------------------------------------------------------------------------


def test_the_default_wiring_is_the_recipe_s_network_to_the_bit() -> None:
    import torch

    assert REFERENCE.training is not None
    recipe = replace(REFERENCE.training.recipe(SMALL, 0), width=0.0625)
    networks = []
    for make in (lambda: build(recipe, ["a", "b"], Wiring()), lambda: build_network(recipe, ["a", "b"])):
        torch.manual_seed(0)
        networks.append(make().state_dict())
    assert all(torch.equal(each, networks[1][name]) for name, each in networks[0].items())


@pytest.mark.parametrize("arm", [arm for arm in ARMS.values() if arm.training], ids=lambda arm: arm.name)
def test_every_wiring_draws_pictures_of_the_asked_size(arm: Arm) -> None:
    import torch

    assert arm.training is not None
    recipe = arm.training.recipe(SMALL, 0)
    network = build(recipe, ["a", "b"], arm.training.wiring, is_spread_kept=True)
    drawn = network(torch.rand(2, 3, recipe.resolution_px, recipe.resolution_px), "b")
    assert drawn.shape[2:] == (recipe.resolution_px, recipe.resolution_px)
    assert drawn.std() > 0


def test_a_decoder_with_an_encoder_of_its_own_teaches_no_other() -> None:
    import torch

    assert REFERENCE.training is not None
    recipe = REFERENCE.training.recipe(SMALL, 0)
    network = build(recipe, ["a", "b"], Wiring(encoders="separate"))
    network(torch.rand(1, 3, 48, 48), "b").sum().backward()
    first, second = network.encoder.encoders
    assert all(each.grad is None or not each.grad.any() for each in first.parameters())
    assert any(each.grad is not None and each.grad.any() for each in second.parameters())


# ---- the page -------------------------------------------------------------------------------------------------------------


def test_the_page_says_what_the_results_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == page_text(), "run: python -m experiments page"


def test_every_picture_of_the_page_is_there_and_every_decided_claim_has_one() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for path in re.findall(r"\]\((pictures/experiments/\S+)\)", text):
        assert (PAGE.parent / path).is_file()
    for claim in CLAIMS:
        if judge(claim, SMALL).verdict != "not settled":
            assert picture_of(claim, SMALL, results.FOLDER) is not None, claim.name


# ---- end to end -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_tiny_claim_runs_from_footage_to_a_verdict_and_is_found_again(
    sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from benchmarks.truth.footage import find_footage

    footage = find_footage(cut_footage(sample, tmp_path / "pair", range(26), range(60, 84)))
    tiny = replace(SMALL, faces=32, settings={**SMALL.settings, "width": 0.0625, "resolution_px": 32})
    shop = Workshop(footage, tiny, tmp_path / "work", tmp_path / "results")
    claim = replace(a_claim(), arms=(REFERENCE, TRANSPOSED), tests=(Test("", "leak", "transposed", "reference"),), num_seeds=1)
    missing = list(needed([claim], tiny, shop.folder))
    assert run(missing, shop) == 2
    assert judge(claim, tiny, shop.folder).is_whole
    assert picture_of(replace(claim, shown=("reference", "transposed")), tiny, shop.folder) is not None
    assert not list(needed([claim], tiny, shop.folder))
    found = results.load(REFERENCE, tiny, 0, shop.folder)
    assert found is not None
    results.path_of(REFERENCE, tiny, 0, shop.folder).unlink()
    run(list(needed([claim], tiny, shop.folder)), shop)  # the network is found again, and scored to the same figures
    again = results.load(REFERENCE, tiny, 0, shop.folder)
    assert again is not None
    assert again["series"] == found["series"]


def test_an_unknown_claim_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "C99"]) == 2
    assert "expected claims out of C1 to C41, got 'C99'" in capsys.readouterr().err


def test_a_training_says_what_it_asks() -> None:
    assert Training(settings={"warp_fraction": 0.0}).recipe(SMALL, 1).warp_fraction == 0.0
