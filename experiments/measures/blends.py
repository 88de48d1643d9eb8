"""Blending where the right answer is known: the performer's own face, spoiled as a drawn one is, goes back to its place."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import cv2
import numpy as np

from experiments.workshop import Workshop, shown_rows, tile
from understudy.imaging import blend, metrics
from understudy.imaging.blend import clone_centre
from understudy.imaging.colour import apply_colour, match_mkl, measure_colour
from understudy.imaging.framing import FULL, crop_from_face
from understudy.imaging.masks import Mask, erode, feather
from understudy.imaging.metrics_colour import seam_step
from understudy.imaging.metrics_series import Series
from understudy.imaging.similarity import compose, similarity_from_parameters
from understudy.imaging.warp import warp_image
from understudy.stages import _evaluation_pixels as pixels
from understudy.types import FloatArray, Image

SIZE = pixels.SIZE
NUM_MASKS = 200
FEATHER_PX = 12.0
MATTE_JITTER = 0.004
"""How far a drawn face's matte trembles from frame to frame, in face units: 0.5 px of the face-space crop."""


def blended(settings: Mapping[str, object], seed: int, shop: Workshop) -> tuple[dict[str, Series], Image]:
    """One method on every scored frame of the performer's own clip. The seed decides spoiling and trembling."""
    random, rows, tiles, before = np.random.default_rng(seed), [], [], None
    shown = set(_shown(shop))
    for n, drawn in enumerate(shop.pair.frames):
        assert drawn.frames.truth is not None
        assert drawn.frames.truth_mask is not None
        wrong = similarity_from_parameters(*random.normal(0, MATTE_JITTER, 4))
        plate = pixels.face_crop(drawn.frames.truth, drawn.truth_from_frame).astype(np.float32)
        whole = pixels.mask_crop(drawn.frames.truth_mask, drawn.truth_from_frame)
        in_crop = compose(crop_from_face(FULL, SIZE[0]), compose(wrong, drawn.truth_from_frame))
        matte = np.clip(warp_image(drawn.frames.truth_mask, in_crop, SIZE, border="black"), 0, 1)
        face = spoiled(plate, random)
        result = METHODS[str(settings["method"])](plate, face, matte)
        error = result - plate
        area = _square() if settings["method"] == "direct" else (matte > 0.5).astype(np.float32)
        figures = {
            "known_psnr_db": metrics.psnr_db(result, plate, area * whole),
            "seam_step": seam_step(result, plate, area),
        }
        if before is not None:
            broad = cv2.GaussianBlur(error - before, (0, 0), 4)
            figures["known_flicker"] = 255 * metrics.mean_in(np.abs(broad), area * whole)
        rows.append(figures)
        before = error
        if n in shown:
            tiles.append(_tile(result))
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: Series(np.array([row.get(name, np.nan) for row in rows])) for name in names}, np.hstack(tiles)


def spoiled(face: FloatArray, random: np.random.Generator) -> FloatArray:
    """A face as a network draws it: another cast, light from a wrong side, softer, grainier, flickering."""
    light = np.linspace(-0.12, 0.12, SIZE[0], dtype=np.float32)[None, :, None]
    cast = np.array([1.10, 0.97, 0.88], np.float32)
    soft = cv2.GaussianBlur(face, (0, 0), 1) * cast * (1 + light) + np.float32(0.02)
    noisy = soft * (1 + 0.01 * random.normal()) + 2 / 255 * random.normal(size=soft.shape)
    return np.clip(noisy, 0, 1).astype(np.float32)


Method = Callable[[FloatArray, FloatArray, Mask], FloatArray]


def _direct(plate: FloatArray, face: FloatArray, matte: Mask) -> FloatArray:
    """The whole square that the 2017 network draws."""
    return blend.composite(plate, face, _square())


def _square() -> Mask:
    square = np.zeros(SIZE[::-1], np.float32)
    inner = slice(SIZE[0] // 4, -(SIZE[0] // 4))
    square[inner, inner] = 1
    return square


def _feathered(plate: FloatArray, face: FloatArray, matte: Mask) -> FloatArray:
    return blend.feather(plate, face, _soft(matte), SIZE[0])


def _poisson(plate: FloatArray, face: FloatArray, matte: Mask) -> FloatArray:
    return blend.poisson(plate, face, _soft(matte), SIZE[0])


def _poisson_off_centre(plate: FloatArray, face: FloatArray, matte: Mask) -> FloatArray:
    """With the middle of the mask's box, rounded down, as many programs do."""
    inside = np.pad((_soft(matte) > 1 / 255).astype(np.uint8) * 255, 2)
    source, target = (
        np.pad(np.rint(255 * each).astype(np.uint8), ((2, 2), (2, 2), (0, 0)), mode="edge") for each in (face, plate)
    )
    cloned = cv2.seamlessClone(source, target, inside, middle_of_box(inside), cv2.NORMAL_CLONE)[2:-2, 2:-2]
    return blend.composite(plate, cloned.astype(np.float32) / np.float32(255), _soft(matte))


def _matched(plate: FloatArray, face: FloatArray, matte: Mask) -> FloatArray:
    inner = erode(matte, 6)
    change = match_mkl(measure_colour(face, inner), measure_colour(plate, inner))
    return np.clip(apply_colour(face, change), 0, 1)


def _ours(plate: FloatArray, face: FloatArray, matte: Mask) -> FloatArray:
    """Colours matched, then bands: the converter's default, without what it steadies over time."""
    return blend.multiband(plate, _matched(plate, face, matte), _soft(matte), SIZE[0])


def _hard(plate: FloatArray, face: FloatArray, matte: Mask) -> FloatArray:
    return blend.hard(plate, face, matte, SIZE[0])


def _soft(matte: Mask) -> Mask:
    return feather(matte, FEATHER_PX)


METHODS: Mapping[str, Method] = {
    "direct": _direct, "hard": _hard, "feather": _feathered, "poisson": _poisson, "poisson-off-centre": _poisson_off_centre,
    "multiband": _ours,
}  # fmt: skip


# ---- does a clone stay where it was? ----------------------------------------------------------------------------------------


def clone_shift(settings: Mapping[str, object], seed: int, shop: Workshop) -> tuple[dict[str, Series], Image]:
    """Clones a picture into itself under random masks: the share of masks whose clone is not where it came from."""
    random, centre = np.random.default_rng(seed), CENTRES[str(settings["centre"])]
    picture = np.asarray(cv2.GaussianBlur(random.integers(0, 256, (96, 96, 3), np.uint8), (0, 0), 2.0))
    moved = []
    for _ in range(NUM_MASKS):
        mask = _ellipse(random.uniform(36, 60, 2), random.uniform(12, 28, 2), random.uniform(0, 180))
        cloned = cv2.seamlessClone(picture, picture, mask, centre(mask), cv2.NORMAL_CLONE)
        moved.append(float(np.abs(cloned.astype(int) - picture).max() > 3))
    return {"clones_moved": Series(np.array(moved))}, _clone_picture(picture, centre)


def middle_of_box(mask: Image) -> tuple[int, int]:
    """(least + greatest) // 2 in x and y: the obvious centre, and the wrong one."""
    rows, columns = np.nonzero(mask)
    return int(columns.min() + columns.max()) // 2, int(rows.min() + rows.max()) // 2


CENTRES: Mapping[str, Callable[[Image], tuple[int, int]]] = {"middle": middle_of_box, "exact": clone_centre}


def _clone_picture(picture: Image, centre: Callable[[Image], tuple[int, int]]) -> Image:
    """What differs after cloning under six ellipses, ten times enlarged: black, where nothing has moved."""
    tiles = []
    for k in range(6):
        mask = _ellipse(np.array([46 + 0.3 * k, 47.0]), np.array([24 + 0.3 * k, 30.0]), 10.0 * k)
        cloned = cv2.seamlessClone(picture, picture, mask, centre(mask), cv2.NORMAL_CLONE)
        difference = np.clip(10 * np.abs(cloned.astype(int) - picture), 0, 255).astype(np.uint8)
        tiles.append(cv2.resize(difference, (112, 112), interpolation=cv2.INTER_AREA))
    return np.hstack(tiles)


def _ellipse(middle: FloatArray, axes: FloatArray, degrees: float) -> Image:
    """A mask of 96 px; the ellipse may lie anywhere between the pixels."""
    mask, sixteenth = np.zeros((96, 96), np.uint8), 4
    whole = [tuple(np.round(each * 2**sixteenth).astype(int).tolist()) for each in (middle, axes)]
    cv2.ellipse(mask, whole[0], whole[1], float(degrees), 0, 360, 255, -1, cv2.LINE_8, sixteenth)
    return mask


def _shown(shop: Workshop) -> list[int]:
    return shown_rows(shop.pair)


def _tile(picture: FloatArray) -> Image:
    return tile(picture)
