"""The light on a face is told from its skin, taken out before a network sees it, and given back to what it draws."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import understudy
from drawn_faces import draw_face
from tiny_training import DARK_SKIN, LIGHT_SKIN, TINY, untrained_swapper
from understudy.imaging.expression import READINGS, Drive
from understudy.imaging.light import in_the_light_of, light_on, shading_on
from understudy.imaging.masks import polygon_mask
from understudy.media import read_image
from understudy.media.reader import read_frames
from understudy.model.colour import ColourStandard, measure_standard
from understudy.model.networks import build_network
from understudy.model.swapper import load_swapper
from understudy.recipes import TRAIN_RECIPES, train_recipe
from understudy.stages._training_faces import DENSITY, PerformerFaces, in_ordinary_light
from understudy.stages.train import build_trainer, train
from understudy.types import BadInput

SAMPLE = Path(understudy.__file__).parent / "sample"
SKIN = np.array([0.6, 0.42, 0.33])
SIZE = 96
UNIT_PX = SIZE / 2
GAINS = st.floats(0.3, 1.6)


def face_mask(size: int = SIZE) -> np.ndarray:
    turn = np.linspace(0, 2 * np.pi, 60)
    return polygon_mask(size * (0.5 + np.column_stack([0.3 * np.cos(turn), 0.4 * np.sin(turn)])), (size, size))


def lit_face(gains: np.ndarray, size: int = SIZE) -> np.ndarray:
    """A shaded face of that skin, with grey eyes, before a green wall."""
    mask = face_mask(size)
    shading = np.linspace(0.8, 1.2, size)[None, :, None]
    face = SKIN * shading * np.ones((size, size, 1))
    eyes = slice(int(0.38 * size), int(0.44 * size))
    face[eyes, int(0.35 * size) : int(0.65 * size)] = 0.5
    wall = np.array([0.2, 0.5, 0.2])
    return np.float32(np.clip((mask[..., None] * face + (1 - mask[..., None]) * wall) * gains, 0, 1))


@given(st.tuples(GAINS, st.floats(0.8, 1.25), st.floats(0.8, 1.25)))
def test_the_light_that_falls_on_a_face_is_told_from_its_skin(light: tuple[float, float, float]) -> None:
    brightness, red, blue = light
    gains = np.minimum(brightness * np.array([red, 1, blue]), 1 / (1.2 * SKIN))
    usual, lit = (light_on(lit_face(each), face_mask(), SKIN, UNIT_PX) for each in (np.ones(3), gains))
    np.testing.assert_allclose(lit / usual, gains, rtol=0.06)
    np.testing.assert_allclose(usual, 1, atol=0.03)


def test_what_stands_before_a_face_hardly_counts() -> None:
    picture = lit_face(np.full(3, 0.7))
    alone = light_on(picture, face_mask(), SKIN, UNIT_PX)
    picture[:, SIZE // 2 :] = (0.2, 0.35, 0.6)
    np.testing.assert_allclose(light_on(picture, face_mask(), SKIN, UNIT_PX), alone, rtol=0.12)  # the darker half is left


def test_under_a_lamp_so_blue_that_no_skin_looks_like_skin_the_whole_face_counts() -> None:
    gains = np.array([0.15, 0.4, 1.4])
    np.testing.assert_allclose(light_on(lit_face(gains), face_mask(), SKIN, UNIT_PX), gains, rtol=0.15)


def test_a_larger_picture_and_one_of_eight_bits_are_measured_alike() -> None:
    gains = np.array([0.8, 0.7, 0.9])
    small, large = (light_on(lit_face(gains, size), face_mask(size), SKIN, size / 2) for size in (SIZE, 4 * SIZE))
    np.testing.assert_allclose(large, small, rtol=0.01)
    eight_bit = np.uint8(np.rint(lit_face(gains) * 255))
    np.testing.assert_allclose(light_on(eight_bit, face_mask(), SKIN, UNIT_PX), small, rtol=0.01)


def test_without_a_face_the_light_is_taken_to_be_ordinary() -> None:
    np.testing.assert_array_equal(light_on(lit_face(np.ones(3)), np.zeros((SIZE, SIZE), np.float32), SKIN, UNIT_PX), 1)


def test_a_drawn_face_takes_on_the_light_of_the_plates_and_keeps_its_own_skin() -> None:
    light, dark_skin = np.array([0.7, 0.6, 0.5]), SKIN / 2
    drawn = lit_face(np.full(3, 0.5 * 1.1))  # of that other skin, and a tenth too bright
    lit = in_the_light_of(drawn, lit_face(light), face_mask(), SKIN, dark_skin, UNIT_PX)
    np.testing.assert_allclose(light_on(lit, face_mask(), dark_skin, UNIT_PX), light, rtol=0.03)


def test_a_face_of_which_a_bar_leaves_the_dark_half_to_be_seen_is_not_in_less_light() -> None:
    plate = lit_face(np.ones(3))
    whole = in_the_light_of(plate, plate, face_mask(), SKIN, SKIN, UNIT_PX)
    plate[:, SIZE // 2 :] = (0.2, 0.35, 0.6)
    half = in_the_light_of(lit_face(np.ones(3)), plate, face_mask(), SKIN, SKIN, UNIT_PX)
    np.testing.assert_allclose(half, whole, atol=0.02)
    alone = light_on(plate, face_mask(), SKIN, UNIT_PX)
    assert alone[0] < 0.96, "by its own mean it would be"


@pytest.mark.parametrize("brightness", [1 / 4, 1 / 16, 1 / 40, 0])
def test_a_drawn_face_fades_to_black_with_the_plate(brightness: float) -> None:
    plate = lit_face(np.full(3, brightness))
    lit = in_the_light_of(lit_face(np.ones(3)), plate, face_mask(), SKIN, SKIN, UNIT_PX)
    inside = face_mask() == 1
    np.testing.assert_allclose(lit[inside], plate[inside], atol=2e-3)


def test_a_sliver_of_a_face_without_colour_says_nothing_of_its_light() -> None:
    sliver = np.zeros((SIZE, SIZE), np.float32)
    sliver[40:59, 40:59] = 1
    grey, drawn = np.full((SIZE, SIZE, 3), 0.2, np.float32), lit_face(np.full(3, 0.7))
    np.testing.assert_array_equal(light_on(grey, sliver, SKIN, UNIT_PX), 1)
    np.testing.assert_array_equal(in_the_light_of(drawn, grey, sliver, SKIN, SKIN, UNIT_PX), drawn)


def test_what_a_picture_is_divided_by_keeps_within_bounds() -> None:
    black = np.zeros((SIZE, SIZE, 3), np.uint8)
    np.testing.assert_allclose(light_on(black, face_mask(), SKIN, UNIT_PX), 1 / 8)
    np.testing.assert_allclose(light_on(black + 255, face_mask(), SKIN / 20, UNIT_PX), 8)


def test_a_highlight_that_is_brightened_ends_at_white() -> None:
    drawn = lit_face(np.ones(3))
    drawn[40, 40] = 0.9
    lit = in_the_light_of(drawn, lit_face(np.full(3, 1.3)), face_mask(), SKIN, SKIN, UNIT_PX)
    np.testing.assert_array_equal(lit[40, 40], 1)


def test_one_skin_over_the_other_is_the_same_under_every_light_of_a_performance() -> None:
    means = {
        name: np.array([skin_of_frame(name, frame) for frame in range(0, 120, 8) if frame != 80]) for name in ("abel", "bea")
    }
    of_light, of_skins = np.log(means["abel"]).std(0), np.log(means["bea"] / means["abel"]).std(0)
    assert of_light.min() > 0.05, "the light changes"
    assert of_skins.max() < 0.03, "and what is under it hardly, heads of two shapes in profile included"


def skin_of_frame(name: str, frame: int) -> np.ndarray:
    """(3,) the mean colour within the true mask of a virtual actor, one of two that give the same performance."""
    picture = next(read_frames(SAMPLE / f"{name}_test.mp4", start=frame)).eight_bit
    mask = read_image(SAMPLE / f"{name}_test_mask" / f"{frame:04d}.png")[..., 0].astype(np.float32) / 255
    return light_on(picture, mask, np.full(3, 0.5), 180.0)


# ---- in training ------------------------------------------------------------------------------------------------------------


def performer(name: str, skin: tuple[int, int, int], lights: np.ndarray) -> PerformerFaces:
    """A face under lights (N, 3), as it lies in memory for training at 32 px."""
    picture, mask = draw_face(skin, 0.3), face_mask(192)
    crops = [np.dstack([np.clip(picture * light, 0, 255), mask * 255, mask * 0]).transpose(2, 0, 1) for light in lights]
    faces = torch.nn.functional.interpolate(torch.from_numpy(np.float32(crops)), (54, 54), mode="area").round().to(torch.uint8)
    num = len(lights)
    return PerformerFaces(name, faces, torch.zeros(num, 10), torch.ones(num), np.ones((4, 128)))


def test_faces_of_a_performer_under_all_lights_become_one_before_they_are_learned() -> None:
    lights = np.array([[0.5, 0.5, 0.6], [0.7, 0.7, 0.7], [1.0, 0.9, 0.8]])
    learned, held = performer("abel", DARK_SKIN, lights), performer("abel", DARK_SKIN, lights[:1] * 0.9)
    before = learned.crops.clone()
    (learned,), (held,) = in_ordinary_light([learned], [held], replace(TINY, is_light_measured=True))
    means = torch.stack([measure_means(face) for face in (*learned.crops, *held.crops)])
    assert float((means / means[0] - 1).abs().max()) < 0.07, "0.4 and more before"
    middle = torch.stack([measure_means(face) for face in before]).log().mean(0).exp()
    np.testing.assert_allclose(means[0], middle, rtol=0.05, err_msg="ordinary is the middle of what there is")
    assert learned.skin is not None
    assert held.skin == learned.skin
    assert torch.equal(learned.crops[:, 3:], before[:, 3:]), "masks have no light"


def test_ordinary_light_is_the_geometric_middle_of_a_footages() -> None:
    lights = np.repeat([[0.2], [0.8]], 3, axis=1)
    (learned,), _ = in_ordinary_light(
        [performer("abel", LIGHT_SKIN, lights)], [nobody("abel")], replace(TINY, is_light_measured=True)
    )
    (middle,), _ = in_ordinary_light(
        [performer("abel", LIGHT_SKIN, lights[:1] * 2)], [nobody("abel")], replace(TINY, is_light_measured=True)
    )
    assert learned.skin == pytest.approx(middle.skin, rel=0.04), "a half in 0.5 of the light, the arithmetic one"


def test_three_performers_one_of_them_without_blue_are_each_brought_to_an_own_skin_with_nothing_held_out() -> None:
    lights = [np.array([[0.5, 0.5, 0.5], [1.0, 1.0, 1.0]]) * tint for tint in ((1, 1, 1), (1, 0.8, 0), (0.9, 0.9, 1))]
    names = ("abel", "bea", "cyd")
    before = [performer(name, DARK_SKIN, each) for name, each in zip(names, lights, strict=True)]
    learned, held = in_ordinary_light(before, [nobody(name) for name in names], replace(TINY, is_light_measured=True))
    assert [each.performer for each in learned] == list(names)
    assert [len(each.crops) for each in held] == [0, 0, 0]
    assert len({each.skin for each in learned}) == 3
    for each in learned:
        assert each.skin is not None
        assert ColourStandard.from_json(ColourStandard((0.5,) * 3, (0.2,) * 3, each.skin).as_json()).skin == each.skin  # type: ignore[arg-type]
        dim, bright = (measure_means(face) for face in each.crops)
        np.testing.assert_allclose(dim, bright, rtol=0.03, atol=0.5)


def test_a_highlight_on_a_dim_face_stays_white_when_it_is_learned() -> None:
    dim = performer("abel", DARK_SKIN, np.array([[0.5] * 3, [1.0] * 3, [1.0] * 3]))
    dim.crops[0, :3, 27, 27] = 255
    (learned,), _ = in_ordinary_light([dim], [nobody("abel")], replace(TINY, is_light_measured=True))
    assert learned.crops[0, :3, 27, 27].tolist() == [255, 255, 255]


def test_the_rim_that_does_not_count_has_its_width_in_face_units_in_training_too() -> None:
    unit_px = TINY.resolution_px * DENSITY / 2  # the framing's side is two face units
    rim_px = int(unit_px / 7)
    faces = performer("abel", LIGHT_SKIN, np.ones((2, 3)))
    faces.crops[:] = 0
    faces.crops[:, 3, 7:47, 7:47] = 255
    for face, brightness in zip(faces.crops, (200, 20), strict=True):
        face[:3, 7:47, 7:47] = 200  # hair, as bright in any light
        face[:3, 7 + rim_px : 47 - rim_px, 7 + rim_px : 47 - rim_px] = brightness
    (learned,), _ = in_ordinary_light([faces], [nobody("abel")], replace(TINY, is_light_measured=True))
    np.testing.assert_array_equal(learned.crops[0, :3, 27, 27], learned.crops[1, :3, 27, 27])


def nobody(name: str) -> PerformerFaces:
    """No face of a performer, as where none is held out."""
    one = performer(name, DARK_SKIN, np.ones((1, 3)))
    return replace(one, crops=one.crops[:0], readings=one.readings[:0], shares=one.shares[:0])


def measure_means(crop: torch.Tensor) -> torch.Tensor:
    return 255 * torch.tensor(measure_standard(crop[None]).mean)


def test_a_model_knows_by_which_skin_the_light_was_told_and_draws_in_the_plates_light(
    face_sets: list[Path], tmp_path: Path
) -> None:
    for lit in (False, True):
        train(face_sets, tmp_path / f"{lit}", recipe=replace(TINY, is_light_measured=lit), steps=2)
    swapper, untold = (load_swapper(tmp_path / f"{lit}") for lit in (True, False))
    crops = np.full((1, 32, 32, 3), 1, np.float32) * np.float32(LIGHT_SKIN) / 255
    drive = Drive(np.zeros((1, len(READINGS)), np.float32), faces=face_mask(32)[None])
    bright, dim = (swapper.swap(crops * np.float32(gain), "abel", "bea", drive) for gain in (1.0, 0.5))
    np.testing.assert_allclose(dim[..., :3], bright[..., :3] / 2, atol=2e-3)
    np.testing.assert_allclose(dim[..., 3], bright[..., 3], atol=1e-3)
    codes = [swapper.read(crops * np.float32(gain), "abel", drive.faces) for gain in (1.0, 0.5)]
    np.testing.assert_allclose(codes[1], codes[0], atol=1e-3)
    assert not np.allclose(untold.read(crops, "abel"), untold.read(crops / 2, "abel"), atol=1e-3)
    blind = Drive(np.zeros((1, len(READINGS)), np.float32))
    for read in (None, codes[0]):
        with pytest.raises(ValueError, match="where the faces lie"):
            swapper.swap(crops, "abel", "bea", blind, read)


BAND = slice(int(0.42 * SIZE), int(0.56 * SIZE))
"""Columns of a shadow down the middle of the face."""
CHEEKS = slice(int(0.5 * SIZE), int(0.75 * SIZE))


def shaded(plate: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    return np.exp(shading_on(plate, drawn, face_mask(), SKIN, UNIT_PX))[CHEEKS]


@pytest.mark.parametrize("light", [1.0, 0.6])
def test_a_shadow_that_the_network_did_not_draw_is_seen_with_its_edge(light: float) -> None:
    drawn = light * lit_face(np.ones(3))
    plate = drawn.copy()
    plate[:, BAND] *= np.float32(0.55)
    gains = shaded(plate, cv2.GaussianBlur(drawn, (0, 0), 1))
    rim = 3
    assert gains[:, BAND.start + rim : BAND.stop - rim].mean() == pytest.approx(0.55, abs=0.06)
    for beside in (slice(BAND.start - 8, BAND.start - rim), slice(BAND.stop + rim, BAND.stop + 8)):
        assert gains[:, beside].mean() == pytest.approx(1, abs=0.05)


def test_a_feature_that_is_drawn_a_little_off_is_no_light() -> None:
    plate = lit_face(np.ones(3))
    rows = slice(int(0.6 * SIZE), int(0.6 * SIZE) + 3)
    plate[rows, 40:56] *= np.float32(0.6)  # a narrow mouth, two pixels from where it is drawn
    assert np.abs(shaded(plate, np.roll(plate, 2, axis=0)) - 1).max() < 0.03


def test_what_stands_before_a_face_throws_no_light_on_another() -> None:
    drawn = lit_face(np.ones(3))
    plate = drawn.copy()
    plate[:, BAND] = (0.05, 0.1, 0.3)
    assert np.abs(shaded(plate, drawn) - 1).max() < 0.05


def test_shadows_are_put_on_another_as_far_as_told_and_never_on_oneself(face_sets: list[Path], tmp_path: Path) -> None:
    train(face_sets, tmp_path / "model", recipe=replace(TINY, is_light_measured=True), steps=2)
    swapper = load_swapper(tmp_path / "model")
    crops = np.full((1, 32, 32, 3), 1, np.float32) * np.float32(LIGHT_SKIN) / 255
    crops[:, :, 12:18] *= np.float32(0.3)

    def swapped(strength: float, to: str = "bea") -> np.ndarray:
        drive = Drive(np.zeros((1, len(READINGS)), np.float32), faces=face_mask(32)[None], shading=strength)
        return swapper.swap(crops, "abel", to, drive)

    none, half, whole = (np.log(swapped(strength)[..., :3]) for strength in (0, 0.5, 1))
    np.testing.assert_allclose(half - none, (whole - none) / 2, atol=1e-3)
    assert (whole - none)[0, 14:20, 14:16].mean() < -0.3
    np.testing.assert_array_equal(swapped(1)[..., 3], swapped(0)[..., 3])
    np.testing.assert_array_equal(swapped(1, "abel"), swapped(0, "abel"))


def test_what_a_dim_face_has_brighter_than_white_is_white_to_the_network() -> None:
    lit = ColourStandard((0.5,) * 3, (0.2,) * 3, (0.6, 0.42, 0.33))
    recipe = replace(TINY, is_expression_measured=False)
    swapper = untrained_swapper(build_network(recipe, ["abel"]), recipe, {"abel": lit})
    dim, clipped = lit_face(np.full(3, 0.25), 32), lit_face(np.full(3, 0.25), 32)
    lamp = np.s_[2:4, 2:4]
    dim[lamp], clipped[lamp] = 1.0, 0.6
    codes = swapper.read(np.stack([dim, clipped]), "abel", np.stack([face_mask(32)] * 2))
    np.testing.assert_allclose(codes[0], codes[1], atol=1e-5)
    assert swapper.skins["abel"].tolist() == [0.6, 0.42, 0.33]


def test_a_model_that_learned_faces_as_they_were_lit_needs_not_know_where_they_lie() -> None:
    recipe = replace(TINY, is_expression_measured=False)
    network = build_network(recipe, ["abel", "bea"])
    standard = ColourStandard((0.5,) * 3, (0.2,) * 3)
    swapper = untrained_swapper(network, recipe, dict.fromkeys(("abel", "bea"), standard))
    assert swapper.swap(np.zeros((1, 32, 32, 3), np.uint8), "abel", "bea").shape == (1, 32, 32, 4)


def test_the_skin_of_a_standard_is_kept_and_a_damaged_one_refused() -> None:
    standard = ColourStandard((0.5, 0.4, 0.3), (0.1, 0.1, 0.1), (0.6, 0.4, 0.3))
    assert ColourStandard.from_json(standard.as_json()) == standard  # type: ignore[arg-type]
    plain = replace(standard, skin=None)
    assert ColourStandard.from_json(plain.as_json()) == plain  # type: ignore[arg-type]
    for damaged in ([0.6, 0.4], ["red", 0, 0], [float("nan"), 0.4, 0.3], [0.6, 0.4, 0.0]):
        with pytest.raises(BadInput):
            ColourStandard.from_json({**standard.as_json(), "skin": damaged})  # type: ignore[dict-item]


def test_all_recipes_but_the_original_take_the_light_and_the_skin_tone_out() -> None:
    free = {name for name in TRAIN_RECIPES if train_recipe(name).is_light_measured and train_recipe(name).standardise_colour}
    assert free == set(TRAIN_RECIPES) - {"original"}


def test_a_trainer_hands_the_skin_on_to_the_model(face_sets: list[Path]) -> None:
    from understudy.stages._training_faces import load_performers

    performers = [replace(each, skin=(0.5, 0.4, 0.3)) for each in load_performers(face_sets, TINY)]
    assert all(standard.skin == (0.5, 0.4, 0.3) for standard in build_trainer(performers, TINY).standards.values())
