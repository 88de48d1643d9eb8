"""How a new face is brought to the plate's look along a track: its colours, its sharpness, its grain and its motion blur.

Each is measured on the plate and on the new face at the same places, and pooled with a Gaussian in time around the frame that
is asked for: a match solved frame by frame turns the noise of each frame into flicker, one match for a whole shot misses a
change of light.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from understudy.imaging.blend import Blend, blur
from understudy.imaging.colour import (
    LUMA_WEIGHTS,
    ColourMap,
    ColourStatistics,
    apply_colour,
    colour_matcher,
    luma,
    measure_colour,
    pool_colours,
)
from understudy.imaging.depth import Picture
from understudy.imaging.light import likeness_to_skin
from understudy.imaging.masks import Mask
from understudy.imaging.motion_blur import ShutterSample
from understudy.types import FloatArray

DETAIL_SIGMAS = (1 / 256, 1 / 128, 1 / 64, 1 / 32)
"""The bands of detail lie between these standard deviations, as fractions of the crop's side."""

LEAST_DETAIL_GAIN, MOST_DETAIL_GAIN = 0.4, 1.6
"""Sharpening beyond this shows a network's patterns, softening beyond it a face of wax."""

GRAIN_BLOCK_PX = 8
GRAIN_QUANTILE = 0.2
"""Grain is read off the smoothest fifth of the blocks: the others hold pores, lashes and lips."""

GRAIN_AT_QUANTILE = 0.73
"""What that quantile is of the variance, for white noise (measured)."""


MOST_LIGHT_GAIN = 2.0
"""Of a change of light that is put on a performer's own skin."""

LEVEL_PRIOR = 0.02
"""Share of the crop that counts as grey on both sides when levels are compared: a sliver of skin changes nothing."""

LEAST_GRAIN = 0.25 / 255
"""A quarter of an 8-bit level: nobody sees less."""


@dataclass(frozen=True)
class Appearance:
    """How one place looks: the colours of its skin, the covariance of R G B in each band of detail (K, 3, 3), and the variance
    of the grain (of the luminance, between neighbouring pixels of the frame)."""

    colour: ColourStatistics
    detail: NDArray[np.float64]
    grain: float


@dataclass(frozen=True)
class LookSample:
    """The same place of one frame before and after the swap."""

    frame: int
    plate: Appearance
    face: Appearance
    shutter: ShutterSample | None = None


@dataclass(frozen=True)
class Look:
    """What to do to the new face in one frame: map its colours (3, 4), multiply its bands of detail by gains (K,), and add
    grain of that variance.

    light: gains (3,) for what is no skin, teeth and eyes, where `colour` is a gain that makes one skin another; None where it
    maps all alike.
    skin: the colour (3,) of the new face's skin before it is mapped, by which the two are told apart, once the light that the
    new face shows, gains (3,), is off both: under a warm lamp teeth have a skin's hue.
    """

    colour: ColourMap
    detail_gains: NDArray[np.float64]
    grain: float
    light: NDArray[np.float64] | None = None
    skin: NDArray[np.float64] | None = None
    shown: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class TrackLook:
    """All samples of a track in order of time, and what plate and new face look like on average."""

    samples: Sequence[LookSample]
    plate: Appearance
    face: Appearance

    @classmethod
    def of(cls, samples: Sequence[LookSample]) -> TrackLook:
        """`samples`: at least one, in any order."""
        ordered = sorted(samples, key=lambda sample: sample.frame)
        everywhere = np.ones(len(ordered))
        return cls(ordered, *(_pool(each, everywhere) for each in ([s.plate for s in ordered], [s.face for s in ordered])))

    def near(self, frame: int, sigma_frames: float) -> Sequence[LookSample]:
        """The samples that count in `frame`, the nearest at least: those far away would cost time and weigh nothing."""
        reach = 4 * sigma_frames
        first = bisect_left(self.samples, frame - reach, key=lambda sample: sample.frame)
        stop = bisect_right(self.samples, frame + reach, key=lambda sample: sample.frame)
        return self.samples[max(0, min(first, stop - 1)) : max(stop, first + 1)]


UNCHANGED = Look(np.eye(3, 4), np.ones(len(DETAIL_SIGMAS) - 1), 0.0)


# ---- measuring ------------------------------------------------------------------------------------------------------------


def measure_appearance(crop: Picture, skin: Mask, in_frame: Picture, skin_in_frame: Mask) -> Appearance:
    """crop (N, N, 3) with its skin (N, N) gives colour and detail; the same place in frame pixels (H, W, 3) gives the grain."""
    return Appearance(measure_colour(crop, skin), _measure_detail(crop, skin), _measure_grain(in_frame, skin_in_frame))


def _measure_detail(crop: Picture, skin: Mask) -> NDArray[np.float64]:
    return np.stack([measure_colour(band, skin).covariance for band in _bands(crop)])


def _measure_grain(picture: Picture, skin: Mask) -> float:
    """Variance of the noise, from the smoothest blocks of the skin; 0 where there is too little of it.

    Source: Immerkaer 1996, "Fast noise variance estimation", whose mask ignores flat, sloping and curved surfaces.
    """
    size = (picture.shape[1] // GRAIN_BLOCK_PX, picture.shape[0] // GRAIN_BLOCK_PX)
    if min(size) < 2:
        return 0.0
    kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
    residual = cv2.filter2D(np.asarray(luma(picture), np.float32), -1, kernel) ** 2 / 36
    blocks, share = (cv2.resize(each, size, interpolation=cv2.INTER_AREA) for each in (residual, skin))
    inside = blocks[share > 0.95]
    return float(np.quantile(inside, GRAIN_QUANTILE)) / GRAIN_AT_QUANTILE if inside.size >= 10 else 0.0


def _bands(crop: Picture) -> list[Picture]:
    levels = [blur(np.asarray(crop, np.float32), sigma * len(crop)) for sigma in DETAIL_SIGMAS]
    return [finer - coarser for finer, coarser in pairwise(levels)]


# ---- matching -------------------------------------------------------------------------------------------------------------


def look_at(
    track: TrackLook | None,
    frame: int,
    sigma_frames: float,
    colour_method: str,
    skin: Literal["plate", "performer"] = "plate",
    usual_skins: tuple[FloatArray, FloatArray] | None = None,
) -> Look:
    """The look that gives the new face the plate's around `frame`; UNCHANGED where there is no sample.

    skin: whose skin it has in the end. The performer's own takes on the plate's changes of light along the track: the ratio of
    the plate's colour here to its colour in all samples (von Kries), as far as the new face does not show it already.
    usual_skins: the colours (3,) of the plate's performer and of the new face's in training footage: how the plate differs from
    the one is its light, and how the new face differs from the other is what it shows of that light already.
    """
    if track is None:
        return UNCHANGED
    samples = track.near(frame, sigma_frames)
    distance = (np.array([sample.frame for sample in samples]) - frame) / max(sigma_frames, 1e-6)
    closeness = np.exp(-0.5 * (distance**2 - np.min(distance**2)))
    plate, face = (_pool(each, closeness) for each in ([s.plate for s in samples], [s.face for s in samples]))
    if skin == "plate":
        colour = colour_matcher(colour_method)(face.colour, plate.colour)
        light, shown = _lights(plate.colour, face.colour, usual_skins) if colour_method == "gain" else (None, None)
    else:
        colour, light, shown = _light_map(plate, track.plate, face, track.face), None, None
    wanted, there = _luminance_variance(plate.detail, np.eye(3)), _luminance_variance(face.detail, colour[:, :3])
    gains = np.sqrt(wanted / np.maximum(there, 1e-8)) * _brightness_beside(plate.colour, face.colour, colour)
    detail_gains = np.clip(gains, LEAST_DETAIL_GAIN, MOST_DETAIL_GAIN)
    return Look(colour, detail_gains, max(plate.grain - face.grain, 0.0), light, face.colour.mean, shown)


def _brightness_beside(plate: ColourStatistics, face: ColourStatistics, colour: ColourMap) -> float:
    """How bright the new face is in the end beside the plate's: the relief of a darker skin is fainter by as much."""
    if min(plate.weight, face.weight) <= 0:
        return 1.0
    mapped = colour[:, :3] @ face.mean + colour[:, 3]
    return max(float(luma(mapped)), 0.01) / max(float(luma(plate.mean)), 0.01)


def detail_of_model(track: TrackLook, colour_method: str = "mkl") -> float:
    """How much of the plate's detail the model draws: ratio of spreads in the middle band, colours matched; NaN unknown.

    1: as much. The less, the more of what shows of a face is what the blend takes from the plate.
    """
    colour = colour_matcher(colour_method)(track.face.colour, track.plate.colour)
    wanted = _luminance_variance(track.plate.detail, np.eye(3))
    there = _luminance_variance(track.face.detail, colour[:, :3])
    return float(np.sqrt(there[1] / wanted[1])) if wanted[1] > 0 else float("nan")


def _lights(
    plate: ColourStatistics, face: ColourStatistics, usual_skins: tuple[FloatArray, FloatArray] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | tuple[None, None]:
    """What the light does to the plate's skin over what it does to the new face's already, and that: gains (3,) each.

    Where the skins are not known, a grey gain, which leaves white white, and ones. Both performers are taken to have been
    filmed in much the same light for training.
    """
    if min(plate.weight, face.weight) <= 0:
        return None, None
    if usual_skins is None:
        here, there = (np.maximum(luma(each.mean), 0.01) * np.ones(3) for each in (plate, face))
        shown = np.ones(3)
    else:
        here, there = (
            np.maximum(each.mean, 0.01) / np.maximum(usual, 0.01)
            for each, usual in zip((plate, face), usual_skins, strict=True)
        )
        shown = there
    return np.asarray(np.clip(here / there, 1 / MOST_LIGHT_GAIN, MOST_LIGHT_GAIN)), shown


def _light_map(plate: Appearance, plate_always: Appearance, face: Appearance, face_always: Appearance) -> ColourMap:
    """A gain for each channel: what the light does to the plate here, over what it does to the new face already."""
    if min(each.colour.weight for each in (plate, plate_always, face, face_always)) <= 0:
        return np.eye(3, 4)
    light, shown = (
        np.maximum(here.colour.mean, 0.01) / np.maximum(always.colour.mean, 0.01)
        for here, always in ((plate, plate_always), (face, face_always))
    )
    return np.column_stack([np.diag(np.clip(light / shown, 1 / MOST_LIGHT_GAIN, MOST_LIGHT_GAIN)), np.zeros(3)])


def _pool(parts: Sequence[Appearance], closeness: FloatArray) -> Appearance:
    shares = closeness / closeness.sum()
    colour = pool_colours([part.colour for part in parts], closeness)
    detail = np.tensordot(shares, np.stack([part.detail for part in parts]), 1)
    return Appearance(colour, detail, float(shares @ [part.grain for part in parts]))


def _luminance_variance(covariances: NDArray[np.float64], linear: NDArray[np.float64]) -> NDArray[np.float64]:
    """The variance of luma (K,) of colours with these covariances (K, 3, 3), once mapped by `linear`."""
    weights = np.array(LUMA_WEIGHTS) @ linear
    return np.asarray(covariances @ weights @ weights)


# ---- applying -------------------------------------------------------------------------------------------------------------


def apply_colours(crop: Picture, look: Look) -> Picture:
    """The crop (N, N, 3) with its skin brought to the plate's, and teeth and eyes only to its light: a gain that makes a brown
    skin pale turns what was white blue."""
    mapped = apply_colour(crop, look.colour)
    if look.light is None or look.skin is None or look.shown is None:
        return mapped
    in_ordinary_light = np.asarray(crop / look.shown.astype(np.float32), np.float32)
    share = likeness_to_skin(in_ordinary_light, look.skin / look.shown)[..., None]
    return np.asarray(share * mapped + (1 - share) * crop * look.light.astype(np.float32), np.float32)


def level_gain(plate: Picture, face: Picture, skin: Mask) -> float:
    """How much brighter the plate's skin is than the new face's at the same places of one frame: (N, N, 3) each, skin (N, N).

    Colours pooled over time leave what changes within them, a network's pumping or a flash of light; this one number is a mean
    over so many pixels that it can be taken frame by frame.
    """
    prior = LEVEL_PRIOR * skin.size / 2
    wanted, there = (float((luma(picture) * skin).sum()) + prior for picture in (plate, face))
    return float(np.clip(wanted / max(there, prior), 1 / MOST_LIGHT_GAIN, MOST_LIGHT_GAIN))


def apply_detail(crop: Picture, gains: FloatArray) -> Picture:
    """The crop (N, N, 3) with its bands of detail multiplied."""
    extra = sum((np.float32(gain - 1) * band for gain, band in zip(gains, _bands(crop), strict=True)), np.zeros_like(crop))
    return np.asarray(crop + extra, np.float32)


def with_grain(blend: Blend, variance: float, seed: int) -> Blend:
    """`blend`, whose foreground first gets grain of that variance; `seed` is the frame, so that the grain moves."""
    if variance < LEAST_GRAIN**2:
        return blend

    def blended(plate: Picture, foreground: Picture, matte: Mask, side_px: float) -> Picture:
        noise = np.random.default_rng(seed).standard_normal(matte.shape, np.float32)[..., None]
        return blend(plate, np.clip(foreground + np.float32(variance**0.5) * noise, 0, 1), matte, side_px)

    return blended
