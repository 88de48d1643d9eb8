"""Expressions are measured so that the same numbers mean the same for two performers, whatever their faces and head poses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from drawn_faces import drawn_landmarks
from understudy.imaging.expression import MEASURES, READINGS, ExpressionStandard, measure_standards, readings_of
from understudy.imaging.meanface import mean_face
from understudy.model.augment import mirror_expressions
from understudy.model.folder import expressions_from_json
from understudy.model.networks import build_network
from understudy.types import BadInput, TrainRecipe

NEUTRAL = {"abel": np.linspace(0.1, 0.7, 7), "bea": np.linspace(0.3, 0.2, 7)}
SPREAD = {"abel": 0.03, "bea": 0.05}


def _performance(num: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Head poses (num, 2) in degrees and acting (num, 7) of spread 1."""
    random = np.random.default_rng(seed)
    return random.normal(size=(num, 2)) * [25, 10], random.normal(size=(num, 7))


def _acted(name: str, poses: np.ndarray, acting: np.ndarray) -> np.ndarray:
    """What is read of a performer: its own neutral and amplitude, and what the head's turning does to every mesh."""
    turned = 0.1 * poses[:, :1] / 30 + 0.2 * (poses[:, :1] / 30) ** 2 - 0.05 * poses[:, 1:] / 30
    return np.column_stack([poses, NEUTRAL[name] + turned + SPREAD[name] * acting])


def _standards() -> dict[str, ExpressionStandard]:
    return measure_standards({name: _acted(name, *_performance(400, seed)) for seed, name in enumerate(("abel", "bea"))})


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
    wild = np.column_stack([np.zeros((2, 2)), np.stack([NEUTRAL["bea"] + 10, NEUTRAL["bea"] - 10])])
    told = standard.apply(wild)[:, 1:]
    np.testing.assert_allclose(told, [standard.high, standard.low], rtol=1e-5)
    assert np.abs(told).max() < 4


def test_the_noise_of_a_performer_who_hardly_moves_is_not_made_grimaces() -> None:
    poses, acting = _performance(400, 1)
    lively, still = _acted("abel", *_performance(400, 0)), _acted("bea", poses, acting / 100)
    told = measure_standards({"abel": lively, "bea": still})["bea"].apply(still)[:, 1:]
    assert told.std() < 0.25


def test_a_lip_or_lid_that_moves_changes_its_own_reading_alone() -> None:
    shut_eye = mean_face()[:, :2].copy()
    shut_eye[[160, 159, 158], 1] = shut_eye[[144, 145, 153], 1]
    readings = readings_of(np.stack([drawn_landmarks(0.0), drawn_landmarks(1.0), shut_eye]), np.zeros((3, 3)))
    opened, shut = readings[1] - readings[0], readings[2] - readings[0]
    assert opened[READINGS.index("mouth opening")] == pytest.approx(0.3, abs=0.03)
    assert shut[READINGS.index("image-left eye")] < -0.02
    assert shut[READINGS.index("image-right eye")] == 0
    assert not shut[:7].any()


def test_a_mirrored_face_has_the_other_sides_expression() -> None:
    told = torch.arange(16.0).reshape(2, 8)
    seen = mirror_expressions(told, is_mirrored=torch.tensor([True, False]))
    assert seen[0].tolist() == [-0.0, 1, 2, 3, 5, 4, 7, 6]
    assert torch.equal(seen[1], told[1])
    assert torch.equal(mirror_expressions(seen, torch.tensor([True, False])), told)


def test_a_standard_comes_back_from_a_checkpoint_as_it_was_and_a_damaged_one_is_refused() -> None:
    standard = _standards()["abel"]
    values = standard.as_json()
    assert ExpressionStandard.from_json(values) == standard
    for damage in ({"spread": [0.0] * 7}, {"neutral": [1.0] * 6}, {"low": [float("nan")] * 7}, {"pose_slopes": "steep"}):
        with pytest.raises(BadInput, match="expression standard"):
            ExpressionStandard.from_json({**values, **damage})
    with pytest.raises(BadInput, match="no table"):
        expressions_from_json({"abel": 3})


def test_what_is_told_takes_part_of_the_code_and_changes_what_is_drawn() -> None:
    recipe = TrainRecipe(resolution_px=32, width=0.125, code_size=16, is_expression_measured=True)
    network, faces = build_network(recipe, ["abel", "bea"]).eval(), torch.rand(2, 3, 32, 32)
    told = torch.randn(2, len(MEASURES))
    with torch.inference_mode():
        ordinary = network(faces, "bea")
        assert torch.equal(network(faces, "bea", torch.zeros_like(told)), ordinary)
        assert not torch.allclose(network(faces, "bea", told), ordinary)
    assert network.encoder.to_code.out_features == 16 - len(MEASURES)


@pytest.mark.parametrize("settings", [{"architecture": "original"}, {"sharing": "two-inters"}, {"code_size": 8}])
def test_networks_that_cannot_be_told_say_so(settings: dict[str, object]) -> None:
    recipe = replace(TrainRecipe(resolution_px=64, is_expression_measured=True), **settings)
    with pytest.raises(BadInput, match="measured"):
        build_network(recipe, ["abel", "bea"])
