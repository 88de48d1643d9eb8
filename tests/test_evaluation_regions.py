"""λ by region: what leaks in one part of the face is charged to that part and to no other."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from understudy.imaging.framing import FULL, crop_from_face
from understudy.imaging.masks import Mask
from understudy.imaging.meanface import mean_face_ibug
from understudy.imaging.similarity import apply
from understudy.stages import _evaluation_pixels as pixels
from understudy.types import FloatArray

REGIONS = ("brows", "eyes", "nose", "mouth", "jaw", "rest")
POINTS = apply(crop_from_face(FULL, pixels.SIZE[0]), mean_face_ibug())
JAW_LINE, CHIN, LOWER_LIP = slice(0, 17), 8, 57


def texture(seed: int) -> FloatArray:
    noise = np.random.default_rng(seed).normal(size=(*pixels.SIZE, 3))
    return np.clip(0.5 + 0.3 * cv2.GaussianBlur(noise, (0, 0), 2.0), 0, 1).astype(np.float32)


def face_area(points: FloatArray = POINTS) -> Mask:
    """A smooth-edged mask that reaches somewhat beyond the landmarks, as a visible face does above the brows."""
    canvas = np.zeros(pixels.SIZE, np.float32)
    cv2.fillConvexPoly(canvas, cv2.convexHull(np.round(points).astype(np.int32)), 1.0)
    return np.asarray(cv2.GaussianBlur(cv2.dilate(canvas, np.ones((15, 15))), (0, 0), 1.0))


MASK, PLATE, TRUTH = face_area(), texture(1), texture(2)


def leaks_of(picture: FloatArray) -> dict[str, float]:
    moment = pixels.Moment({"swap": picture, "plate": PLATE}, TRUTH, MASK, pixels.feature_regions(MASK, POINTS))
    figures = pixels.fidelity(moment, "swap")
    return {region: figures[f"leak_{region}"] for region in REGIONS}


def test_the_regions_divide_the_mask() -> None:
    regions = pixels.feature_regions(MASK, POINTS)
    assert tuple(regions) == REGIONS
    assert np.sum(list(regions.values()), axis=0) == pytest.approx(MASK, abs=1e-6)
    assert min(area.sum() for area in regions.values()) > 200


@pytest.mark.parametrize("leaking", REGIONS)
def test_a_leak_in_one_region_is_charged_to_it_alone(leaking: str) -> None:
    claimed = (pixels.feature_regions(MASK, POINTS)[leaking] > MASK / 2)[..., None]  # edges are soft: each pixel to its owner
    found = leaks_of(np.where(claimed, TRUTH + 0.6 * (PLATE - TRUTH), TRUTH))
    assert found == pytest.approx({region: 0.6 * (region == leaking) for region in REGIONS}, abs=0.03)


@pytest.mark.parametrize("roll_degrees", [-40.0, 0.0, 40.0])
def test_the_jaw_lies_below_the_mouth_however_the_head_rolls(roll_degrees: float) -> None:
    matrix = cv2.getRotationMatrix2D(tuple(POINTS.mean(axis=0)), roll_degrees, 0.7)
    points = apply(matrix, POINTS)
    jaw = pixels.feature_regions(face_area(points), points)["jaw"]
    chin = points[LOWER_LIP] + 0.8 * (points[CHIN] - points[LOWER_LIP])
    cheek = (points[1] + points[31]) / 2
    assert jaw[*np.round(chin).astype(int)[::-1]] == pytest.approx(1, abs=0.01)
    assert jaw[*np.round(cheek).astype(int)[::-1]] == 0
