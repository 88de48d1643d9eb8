"""A drawn face takes its fine detail from real pictures of the performer: those alike in form, whatever their light."""

from __future__ import annotations

import itertools
from functools import cache

import cv2
import numpy as np
import pytest

from understudy.imaging.exemplars import NUM_FORM_POINTS, Exemplars, choose_exemplars
from understudy.imaging.framing import FULL, crop_from_face
from understudy.imaging.irises import LEFT_IRIS, RIGHT_IRIS
from understudy.imaging.meanface import INNER_LIPS, LEFT_EYE, mean_face
from understudy.imaging.similarity import apply
from understudy.imaging.steadiness import steady_form

SIZE = 128
PX_PER_UNIT = SIZE / FULL.side
CHIN = (slice(92, 104), slice(58, 70))
"""Pixels of the chin, far from eyes, mouth and rim."""
LIPS = (slice(79, 90), slice(56, 72))


@cache
def form(smile: float = 0.0, opening: float = 0.0, turn_degrees: float = 0.0) -> np.ndarray:
    """(470, 3) of the mean face in a crop of SIZE, turned about the vertical, with its mouth changed; in face units."""
    points = np.zeros((NUM_FORM_POINTS, 3))
    points[:LEFT_IRIS] = mean_face()
    points[LEFT_IRIS], points[RIGHT_IRIS] = points[[33, 133]].mean(0), points[[362, 263]].mean(0)
    points[[61, 291], 1] -= smile
    points[[178, 14, 402, 17, 84, 314], 1] += opening
    angle = np.deg2rad(turn_degrees)
    x, z = points[:, 0] - 0.5, points[:, 2].copy()
    points[:, 0], points[:, 2] = 0.5 + np.cos(angle) * x + np.sin(angle) * z, np.cos(angle) * z - np.sin(angle) * x
    return np.column_stack([apply(crop_from_face(FULL, SIZE), points[:, :2]), points[:, 2] * PX_PER_UNIT])


def skin(seed: int = 0, light: float = 1.0, moved: tuple[float, float] = (0.0, 0.0)) -> np.ndarray:
    """(SIZE, SIZE, 3) in 0..1: a face's skin with pores, always the same ones, in some light; moved by pixels."""
    noise = np.random.default_rng(seed).standard_normal((SIZE, SIZE)).astype(np.float32)
    pores = cv2.GaussianBlur(noise, (0, 0), 1.2)
    picture = np.array([0.5, 0.38, 0.3], np.float32) * (1 + 0.25 * pores[..., None] / pores.std())
    shift = np.float32([[1, 0, moved[0]], [0, 1, moved[1]]])
    return np.clip(light * cv2.warpAffine(picture, shift, (SIZE, SIZE), borderMode=cv2.BORDER_REFLECT), 0, 1)


def exemplars(pictures: list[np.ndarray], forms: list[np.ndarray]) -> Exemplars:
    stored = np.stack([np.rint(255 * picture).astype(np.uint8) for picture in pictures])
    return Exemplars(stored, np.stack([each[:, :2] for each in forms]), PX_PER_UNIT)


def soft(picture: np.ndarray) -> np.ndarray:
    return cv2.GaussianBlur(picture, (0, 0), 4)


def likeness(picture: np.ndarray, truth: np.ndarray, where: tuple[slice, slice] = CHIN) -> float:
    return float(np.corrcoef(picture[where].mean(2).ravel(), truth[where].mean(2).ravel())[0, 1])


def test_a_soft_face_gets_the_pores_of_its_exemplar() -> None:
    truth = skin()
    drawn = soft(truth)
    sharp = exemplars([truth], [form()]).detailed(drawn, form())
    assert likeness(sharp, truth) > 0.95 > 0.7 > likeness(drawn, truth)
    assert np.abs(sharp - truth)[CHIN].mean() < 0.3 * np.abs(drawn - truth)[CHIN].mean()


def test_the_light_and_the_complexion_stay_those_that_were_drawn() -> None:
    truth = skin()
    drawn = soft(truth) * np.array([1.0, 0.8, 1.2], np.float32)
    bright, dark = (exemplars([skin(light=light)], [form()]).detailed(drawn, form()) for light in (1.3, 0.5))
    np.testing.assert_allclose(bright[CHIN].mean((0, 1)), drawn[CHIN].mean((0, 1)), rtol=0.03)
    assert np.abs(bright - dark)[CHIN].mean() < 0.02


def test_detail_follows_the_form_that_was_drawn() -> None:
    truth = skin()
    moved = form() + np.array([3.0, 2.0, 0.0])
    sharp = exemplars([truth], [form()]).detailed(soft(truth), moved)
    there = skin(moved=(3, 2))
    assert likeness(sharp, there) > 0.95
    assert likeness(sharp, truth) < 0.5


def test_the_exemplar_that_is_most_alike_in_form_decides_where_none_looks_like_what_was_drawn() -> None:
    shut, smiling = skin(seed=1), skin(seed=2)
    several = exemplars([shut, smiling], [form(), form(smile=0.12)])
    drawn = np.full((SIZE, SIZE, 3), 0.4, np.float32)
    assert likeness(several.detailed(drawn, form()), shut, LIPS) > 0.8
    assert likeness(several.detailed(drawn, form(smile=0.12)), smiling, LIPS) > 0.8


def eye(moved: float = 0.0, height: float = 0.4) -> tuple[np.ndarray, np.ndarray]:
    """A picture (256, 256, 3) of skin with one dark iris, and its form; moved along the eye and high in the eye's widths."""
    points = np.array(form()) * 2
    outer, inner = points[LEFT_EYE[0], :2].copy(), points[LEFT_EYE[8], :2].copy()
    width, middle = float(np.linalg.norm(outer - inner)), (outer + inner) / 2
    for lid, side in ((range(1, 8), 1), (range(9, 16), -1)):
        for number in lid:
            points[LEFT_EYE[number], 1] = middle[1] + side * height * width / 2 * np.sin(np.pi * (number % 8) / 8)
    points[LEFT_IRIS, :2] = middle + np.array([moved * width, 0])
    picture = np.full((256, 256, 3), 0.5, np.float32)
    cv2.circle(
        picture, [round(16 * float(v - 0.5)) for v in points[LEFT_IRIS, :2]], round(16 * 0.18 * width), (0.1,) * 3, -1, shift=4
    )
    return cv2.GaussianBlur(picture, (0, 0), 0.7), points


def where_dark(picture: np.ndarray, points: np.ndarray) -> float:
    """How far along the eye its darkest part lies, in the eye's widths from its middle."""
    outer, inner = points[LEFT_EYE[0], :2], points[LEFT_EYE[8], :2]
    (left, top), width = np.minimum(outer, inner) - 2, float(np.linalg.norm(outer - inner))
    strip = picture[int(top) - 2 : int(top) + 6, int(left) : int(left + width) + 4].mean((0, 2))
    dark = np.clip(strip.max() - strip - 0.5 * np.ptp(strip), 0, None)
    return (int(left) + (dark * (np.arange(len(strip)) + 0.5)).sum() / dark.sum() - (outer[0] + inner[0]) / 2) / width


def test_an_eye_that_looks_elsewhere_than_its_exemplar_is_turned() -> None:
    straight, looking = eye(), eye(moved=0.15)
    own = Exemplars(np.rint(255 * straight[0]).astype(np.uint8)[None], straight[1][None, :, :2], 256 / FULL.side)
    turned = own.detailed(soft(looking[0]), looking[1])
    assert where_dark(looking[0], looking[1]) == pytest.approx(0.15, abs=0.02)
    assert where_dark(turned, looking[1]) == pytest.approx(0.15, abs=0.03)
    assert where_dark(own.detailed(soft(straight[0]), straight[1]), straight[1]) == pytest.approx(0, abs=0.02)


def test_a_shut_eye_is_not_turned() -> None:
    shut, looking = eye(height=0.05), eye(moved=0.15, height=0.05)
    own = Exemplars(np.rint(255 * shut[0]).astype(np.uint8)[None], shut[1][None, :, :2], 256 / FULL.side)
    flat = np.full((256, 256, 3), 0.4, np.float32)
    assert where_dark(own.detailed(flat, looking[1]), shut[1]) == pytest.approx(0, abs=0.02)


def test_a_mouth_that_no_exemplar_shows_open_stays_as_it_was_drawn() -> None:
    drawn = soft(skin(seed=3))
    wide = form(opening=0.5)
    opened = exemplars([skin()], [form()]).detailed(drawn, wide)
    inside = np.rint(wide[list(INNER_LIPS), :2].mean(0)).astype(int)
    here = (slice(inside[1] - 3, inside[1] + 4), slice(inside[0] - 3, inside[0] + 4))
    eye = np.rint(wide[list(LEFT_EYE), :2].mean(0)).astype(int)
    eyes = (slice(eye[1] - 3, eye[1] + 4), slice(eye[0] - 3, eye[0] + 4))
    assert np.abs(opened - drawn)[here].mean() < 0.15 * np.abs(opened - drawn)[eyes].mean()


def test_nothing_jumps_where_one_exemplar_takes_over_from_another() -> None:
    several = exemplars([skin(seed=1), skin(seed=2)], [form(), form(smile=0.1)])
    drawn = soft(skin())
    steps = [several.detailed(drawn, form(smile=smile)) for smile in np.linspace(0.0, 0.1, 41)]
    whole = np.abs(steps[-1] - steps[0])[LIPS].mean()
    assert max(np.abs(one - other)[LIPS].mean() for one, other in itertools.pairwise(steps)) < 0.25 * whole


def test_the_rim_of_the_face_and_all_beyond_it_stay_as_they_were_drawn() -> None:
    drawn = soft(skin())
    sharp = exemplars([skin()], [form()]).detailed(drawn, form())
    changed = np.abs(sharp - drawn).max(2) > 0.01
    assert changed.any()
    low, high = form()[:LEFT_IRIS, :2].min(0), form()[:LEFT_IRIS, :2].max(0)
    rows, columns = np.nonzero(changed)
    assert columns.min() > low[0] + 1
    assert columns.max() < high[0] - 1
    assert rows.max() < high[1] - 1


def test_a_turned_head_takes_no_detail_for_the_side_that_is_hidden() -> None:
    turned = form(turn_degrees=60.0)
    sharp = exemplars([skin()], [turned]).detailed(soft(skin()), turned)
    assert np.isfinite(sharp).all()
    seen = np.rint(turned[50, :2]).astype(int)  # the middle of the cheek at image left
    cheek = (slice(seen[1] - 5, seen[1] + 6), slice(seen[0] - 5, seen[0] + 6))
    assert likeness(sharp, skin(), cheek) > 0.9


def test_a_face_that_fills_a_large_crop_is_no_larger_than_can_be_looked_up() -> None:
    large = cv2.resize(skin(), (640, 640), interpolation=cv2.INTER_CUBIC)
    form_there = form() * (640 / SIZE)
    stored = Exemplars(np.rint(255 * np.clip(large, 0, 1)).astype(np.uint8)[None], form_there[None, :, :2], 5 * PX_PER_UNIT)
    sharp = stored.detailed(cv2.GaussianBlur(large, (0, 0), 20), form_there)
    assert likeness(sharp, large, (slice(460, 520), slice(290, 350))) > 0.95


def test_what_enlarging_made_darker_than_black_comes_out_black() -> None:
    drawn = soft(skin())
    drawn[60:70, 50:80] = -0.1
    sharp = exemplars([skin()], [form()]).detailed(drawn, form())
    assert np.isfinite(sharp).all()
    assert sharp.min() >= 0


@pytest.mark.parametrize("strength", [0.0, 1.0])
def test_what_has_no_form_is_left_alone(strength: float) -> None:
    drawn = soft(skin())
    nowhere = np.full((NUM_FORM_POINTS, 3), np.nan) if strength else form()
    np.testing.assert_array_equal(exemplars([skin()], [form()]).detailed(drawn, nowhere, strength), drawn)
    outside = form() + 10 * SIZE
    np.testing.assert_array_equal(exemplars([skin()], [form()]).detailed(drawn, outside), drawn)


def test_half_the_strength_gives_half_the_detail() -> None:
    drawn, few = soft(skin()), exemplars([skin()], [form()])
    none, half, whole = (few.detailed(drawn, form(), strength)[CHIN] for strength in (0.0, 0.5, 1.0))
    assert np.abs(half - none).mean() == pytest.approx(0.5 * np.abs(whole - none).mean(), rel=0.1)


# ---- which faces ----------------------------------------------------------------------------------------------------------


def test_few_exemplars_stand_for_all() -> None:
    forms = np.random.default_rng(0).normal(size=(200, 5, 2))
    chosen = choose_exemplars(forms, 20)
    assert len(set(chosen)) == 20
    assert (np.diff(chosen) > 0).all()
    gaps = np.linalg.norm((forms[:, None] - forms[chosen]).reshape(200, 20, -1), axis=2).min(1)
    others = np.linalg.norm((forms[:, None] - forms[:20]).reshape(200, 20, -1), axis=2).min(1)
    assert gaps.max() < others.max()
    assert list(choose_exemplars(forms[:3], 20)) == [0, 1, 2]


def test_a_form_is_steadied_but_a_blink_is_not() -> None:
    random = np.random.default_rng(0)
    still = [form() + 0.3 * random.standard_normal((NUM_FORM_POINTS, 1)) for _ in range(7)]
    steady = steady_form(still, 3, 1.0, like_px=1.0)
    assert np.abs(steady - form()).mean() < 0.75 * np.abs(still[3] - form()).mean()
    blink = [form()] * 7
    shut = form().copy()
    shut[159, 1] += 6
    blink[3] = shut
    assert steady_form(blink, 3, 1.0, like_px=1.0)[159, 1] == pytest.approx(shut[159, 1], abs=0.01)
    lost = [np.full_like(shut, np.nan), form(), form()]
    np.testing.assert_allclose(steady_form(lost, 1, 1.0, like_px=1.0), form())


def test_a_form_that_was_not_read_is_where_the_frames_around_it_say() -> None:
    lost = np.full((NUM_FORM_POINTS, 3), np.nan)
    np.testing.assert_allclose(steady_form([form(), lost, form() + 2], 1, 1.0, like_px=1.0), form() + 1)
    assert np.isnan(steady_form([lost, lost], 1, 1.0, like_px=1.0)).all()


@pytest.mark.parametrize("num", [13, 61])  # more than have a say, and more than are looked at
def test_detail_does_not_jump_when_an_exemplar_takes_anothers_place_among_the_nearest(num: int) -> None:
    smiles = 0.003 * (np.arange(num) - num // 2)
    many = exemplars([skin(seed) for seed in range(num)], [form(smile) for smile in smiles])
    drawn = soft(skin(seed=99))
    before, after, farther = (many.detailed(drawn, form(smile)) for smile in (-1e-7, 1e-7, 2e-3))
    assert np.abs(after - before)[LIPS].max() < 1e-3 < np.abs(farther - after)[LIPS].max()


MOUTH = 2
"""The row of a choice."""


def test_which_exemplars_have_a_say_fades_from_frame_to_frame() -> None:
    two = exemplars([skin(seed) for seed in range(2)], [form(), form(smile=0.02)])
    forms = [form(smile) for smile in (0.0, 0.0, 0.02, 0.02)]
    choices = [two.choose(soft(skin(seed=9)), each) for each in forms]
    say = [each[MOUTH, 1] for each in choices]
    faded = [two.faded(choices, forms, place, 1.0)[MOUTH, 1] for place in range(4)]
    assert faded == sorted(faded)
    assert max(np.diff(faded)) < 0.7 * max(np.diff(say))
    np.testing.assert_allclose(two.faded(choices, forms, 1, 1.0).sum(axis=1), 1)
    assert two.faded(choices, forms, 1, 0.0) is choices[1]
    farther = two.faded([choices[3], *[choices[0]] * 5], [forms[3], *[forms[0]] * 5], 3, 1.0)
    np.testing.assert_allclose(farther, choices[0], atol=1e-12)  # no farther than forms are steadied


def test_what_is_chosen_for_another_expression_or_for_no_face_does_not_fade_in() -> None:
    two = exemplars([skin(seed) for seed in range(2)], [form(), form(opening=0.2)])
    lost = np.full((NUM_FORM_POINTS, 3), np.nan)
    shut, opened = (two.choose(soft(skin(seed=9)), form(opening=opening)) for opening in (0.0, 0.2))
    nowhere = two.choose(skin(), lost)
    assert nowhere is None
    faded = two.faded([shut, opened, None, opened], [form(), form(opening=0.2), lost, form(opening=0.2)], 1, 1.0)
    assert faded[MOUTH, 1] == pytest.approx(opened[MOUTH, 1], abs=0.01)
    np.testing.assert_allclose(two.faded([shut, nowhere], [form(), lost], 1, 1.0), shut)
    assert two.faded([nowhere, nowhere], [lost, lost], 1, 1.0) is None


def test_the_detail_is_of_those_that_are_told_to_have_a_say() -> None:
    pictures = [skin(seed) for seed in range(2)]
    two, drawn = exemplars(pictures, [form(), form()]), soft(skin(seed=9))
    for number, picture in enumerate(pictures):
        sharp = two.detailed(drawn, form(), choice=np.tile(np.eye(2)[number], (4, 1)))
        assert likeness(sharp, picture) > 0.8 > 0.4 > likeness(sharp, pictures[1 - number])


def test_of_mouths_alike_in_form_the_one_that_looks_like_what_was_drawn_decides() -> None:
    with_teeth, without = skin(seed=1), skin(seed=1)
    row, column = np.rint(form()[list(INNER_LIPS), :2].mean(0)[::-1]).astype(int)
    inside = (slice(row - 2, row + 3), slice(column - 8, column + 8))
    with_teeth[inside], without[inside] = 0.8, 0.1
    both = exemplars([with_teeth, without], [form(), form(smile=0.001)])
    for truth in (with_teeth, without):
        drawn = cv2.GaussianBlur(truth, (0, 0), 2)
        assert np.abs(both.detailed(drawn, form()) - truth)[inside].mean() < 0.4 * np.abs(drawn - truth)[inside].mean()


def test_exemplars_that_are_all_equally_alike_all_have_a_say() -> None:
    truth = skin()
    same = exemplars([truth] * 12, [form()] * 12).detailed(soft(truth), form())
    assert likeness(same, truth) > 0.95


def test_where_form_and_looks_disagree_one_of_them_decides_and_not_the_mean_of_all() -> None:
    pictures = [skin(seed) for seed in range(12)]
    several = exemplars(pictures, [form(0.2 * number) for number in range(12)])
    sharp = several.detailed(cv2.GaussianBlur(pictures[5], (0, 0), 1), form())
    assert max(likeness(sharp, picture, LIPS) for picture in pictures) > 0.9
