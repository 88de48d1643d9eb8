"""Expressions are measured so that the same numbers mean the same for two performers, whatever their faces and head poses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from drawn_faces import drawn_irises, drawn_landmarks
from tiny_training import untrained_swapper
from understudy.imaging.expression import (
    FORMER_PARTS,
    MEASURES,
    READINGS,
    Drive,
    ExpressionStandard,
    Told,
    measure_standards,
    readings_of,
)
from understudy.imaging.meanface import mean_face, mirror_points
from understudy.model.augment import mirror_expressions
from understudy.model.colour import UNCHANGED
from understudy.model.folder import expressions_from_json, told_by
from understudy.model.networks import build_network
from understudy.model.swapper import emphasis_of
from understudy.settings import TrainRecipe
from understudy.types import BadInput

GAZE = READINGS.index("gaze")
NEUTRAL = {"abel": np.linspace(0.1, 0.7, 8), "bea": np.linspace(0.3, 0.2, 8)}
UNIT = np.array([0.034, 0.0186, 0.0095, 0.004, 0.004, 1, 1, 0.006])
"""Of mouth opening, width and corners, brows, eyes and gaze; eyes open by each one's own measure."""
EYES = {"abel": 0.03, "bea": 0.05}
FORMER = [Told(parts, is_in_units=False) for parts in FORMER_PARTS]


def _performance(num: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Head poses (num, 2) in degrees and acting (num, 8) of spread 1."""
    random = np.random.default_rng(seed)
    return random.normal(size=(num, 2)) * [25, 10], random.normal(size=(num, 8))


def _acted(name: str, poses: np.ndarray, acting: np.ndarray) -> np.ndarray:
    """What is read of a performer: its own neutral and eyes, and what the head's turning does to every plain measure."""
    turned = 0.1 * poses[:, :1] / 30 + 0.2 * (poses[:, :1] / 30) ** 2 - 0.05 * poses[:, 1:] / 30
    acted = NEUTRAL[name] + np.where(UNIT == 1, EYES[name], UNIT) * acting
    return np.column_stack([poses, acted + turned, acted[:, 1:5]])


def _standards(told: Told | None = None) -> dict[str, ExpressionStandard]:
    readings = {name: _acted(name, *_performance(400, seed)) for seed, name in enumerate(("abel", "bea"))}
    return measure_standards(readings, told)


def test_the_same_performance_reads_the_same_of_two_performers() -> None:
    poses, acting = _performance(200, seed=7)
    told = {name: standard.apply(_acted(name, poses, acting)) for name, standard in _standards().items()}
    assert told["abel"].shape == (200, len(MEASURES))
    assert np.abs(told["abel"] - told["bea"]).mean() < 0.15, "neutral and spread are known as well as 400 faces tell them"
    inside = np.abs(acting) < 2
    assert np.abs(told["abel"][:, 1:][inside] - acting[inside]).mean() < 0.1
    np.testing.assert_allclose(told["abel"][:, 0], poses[:, 0] / 30, atol=1e-5)


def test_strength_multiplies_the_expression_and_leaves_the_heads_turn_alone() -> None:
    standard, readings = _standards()["bea"], _acted("bea", *_performance(3, seed=9))
    plain, strong = standard.apply(readings), standard.apply(readings, np.array([1.0, 2.0, 0.0]))
    np.testing.assert_allclose(strong[:, 1:], plain[:, 1:] * [[1], [2], [0]], rtol=1e-6)
    np.testing.assert_array_equal(strong[:, 0], plain[:, 0])


def test_nobody_is_driven_beyond_what_the_own_footage_shows() -> None:
    standard = _standards()["bea"]
    wild = _acted("bea", np.zeros((2, 2)), np.outer([200.0, -200.0], np.ones(8)))
    told = standard.apply(wild)[:, 1:]
    np.testing.assert_allclose(told, [standard.high, standard.low], rtol=1e-5)
    assert np.abs(told).max() < 4


def test_the_noise_of_a_performer_who_hardly_moves_is_not_made_grimaces() -> None:
    poses, acting = _performance(400, 1)
    lively, still = _acted("abel", *_performance(400, 0)), _acted("bea", poses, acting / 100)
    told = measure_standards({"abel": lively, "bea": still})["bea"].apply(still)[:, 1:]
    assert told.std() < 0.25


@pytest.mark.parametrize("liveliness", [0.3, 3.0])
def test_a_performer_plays_as_much_as_it_shows_however_lively_its_training_footage_was(liveliness: float) -> None:
    """A brow that rises by as much is told as as much, of a still performer and of a lively one."""
    poses, acting = _performance(400, 1)
    trained = {"abel": _acted("abel", *_performance(400, 0)), "bea": _acted("bea", poses, acting * liveliness)}
    seen = _acted("bea", *(each[:50] for each in (poses, acting * 0.3)))
    told = measure_standards(trained)["bea"].apply(seen)[:, 1:]
    of_itself = [True, True, True, True, True, False, False, True]
    strength = [np.polyfit(acting[:50, k], told[:, k], 1)[0] for k in np.flatnonzero(of_itself)]
    np.testing.assert_allclose(strength, 0.3, rtol=0.1)


def test_a_lip_or_lid_that_moves_changes_its_own_reading_alone() -> None:
    shut_eye = mean_face()[:, :2].copy()
    shut_eye[[160, 159, 158], 1] = shut_eye[[144, 145, 153], 1]
    meshes = np.stack([drawn_landmarks(0.0), drawn_landmarks(1.0), shut_eye, drawn_landmarks(0.0)])
    irises = np.stack([drawn_irises(0.02), drawn_irises(0.02), drawn_irises(0.02), drawn_irises(-0.03)])
    readings = readings_of(meshes, irises, np.zeros((4, 3)))
    opened, shut, aside = readings[1:] - readings[0]
    assert opened[READINGS.index("mouth opening")] == pytest.approx(0.3, abs=0.03)
    assert shut[READINGS.index("image-left eye")] < -0.02
    assert shut[READINGS.index("image-right eye")] == 0
    assert not shut[:7].any()
    assert aside[READINGS.index("gaze")] == pytest.approx(-0.05, abs=1e-6)
    assert not np.delete(aside, READINGS.index("gaze")).any()


def test_a_gaze_that_is_not_known_is_told_as_the_ordinary_one_and_spoils_nothing() -> None:
    acted = {name: _acted(name, *_performance(400, seed)) for seed, name in enumerate(("abel", "bea"))}
    whole, partly = measure_standards(acted), {name: each.copy() for name, each in acted.items()}
    partly["bea"][::2, GAZE] = np.nan
    told = measure_standards(partly)["bea"].apply(partly["bea"])
    np.testing.assert_array_equal(told[::2, -1], 0)
    np.testing.assert_array_equal(told[:, :-1], whole["bea"].apply(acted["bea"])[:, :-1])
    assert np.abs(told[1::2, -1] - whole["bea"].apply(acted["bea"])[1::2, -1]).mean() < 0.1


def test_how_the_head_turns_the_eyes_is_each_ones_own() -> None:
    """Eyes that lie deeper seem to look the other way as the head turns; no other part may learn one performer's habits."""
    acted = {name: _acted(name, *_performance(400, seed)) for seed, name in enumerate(("abel", "bea"))}
    habit = 0.15 * acted["bea"][:, :1] / 30
    acted["bea"][:, [2, 9]] += habit
    standards = measure_standards(acted)
    told = {name: standard.apply(acted[name]) for name, standard in standards.items()}
    acting = {name: np.clip(_performance(400, seed)[1], -2.5, 2.5) for seed, name in enumerate(("abel", "bea"))}
    assert min(np.corrcoef(told[name][:, 8], acting[name][:, 7])[0, 1] for name in told) > 0.97
    assert np.corrcoef(told["bea"][:, 1], acting["bea"][:, 0])[0, 1] < 0.9
    slopes = {name: np.array(standard.pose_slopes) for name, standard in standards.items()}
    np.testing.assert_array_equal(slopes["abel"][:7], slopes["bea"][:7])


def test_a_performer_whose_gaze_was_never_known_is_measured_by_the_others() -> None:
    acted = {name: _acted(name, *_performance(400, seed)) for seed, name in enumerate(("abel", "bea"))}
    acted["bea"][:, GAZE] = np.nan
    abel, bea = measure_standards(acted).values()
    assert np.isfinite(bea.spread).all()
    assert (bea.neutral[-1], bea.spread[-1]) == pytest.approx((abel.neutral[-1], abel.spread[-1]))
    acted["abel"][:, GAZE] = np.nan
    for nobody in measure_standards(acted).values():
        assert not nobody.apply(_acted("abel", *_performance(9, 2)))[:, -1].any(), "no decoder knows what it would mean"


def test_a_mirrored_face_has_the_other_sides_expression() -> None:
    told = torch.arange(18.0).reshape(2, 9)
    seen = mirror_expressions(told, is_mirrored=torch.tensor([True, False]))
    assert seen[0].tolist() == [-0.0, 1, 2, 3, 5, 4, 7, 6, -8]
    assert torch.equal(seen[1], told[1])
    assert torch.equal(mirror_expressions(seen, torch.tensor([True, False])), told)
    assert torch.equal(mirror_expressions(told[:, :8], torch.tensor([True, False])), seen[:, :8]), "as before the gaze was told"


def test_a_gaze_is_told_as_its_opposite_of_the_mirrored_picture() -> None:
    mesh, irises = drawn_landmarks(0.5), drawn_irises(0.03)
    mirrored_mesh = mirror_points(mesh, 1)
    mirrored_irises = (irises * [-1, 1] + [1, 0])[::-1]
    gazes = readings_of(np.stack([mesh, mirrored_mesh]), np.stack([irises, mirrored_irises]), np.zeros((2, 3)))[:, GAZE]
    assert gazes[1] == pytest.approx(-gazes[0], abs=1e-3)
    assert abs(gazes[0]) > 0.01


def test_a_standard_comes_back_from_a_checkpoint_as_it_was_and_a_damaged_one_is_refused() -> None:
    standard = _standards()["abel"]
    values = standard.as_json()
    assert ExpressionStandard.from_json(values) == standard
    for damage in (
        {"spread": [0.0] * 8},
        {"neutral": [1.0] * 6},
        {"neutral": [1.0] * 7},
        {"low": [float("nan")] * 8},
        {"pose_slopes": "steep"},
    ):
        with pytest.raises(BadInput, match="expression standard"):
            ExpressionStandard.from_json({**values, **damage})
    with pytest.raises(BadInput, match="no table"):
        expressions_from_json({"abel": 3})
    with pytest.raises(BadInput, match=r"an expression standard of known parts, got .'ears'.*; update Understudy"):
        ExpressionStandard.from_json({**values, "parts": ["ears"] * 8})
    former = _standards(FORMER[0])["bea"]
    assert told_by({"abel": former, "bea": former}, Path("000001")) == FORMER[0]
    assert told_by({"abel": standard}, Path("000001")) == Told()
    with pytest.raises(BadInput, match="000001: its performers' expressions are not measured alike"):
        told_by({"abel": former, "bea": standard}, Path("000001"))


@pytest.mark.parametrize("told", FORMER)
def test_a_standard_of_an_older_model_says_no_parts_and_measures_those_of_its_time(told: Told) -> None:
    parts = told.parts
    readings = _acted("bea", *_performance(100, 3))
    former = _standards(told)["bea"]
    values = {name: each for name, each in former.as_json().items() if name != "parts"}
    assert ExpressionStandard.from_json(values) == former
    others = readings.copy()
    others[:, [READINGS.index(part) for part in READINGS[2:] if part not in parts]] = 7.0
    np.testing.assert_array_equal(former.apply(readings), former.apply(others))
    assert former.apply(readings).shape == (100, 1 + len(parts))


def test_a_model_of_before_is_told_as_loud_as_it_was() -> None:
    before = [1.5, 2.05, 1.75, 2.5, 2.5, 1.55, 1.55, 1.0]
    np.testing.assert_allclose(emphasis_of(FORMER[0]), before, rtol=1e-6)
    np.testing.assert_allclose(emphasis_of(Told(is_in_units=False)), [1.5, 1.8, 1.75, 2.0, 2.0, 1.55, 1.55, 1.0], rtol=1e-6)


@pytest.mark.parametrize("told", [Told(), Told(is_in_units=False), *FORMER])
def test_a_swap_is_told_each_measure_by_its_own_emphasis_and_the_yaw_as_it_is(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = told.parts
    recipe = TrainRecipe(resolution_px=32, width=0.125, code_size=16, is_expression_measured=True)
    network, heard = build_network(recipe, ["abel", "bea"], 1 + len(parts)), []
    readings = _acted("abel", *_performance(3, 7))
    standards = _standards(told)
    swapper = untrained_swapper(network, recipe, dict.fromkeys(standards, UNCHANGED), standards)
    monkeypatch.setattr(network, "draw", lambda codes, performer, numbers: heard.append(numbers) or torch.zeros(3, 4, 32, 32))
    swapper.swap(np.zeros((3, 32, 32, 3), np.uint8), "abel", "bea", Drive(readings, 0.5))
    emphasis = np.array([1, *emphasis_of(told)])
    np.testing.assert_allclose(heard[0], standards["abel"].apply(readings, 0.5) * emphasis, rtol=1e-6)
    assert len(set(emphasis)) > 3


def test_what_is_told_takes_part_of_the_code_and_changes_what_is_drawn() -> None:
    recipe = TrainRecipe(resolution_px=32, width=0.125, code_size=16, is_expression_measured=True)
    network, faces = build_network(recipe, ["abel", "bea"]).eval(), torch.rand(2, 3, 32, 32)
    told = torch.randn(2, len(MEASURES))
    with torch.inference_mode():
        ordinary = network(faces, "bea")
        assert torch.equal(network(faces, "bea", torch.zeros_like(told)), ordinary)
        assert not torch.allclose(network(faces, "bea", told), ordinary)
    assert network.encoder.to_code.out_features == 16 - len(MEASURES)


@pytest.mark.parametrize("settings", [{"architecture": "original"}, {"sharing": "two-inters"}, {"code_size": 9}])
def test_networks_that_cannot_be_told_say_so(settings: dict[str, object]) -> None:
    recipe = replace(TrainRecipe(resolution_px=64, is_expression_measured=True), **settings)
    with pytest.raises(BadInput, match="measured"):
        build_network(recipe, ["abel", "bea"])
