"""Scores a trained network in face space, frame by frame, before any compositing: cheap, and right for claims about networks.

Every second frame of the test pair, by true landmarks throughout, as in `benchmarks.truth.network`; there stands what each
figure means, and in docs/conventions.md. Besides: what the network makes of a crop that is shifted, turned or zoomed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import cast

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.truth.footage import Footage
from benchmarks.truth.network import Drawn, crop_of, in_face_space, true_frames
from experiments.training import Trained
from understudy.imaging import metrics, metrics_colour
from understudy.imaging.colour import luma
from understudy.imaging.framing import FULL, crop_from_face, framing
from understudy.imaging.metrics_geometry import EXPRESSIONS, expression_measures, frontal, identity_scores
from understudy.imaging.metrics_series import Series
from understudy.imaging.similarity import Matrix, apply, compose, invert, similarity_from_parameters
from understudy.imaging.warp import warp_image
from understudy.perception.embed import Embedder, dlib_embedder
from understudy.perception.landmarks import UPRIGHT, MeshLandmarker, mesh_landmarker
from understudy.stages import _evaluation_pixels as pixels
from understudy.store.json_files import read_json
from understudy.types import Box, Detection, FloatArray, Framing, Image

STRIDE = 2
"""Every second frame is scored."""

FRONTAL_DEGREES = 40.0
"""Expression is measured up to this yaw: further round, the mesh network guesses half of it."""

TURNED_DEGREES = 25.0
"""Beyond this yaw a head counts as turned."""

NUDGES: Mapping[str, tuple[float, float, float, float]] = {
    "scale": (0.02, 0.0, 0.0, 0.0),
    "turn": (0.0, np.deg2rad(2.0), 0.0, 0.0),
    "shift": (0.0, 0.0, 0.02, 0.0),
}
"""By how much the alignment is put wrong, both ways: log scale, angle, x and y in face units, about the face's middle."""


@dataclass(frozen=True)
class Answers:
    """What a network draws of every scored frame, in its own crop: (T, R, R, 3) in 0..1, and its mask (T, R, R) or None."""

    swap: NDArray[np.float32]
    swap_mask: NDArray[np.float32] | None
    own: NDArray[np.float32]


MOTION_PX = 64
SHRINK = metrics.FACE_SPACE_PX // MOTION_PX
MOVING: Mapping[str, range] = {"mouth": range(48, 68), "eyes": range(36, 48)}
"""iBUG points round which the motion of pixels is looked at."""


@dataclass(frozen=True)
class Motion:
    """The truth's strongest way of changing in a window of the face, and how far each frame goes along it.

    Where networks are too coarse for landmarks, this still says whether a mouth opens and an eye shuts.
    """

    window: tuple[NDArray[np.intp], ...]
    direction: FloatArray
    amounts: FloatArray

    @classmethod
    def of(cls, planes: FloatArray, is_counted: NDArray[np.bool_], window: tuple[NDArray[np.intp], ...]) -> Motion:
        """planes: (T, h, w) luminance of the truth without its mean; only frames that are counted are looked at."""
        flat = planes.reshape(len(planes), -1)
        centred = flat - flat[is_counted].mean(axis=0)
        direction = np.linalg.svd(centred[is_counted], full_matrices=False)[2][0]
        amounts = np.where(is_counted, centred @ direction, np.nan)
        return cls(window, direction, amounts)

    def series(self, planes: FloatArray) -> Series:
        """How much of it pictures (T, 64, 64) show: the slope of their amounts on the truth's."""
        own = planes[:, self.window[0], self.window[1]].reshape(len(planes), -1) @ self.direction
        return Series(np.stack([np.where(np.isfinite(self.amounts), own, np.nan), self.amounts], axis=1), "gain")


def _small(picture: FloatArray) -> FloatArray:
    """Face-space luminance at 64 px, without what is broader than a feature (light)."""
    plane = luma(picture).astype(np.float32)
    return np.asarray(
        cv2.resize(plane - cv2.GaussianBlur(plane, (0, 0), 24), (MOTION_PX, MOTION_PX), interpolation=cv2.INTER_AREA)
    )


class Pair:
    """The scored frames of plate and truth, and what of them is worked out once for all networks.

    frames: those in which both faces are known; yaw: (T,) degrees that the head is turned, without sign.
    """

    def __init__(self, footage: Footage) -> None:
        told = cast(list[dict[str, list[float]]], read_json(footage.truth.with_suffix(".json"))["frames"])
        known = [each for n, each in enumerate(true_frames(footage)) if each is not None and n % STRIDE == 0]
        self.frames = tuple(known)
        self.yaw = np.array([abs(told[each.frames.index]["head_yaw_pitch_roll"][0]) for each in known])

    @cached_property
    def landmarker(self) -> MeshLandmarker:
        return mesh_landmarker(UPRIGHT)

    @cached_property
    def embedder(self) -> Embedder:
        return dlib_embedder()

    @cached_property
    def true_measures(self) -> FloatArray:
        """(T, 4): the truth's own expression, NaN where the head is turned far."""
        pictures = [np.rint(255 * truth_of(each)).astype(np.uint8) for each in self.frames]
        measures = expression_measures(frontal(self.meshes(pictures, range(len(self.frames))))[0])
        measures[self.yaw > FRONTAL_DEGREES] = np.nan
        return np.asarray(measures)

    @cached_property
    def motions(self) -> Mapping[str, Motion]:
        """How the truth's mouth and eyes look when they move most."""
        planes = np.stack([_small(truth_of(each)) for each in self.frames])
        frontal_ones = self.yaw <= FRONTAL_DEGREES
        found = {}
        for name, points in MOVING.items():
            centre = np.mean([self._points(int(n))[list(points)].mean(axis=0) for n in np.flatnonzero(frontal_ones)], axis=0)
            rows, columns = (
                np.abs(np.arange(MOTION_PX) + 0.5 - each / SHRINK) < reach
                for each, reach in zip(centre[::-1], (7, 10), strict=True)
            )
            window = np.ix_(rows, columns)
            found[name] = Motion.of(planes[:, window[0], window[1]], frontal_ones, window)
        return found

    def _points(self, n: int) -> FloatArray:
        """The true landmarks of a scored frame in its face-space crop."""
        return apply(pixels.crop_from_frame(self.frames[n].truth_from_frame), self.frames[n].true_points)

    def meshes(self, pictures: Sequence[Image], chosen: Sequence[int]) -> FloatArray:
        """(N, 468, 3) meshes of face-space crops of the `chosen` frames, looked for where the true landmarks are."""
        found = []
        for picture, n in zip(pictures, chosen, strict=True):
            points = self._points(n)
            (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
            keypoints = np.tile(points.mean(axis=0), (6, 1))
            keypoints[0], keypoints[1] = points[36:42].mean(axis=0), points[42:48].mean(axis=0)
            detection = Detection(Box(float(left), float(top), float(right), float(bottom)), 1.0, keypoints)
            mesh = self.landmarker.mesh(picture, detection)
            found.append(mesh.points if mesh.presence > 0.5 else np.full((468, 3), np.nan))
        return np.array(found)


def answers(trained: Trained, pair: Pair) -> Answers:
    """The plate's face drawn as the other performer, and that performer's own face drawn again."""
    plates, truths = (np.stack(crops) for crops in zip(*(_crops(trained, drawn) for drawn in pair.frames), strict=True))
    swap, mask = draw(trained, plates, trained.source)
    own, _ = draw(trained, truths, trained.target)
    return Answers(swap, mask, own)


def draw(
    trained: Trained, crops: NDArray[np.uint8], from_performer: str
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """Crops (N, R, R, 3) of somebody, as the performer who is put in; and the mask where the network has one."""
    network, trainer = trained.network, trained.trainer
    device = next(network.parameters()).device
    with torch.inference_mode():
        faces = torch.from_numpy(crops).to(device).permute(0, 3, 1, 2).float() / 255
        standard = trainer.standards.get(from_performer, trainer.standards[trained.target])
        drawn = network(standard.apply(faces), trained.target).float().cpu()
    mask = drawn[:, 3].numpy() if drawn.shape[1] == 4 else None
    return np.ascontiguousarray(drawn[:, :3].clamp(0, 1).permute(0, 2, 3, 1).numpy()), mask


def score(trained: Trained, pair: Pair) -> tuple[dict[str, Series], Answers]:
    """Every figure's rows, by name, and the pictures."""
    made = answers(trained, pair)
    region, rows = framing(trained.recipe.framing), []
    before: FloatArray | None = None
    for n, drawn in enumerate(pair.frames):
        figures, before = _frame_figures(drawn, made, n, region, before)
        rows.append(figures)
    names = dict.fromkeys(name for row in rows for name in row)
    series = {name: Series(np.array([row.get(name, np.nan) for row in rows])) for name in names}
    for name, motion in pair.motions.items():
        for whose, pictures in (("swap", made.swap), ("own", made.own)):
            planes = np.stack([_small(in_face_space(each, region)[0]) for each in pictures])
            series[f"{whose}_{name}_motion"] = motion.series(planes)
    series |= _expression(pair, made, region) | _identity(trained, pair, made, region) | _gains(trained, pair, made)
    restored = _restored(trained, len(pair.frames))
    series |= {"restored_db": Series(restored), "overfit_db": Series(restored - np.nanmean(series["own_psnr_db"].rows))}
    return series, made


# ---- pictures -------------------------------------------------------------------------------------------------------------


def _crops(trained: Trained, drawn: Drawn) -> tuple[Image, Image]:
    """What the network is shown: the plate's face and the truth's."""
    region, size_px = framing(trained.recipe.framing), trained.recipe.resolution_px
    assert drawn.frames.truth is not None
    plate = crop_of(drawn.frames.plate, drawn.plate_from_frame, region, size_px)
    return plate, crop_of(drawn.frames.truth, drawn.truth_from_frame, region, size_px)


def truth_of(drawn: Drawn) -> FloatArray:
    """The truth in face space."""
    assert drawn.frames.truth is not None
    return pixels.face_crop(drawn.frames.truth, drawn.truth_from_frame)


# ---- figures --------------------------------------------------------------------------------------------------------------


def _frame_figures(
    drawn: Drawn, made: Answers, n: int, region: Framing, before: FloatArray | None
) -> tuple[dict[str, float], FloatArray]:
    """The figures of one frame, and the error that the next frame's flicker is measured against."""
    plate = pixels.face_crop(drawn.frames.plate, drawn.plate_from_frame)
    truth = truth_of(drawn)
    whole = _visible(drawn)
    swap, inside = in_face_space(made.swap[n], region)
    own, _ = in_face_space(made.own[n], region)
    mask = whole * inside
    error = swap - truth
    if mask.sum() < metrics.LEAST_MASK_PX:
        return {}, error
    points = apply(pixels.crop_from_frame(drawn.truth_from_frame), drawn.true_points)
    skin = pixels._bare_skin(pixels.feature_regions(mask.astype(np.float32), points))
    pasted = inside[..., None] * swap + (1 - inside[..., None]) * plate
    detail, contrast = metrics.compare_bands(metrics.band_pass(swap), metrics.band_pass(truth), mask)
    figures = {
        "psnr_db": metrics.psnr_db(swap, truth, mask),
        "plate_psnr_db": metrics.psnr_db(plate, truth, mask),
        "whole_psnr_db": metrics.psnr_db(pasted, truth, whole),
        "own_psnr_db": metrics.psnr_db(own, truth, mask),
        "leak": metrics.leak(swap, plate, truth, mask),
        "detail": detail,
        "contrast": contrast,
        "skin_delta_e": metrics_colour.skin_delta_e(swap, truth, skin),
        **_sharpness(drawn, made, n, region),
    }
    figures["gain_db"] = figures["psnr_db"] - figures["plate_psnr_db"]
    if before is not None:
        figures["flicker"] = 255 * metrics.mean_in(np.abs(error - before), mask)
    figures["square_overlap"] = _overlap(inside, whole * inside)
    if made.swap_mask is not None:
        learned, _ = in_face_space(np.repeat(made.swap_mask[n][..., None], 3, axis=2), region)
        figures["mask_overlap"] = _overlap(learned[..., 0] * inside, whole * inside)
    return figures, error


def _visible(drawn: Drawn) -> FloatArray:
    """Where both faces are seen, in face space."""
    masks = [
        pixels.mask_crop(mask, place) if mask is not None else np.ones(pixels.SIZE, np.float32)
        for mask, place in (
            (drawn.frames.plate_mask, drawn.plate_from_frame),
            (drawn.frames.truth_mask, drawn.truth_from_frame),
        )
    ]
    return masks[0] * masks[1]


def _overlap(one: FloatArray, other: FloatArray) -> float:
    """Intersection over union of two soft masks."""
    return float(np.minimum(one, other).sum() / max(np.maximum(one, other).sum(), 1e-6))


def _sharpness(drawn: Drawn, made: Answers, n: int, region: Framing) -> dict[str, float]:
    """Spread of the luminance finer than one of the network's own pixels' sigma, over the truth's at the same size.

    checkerboard: the share of it that alternates from pixel to pixel, over the truth's.
    """
    size_px = made.swap.shape[1]
    assert drawn.frames.truth is not None
    truth = crop_of(drawn.frames.truth, drawn.truth_from_frame, region, size_px).astype(np.float32) / np.float32(255)
    matrix = compose(crop_from_face(region, size_px), invert(crop_from_face(FULL, metrics.FACE_SPACE_PX)))
    mask = warp_image(_visible(drawn).astype(np.float32), matrix, (size_px, size_px), border="black") > 0.9
    if mask.sum() < 50:
        return {}
    fine, true_fine = (_fine(luma(each)) for each in (made.swap[n], truth))
    board = (np.indices((size_px, size_px)).sum(axis=0) % 2) * 2.0 - 1
    boards = [np.abs(cv2.blur((each * board).astype(np.float32), (4, 4)))[mask].mean() for each in (fine, true_fine)]
    return {
        "sharpness": float(fine[mask].std() / max(true_fine[mask].std(), 1e-6)),
        "checkerboard": float(boards[0] / max(boards[1], 1e-6)),
    }


def _fine(plane: FloatArray) -> FloatArray:
    return np.asarray(plane - cv2.GaussianBlur(plane.astype(np.float32), (0, 0), 1.0))


# ---- expression and identity ------------------------------------------------------------------------------------------------


def _pasted(drawn: Drawn, picture: NDArray[np.float32], region: Framing) -> Image:
    """The network's face over the plate's, in the plate's face space, within the visible face."""
    plate = pixels.face_crop(drawn.frames.plate, drawn.plate_from_frame)
    swap, inside = in_face_space(picture, region)
    mask = (inside * _plate_face(drawn))[..., None]
    return np.rint(255 * (mask * swap + (1 - mask) * plate)).astype(np.uint8)


def _plate_face(drawn: Drawn) -> FloatArray:
    mask = drawn.frames.plate_mask
    return pixels.mask_crop(mask, drawn.plate_from_frame) if mask is not None else np.ones(pixels.SIZE, np.float32)


def _expression(pair: Pair, made: Answers, region: Framing) -> dict[str, Series]:
    """How much of the truth's expression the swap shows: 1 all, 0 none."""
    pictures = [_pasted(each, picture, region) for each, picture in zip(pair.frames, made.swap, strict=True)]
    swap = expression_measures(frontal(pair.meshes(pictures, range(len(pictures))))[0])
    pairs = np.stack([swap, pair.true_measures], axis=1)  # T 2 4
    return {f"expression_gain_{name}": Series(pairs[:, :, k], "gain") for k, name in enumerate(EXPRESSIONS)}


def _identity(trained: Trained, pair: Pair, made: Answers, region: Framing) -> dict[str, Series]:
    """+1 the performer who is put in, -1 the plate's; of every third scored frame that is not turned far."""
    means = {name: gallery.numpy().mean(axis=0) for name, gallery in trained.galleries.items()}
    rows = np.full(len(pair.frames), np.nan)
    chosen = [n for n in range(0, len(rows), 3) if pair.yaw[n] < FRONTAL_DEGREES]
    pictures = [_pasted(pair.frames[n], made.swap[n], region) for n in chosen]
    for n, picture, mesh in zip(chosen, pictures, pair.meshes(pictures, chosen), strict=True):
        if np.isfinite(mesh).all():
            rows[n] = identity_scores(pair.embedder(picture, mesh)[None], means[trained.source], means[trained.target])[0]
    return {"identity_score": Series(rows)}


# ---- what a badly placed crop becomes -------------------------------------------------------------------------------------


def _gains(trained: Trained, pair: Pair, made: Answers) -> dict[str, Series]:
    """How much of a crop's zoom, turn and shift the drawn face follows: 1, and the error cancels when pasted back.

    Rows of every third scored frame: the difference of what is drawn of a crop put wrong either way, regressed on the
    difference of the undisturbed drawing warped either way. wobble: the mean difference, in levels of 255, of what is drawn of
    the two once it is pasted back: what a viewer sees of an alignment that trembles so.
    """
    region, size_px = framing(trained.recipe.framing), trained.recipe.resolution_px
    inner = slice(size_px // 6, -(size_px // 6))
    chosen = range(0, len(pair.frames), 3)
    series = {}
    for name, parameters in NUDGES.items():
        both = [_nudge(tuple(sign * each for each in parameters), region, size_px) for sign in (-1, 1)]
        crops = [np.stack([_nudged_crop(pair.frames[n], region, size_px, nudge) for n in chosen]) for nudge in both]
        seen = [draw(trained, each, trained.source)[0] for each in crops]
        rows, wobble = np.full(len(pair.frames), np.nan), np.full(len(pair.frames), np.nan)
        for k, n in enumerate(chosen):
            back = [warp_image(each[k], invert(nudge), (size_px, size_px)) for each, nudge in zip(seen, both, strict=True)]
            wobble[n] = 255 * np.abs(back[0] - back[1])[inner, inner].mean()
            asked = np.subtract(*(warp_image(made.swap[n], nudge, (size_px, size_px)) for nudge in both))[inner, inner]
            got = (seen[0][k] - seen[1][k])[inner, inner]
            rows[n] = (asked * got).sum() / max((asked**2).sum(), 1e-9)
        series[f"follows_{name}"], series[f"wobble_{name}"] = Series(rows), Series(wobble)
        is_turned = pair.yaw > TURNED_DEGREES
        series[f"follows_{name}_turned"] = Series(np.where(is_turned, rows, np.nan))
        series[f"follows_{name}_frontal"] = Series(np.where(is_turned, np.nan, rows))
    return series


def _nudge(parameters: tuple[float, ...], region: Framing, size_px: int) -> Matrix:
    """The similarity of crop pixels that puts a crop wrong by so much, about its middle."""
    to_crop = crop_from_face(region, size_px)
    middle = np.array([[1.0, 0.0, -region.centre[0]], [0.0, 1.0, -region.centre[1]]])
    wrong = compose(invert(middle), compose(similarity_from_parameters(*parameters), middle))
    return compose(to_crop, compose(wrong, invert(to_crop)))


def _nudged_crop(drawn: Drawn, region: Framing, size_px: int, nudge: Matrix) -> Image:
    place = compose(nudge, compose(crop_from_face(region, size_px), drawn.plate_from_frame))
    return warp_image(drawn.frames.plate, place, (size_px, size_px))


# ---- on the training faces --------------------------------------------------------------------------------------------------


def _restored(trained: Trained, num: int) -> FloatArray:
    """PSNR of undisturbed training faces of the performer who is put in, drawn again: what it can do with what it knows."""
    trainer, name = trained.trainer, trained.target
    batch = trainer.still_batch(name, torch.linspace(0, len(trainer.crops[name]) - 1, num).round().long())
    with torch.inference_mode():
        drawn = trained.network.decode(trainer.read(trained.network, name, batch), name)[:, :3]
        squares = ((drawn - batch.target).square() * batch.face).sum((1, 2, 3)) / (3 * batch.face.sum((1, 2, 3))).clamp_min(
            1e-6
        )
    return (-10 * torch.log10(squares)).double().cpu().numpy()
