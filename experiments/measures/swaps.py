"""Trained networks looked at otherwise: on plates of other persons, and with a stage's own errors in the place of the truth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from benchmarks.truth.footage import Footage
from benchmarks.truth.network import in_face_space
from experiments.claims.arms import REFERENCE
from experiments.scoring import Pair, answers, score, truth_of
from experiments.training import train
from experiments.workshop import Workshop, shown_rows, tile
from understudy.imaging import metrics
from understudy.imaging.framing import framing
from understudy.imaging.metrics_series import Series
from understudy.imaging.similarity import Matrix, compose, invert
from understudy.imaging.warp import warp_image
from understudy.media import read_frames
from understudy.perception.follow import link_and_smooth
from understudy.perception.survey import load_networks, survey
from understudy.stages import _evaluation_pixels as pixels
from understudy.types import BadInput, FloatArray, Image


def on_morph(settings: Mapping[str, object], seed: int, shop: Workshop) -> tuple[dict[str, Series], Image]:
    """The reference network, with that seed, on a plate whose person is so many percent of the way to the performer put in."""
    if shop.morphs is None:
        raise BadInput(
            "this claim needs plates between the two performers: render them (benchmarks.graded.render) and give --morphs"
        )
    plate = shop.morphs / f"test_A_to_B_{settings['percent']}.mp4"
    footage: Footage = replace(shop.footage, test={**shop.footage.test, shop.footage.replace: plate})
    assert REFERENCE.training is not None
    trained = train(REFERENCE.training, shop.scale, seed, shop.footage, shop.work, shop.report)
    pair = Pair(footage)
    series, made = score(trained, pair)
    region = framing(trained.recipe.framing)
    tiles = []
    for n in np.linspace(0, len(pair.frames) - 1, 6).round().astype(int):
        swap, inside = in_face_space(made.swap[n], region)
        plate_picture = pixels.face_crop(pair.frames[n].frames.plate, pair.frames[n].plate_from_frame)
        tiles.append(_tile(inside[..., None] * swap + (1 - inside[..., None]) * plate_picture))
    kept = ("psnr_db", "plate_psnr_db", "gain_db", "leak", "detail", "contrast", "identity_score")
    return {name: series[name] for name in kept}, np.hstack(tiles)


def stage_bill(settings: Mapping[str, object], seed: int, shop: Workshop) -> tuple[dict[str, Series], Image]:
    """What one stage's errors cost where all others are the truth: the alignment's, or the network's (with that seed).

    The alignment's: the performer's true face, put where extraction finds the plate's. The network's: its own, put right.
    """
    stage, rows, tiles = str(settings["stage"]), [], []
    places = _extracted_places(shop) if stage == "alignment" else {}
    if stage == "network":
        assert REFERENCE.training is not None
        trained = train(REFERENCE.training, shop.scale, seed, shop.footage, shop.work, shop.report)
        made, region = answers(trained, shop.pair), framing(trained.recipe.framing)
    for n, drawn in enumerate(shop.pair.frames):
        truth = truth_of(drawn)
        inside: FloatArray = np.ones(pixels.SIZE, np.float32)
        if stage == "network":
            picture, inside = in_face_space(made.swap[n], region)
        elif drawn.frames.index in places:
            picture = _misplaced(truth, places[drawn.frames.index], drawn.plate_from_frame)
        else:
            rows.append(np.nan)
            continue
        assert drawn.frames.truth_mask is not None
        mask = pixels.mask_crop(drawn.frames.truth_mask, drawn.truth_from_frame) * inside * _core()
        rows.append(metrics.psnr_db(picture, truth, mask) if mask.sum() > metrics.LEAST_MASK_PX else np.nan)
        if n in _shown(shop):
            tiles.append(_tile(inside[..., None] * picture + (1 - inside[..., None]) * truth))
    return {"bill_psnr_db": Series(np.array(rows))}, np.hstack(tiles)


def _extracted_places(shop: Workshop) -> dict[int, Matrix]:
    """The alignment of each frame of the plate as the extraction finds and steadies it."""
    plate = shop.footage.plate
    faces = link_and_smooth(list(survey(read_frames(plate), plate.name, load_networks())))
    return {face.frame: np.asarray(face.face_from_frame, np.float64) for face in faces}


def _misplaced(truth: FloatArray, found: Matrix, true: Matrix) -> FloatArray:
    """The true face as it lies once it has been put where `found` says it is, seen from where it is."""
    to_crop = pixels.crop_from_frame(true)
    wrong = compose(to_crop, invert(pixels.crop_from_frame(found)))
    return np.clip(warp_image(truth.astype(np.float32), wrong, pixels.SIZE), 0, 1)


def _core() -> FloatArray:
    mask = np.zeros(pixels.SIZE[::-1], np.float32)
    quarter = pixels.SIZE[0] // 4
    mask[quarter:-quarter, quarter:-quarter] = 1
    return mask


def _shown(shop: Workshop) -> list[int]:
    return shown_rows(shop.pair)


def _tile(picture: FloatArray) -> Image:
    return tile(picture)
