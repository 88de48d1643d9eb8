"""Tells what of a face is hidden by something in front of it (a hand, a microphone, a prop), from how the face usually looks.

The face is unwrapped by its mesh, so that a turn of the head or a word does not move its skin, and compared with the same skin
in the other frames of its track, whose light is allowed to differ smoothly over the face. What does not look like this skin,
measured by how much it usually varies there, is something else. What never moves away (glasses, a beard) belongs to the face.

Convention: crops are 8-bit RGB (h, w, 3) of any framing and size; landmarks are the mesh (468, 2 or 3) in the crop's pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from understudy.imaging.framing import FULL, crop_from_face
from understudy.imaging.masks import Mask, polygon_mask
from understudy.imaging.meanface import FACE_OVAL, INNER_LIPS, LEFT_EYE, RIGHT_EYE, align_mesh, mean_face, raise_forehead
from understudy.imaging.similarity import apply
from understudy.types import FloatArray, Image

TEXTURE_PX = 72
"""Side of the unwrapped face, which covers the framing `full`."""

MOST_SAMPLES = 40
"""Faces of a track that are remembered, spread evenly over it."""

NUM_NEAREST = 15
"""Remembered faces of the most similar pose and expression that a face is compared with."""

LEAST_SAMPLES = 8
"""With fewer faces than this nobody can say what is usual: everything counts as visible."""

LEAST_SPREAD = np.array([0.10, 0.05, 0.05])
"""Least usual deviation of a skin's logarithmic luminance and hue (two numbers): noise, compression and errors of the mesh."""

MOST_HUE_ERROR = 0.4
"""Skin whose logarithmic hue is so far off is no skin in any light that the fit considers."""

HUE_PRIOR = 0.1
"""How much of the face's area the belief is worth that the hue of the light has not changed."""

HIDDEN_DEVIATIONS, SOFTNESS = 4.5, 0.7
"""Visibility is one half at so many usual deviations, and falls off over this many."""

_FLOOR = 12.0
"""Added to levels (0..255) before the logarithm, so that the noise of shadows does not count as colour."""


@dataclass(frozen=True)
class Appearance:
    """How one face usually looks, from frames of its track.

    shapes: (N, 936) landmarks in face units of the faces remembered, to find the one that resembles another most.
    usual, spread: (N, S, S, 3) logarithmic luminance and hue of the unwrapped face under one common light: median and robust
    deviation over the faces that resemble each remembered one.
    """

    shapes: NDArray[np.float32]
    usual: NDArray[np.float32]
    spread: NDArray[np.float32]


def usual_appearance(crops: Sequence[Image], landmarks: Sequence[FloatArray]) -> Appearance:
    """Learns how a face looks from crops of its track, in order of time; up to MOST_SAMPLES of them are used.

    A few of the faces may be hidden themselves. One track, or several of one performer in the same make-up, will do.
    """
    rows = np.unique(np.linspace(0, len(crops) - 1, min(len(crops), MOST_SAMPLES)).round().astype(int))
    if len(rows) < LEAST_SAMPLES:
        nothing = np.empty((0, TEXTURE_PX, TEXTURE_PX, 3), np.float32)
        return Appearance(np.empty((0, 0), np.float32), nothing, nothing)
    shapes = np.array([_shape(landmarks[row]) for row in rows], np.float32)
    textures = np.stack([_texture(crops[row], landmarks[row]) for row in rows])
    common = np.median(textures, axis=0)
    textures = np.stack([texture - _light(texture, common) for texture in textures]).astype(np.float32)
    usual: NDArray[np.float32] = np.zeros_like(textures)
    spread: NDArray[np.float32] = np.full_like(textures, LEAST_SPREAD)
    inside = _where().inside
    skin = textures[:, inside]  # N M 3
    for row, shape in enumerate(shapes):
        nearest = skin[np.argsort(np.linalg.norm(shapes - shape, axis=1))[:NUM_NEAREST]]
        middle = _median_over_rows(nearest)
        usual[row, inside] = middle
        spread[row, inside] = np.hypot(1.4826 * _median_over_rows(np.abs(nearest - middle)), LEAST_SPREAD)
        spread[row] = cv2.GaussianBlur(spread[row], (0, 0), 1.5)
    return Appearance(shapes, usual, spread)


def visibility(crop: Image, landmarks: FloatArray, appearance: Appearance) -> Mask:
    """How visible the face is at each pixel of the crop: (h, w) float32, 1 = the face itself, 0 = something in front of it.

    landmarks: the mesh in the crop's pixels, smoothed or bridged ones where the face is hidden. Outside the face (raised to
    mid-forehead) and inside mouth and eyes, which look different every moment, the value continues that of the nearest skin;
    multiply by an outline where only the face is wanted. Everything is visible where the appearance knows too few faces.
    """
    height, width = crop.shape[:2]
    if not len(appearance.shapes):
        return np.ones((height, width), np.float32)
    visible = _visible_texture(_texture(crop, landmarks), _shape(landmarks), appearance)
    return _in_crop(visible, crop, landmarks)


def hidden_share(crop: Image, landmarks: FloatArray, appearance: Appearance) -> float:
    """The share (0..1) of the face that something hides; NaN where the appearance knows too few faces. Quicker than a mask."""
    if not len(appearance.shapes):
        return float("nan")
    visible = _visible_texture(_texture(crop, landmarks), _shape(landmarks), appearance)
    facing = _areas(landmarks)
    return float(1 - facing @ visible[_where().inside] / facing.sum())


# ---- comparing ------------------------------------------------------------------------------------------------------------


def _visible_texture(texture: FloatArray, shape: FloatArray, appearance: Appearance) -> FloatArray:
    """(S, S) visibility of an unwrapped face, from the remembered ones that resemble it."""
    nearest = int(np.argmin(np.linalg.norm(appearance.shapes - shape, axis=1)))
    usual = appearance.usual[nearest]
    deviation = (texture - _light(texture, usual) - usual) / appearance.spread[nearest]
    strength = np.sqrt(cv2.GaussianBlur(np.square(deviation).sum(axis=2), (0, 0), 1.0))
    return 1 / (1 + np.exp((strength - HIDDEN_DEVIATIONS) / SOFTNESS))


def _light(texture: FloatArray, common: FloatArray) -> FloatArray:
    """What a change of light must add to `common` (S, S, 3) to give `texture`, as most of the face has it.

    Light may change the hue of the whole face a little, and its luminance by a gradient. Robust regression by iteratively
    reweighted least squares (Beaton and Tukey 1974), first of the hue, starting from none, because its hue gives an object away
    even where it hides most of the face; then of the luminance where the hue is the skin's.
    """
    inside, ground = _where().inside, _ground()
    difference = (texture - common)[inside]
    hue: NDArray[np.floating] = np.zeros(2)
    for _ in range(4):
        red, blue = (difference[:, 1:] - hue).T
        weights = _tukey(np.sqrt(red * red + blue * blue), MOST_HUE_ERROR)
        hue = (weights @ difference[:, 1:]) / (weights.sum() + HUE_PRIOR * len(weights))
    gradient: NDArray[np.floating] = np.zeros(3)
    is_skin = weights
    prior = 1e-3 * len(ground) * np.diag([0.01, 1.0, 1.0])
    gradient[0] = _weighted_median(difference[:, 0], is_skin + 1e-9)
    for _ in range(5):
        distance = np.abs(difference[:, 0] - ground @ gradient)
        limit = 4.7 * max(1.4826 * _weighted_median(distance, is_skin + 1e-9), 0.04)
        weighted = ground * (is_skin * _tukey(distance, limit) + 1e-9)[:, None]
        gradient = np.linalg.solve(weighted.T @ ground + prior, weighted.T @ difference[:, 0])
    light = np.zeros_like(texture)
    light[inside] = np.column_stack([ground @ gradient, np.broadcast_to(hue, (len(ground), 2))])
    return light


def _tukey(distance: FloatArray, limit: float) -> FloatArray:
    return np.square(np.maximum(1 - np.square(distance / limit), 0))


def _median_over_rows(values: FloatArray) -> FloatArray:
    """`np.median(values, axis=0)` of a few long rows, which odd-even transposition sorts as wholes: a tenth of the time."""
    rows, count = values.copy(), len(values)
    for step in range(count):
        first, second = rows[step % 2 : count - 1 : 2], rows[step % 2 + 1 :: 2]
        higher = np.maximum(first, second)
        np.minimum(first, second, out=first)
        second[:] = higher
    return np.asarray((rows[(count - 1) // 2] + rows[count // 2]) / 2)


def _weighted_median(values: FloatArray, weights: FloatArray) -> float:
    order = np.argsort(values)
    total = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(total, total[-1] / 2)])


# ---- unwrapping -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Unwrapping:
    """Where each texture pixel lies on the mesh: is it inside, in which triangle (M, 3), with which shares (M, 3)."""

    inside: NDArray[np.bool_]
    corners: NDArray[np.int64]
    shares: NDArray[np.float64]


@cache
def _where() -> _Unwrapping:
    points = apply(crop_from_face(FULL, TEXTURE_PX), raise_forehead(mean_face())[:, :2])
    subdivision = cv2.Subdiv2D((-TEXTURE_PX, -TEXTURE_PX, 3 * TEXTURE_PX, 3 * TEXTURE_PX))
    number_of = {subdivision.insert((float(x), float(y))): n for n, (x, y) in enumerate(points)}
    corners = np.full((TEXTURE_PX, TEXTURE_PX, 3), -1)
    shares = np.zeros((TEXTURE_PX, TEXTURE_PX, 3))
    numbers = {_key(subdivision.getVertex(vertex)[0]): n for vertex, n in number_of.items()}
    y, x = np.mgrid[:TEXTURE_PX, :TEXTURE_PX] + 0.5
    whole = np.stack([x, y], axis=-1)
    for row in subdivision.getTriangleList():
        triangle = [numbers[_key(corner)] for corner in row.reshape(3, 2) if _key(corner) in numbers]
        if len(triangle) < 3:  # it reaches to the frame of the triangulation
            continue
        a, b, c = points[triangle]
        left, top = np.clip(np.floor(points[triangle].min(axis=0)) - 1, 0, None).astype(int)
        right, bottom = np.ceil(points[triangle].max(axis=0)).astype(int) + 1
        near = (slice(top, bottom), slice(left, right))
        places = whole[near]
        share = np.einsum("yxk,jk->yxj", places - a, np.linalg.inv(np.column_stack([b - a, c - a])))
        share = np.concatenate([1 - share.sum(axis=-1, keepdims=True), share], axis=-1)
        is_in = (share >= -1e-6).all(axis=-1)
        corners[near][is_in], shares[near][is_in] = triangle, share[is_in]
    outline = polygon_mask(points[list(FACE_OVAL)], (TEXTURE_PX, TEXTURE_PX))
    changing = [polygon_mask(points[list(part)], (TEXTURE_PX, TEXTURE_PX)) for part in (INNER_LIPS, LEFT_EYE, RIGHT_EYE)]
    inside = (corners[..., 0] >= 0) & (outline > 0.5) & (np.max(changing, axis=0) < 0.3)
    return _Unwrapping(inside, corners[inside], shares[inside])


def _key(point: FloatArray) -> tuple[float, float]:
    return round(float(point[0]), 3), round(float(point[1]), 3)


@cache
def _ground() -> NDArray[np.float64]:
    """(M, 3) the functions that light is made of: 1, x, y over the face, -1..1."""
    y, x = np.nonzero(_where().inside)
    return np.column_stack([np.ones(len(x)), 2 * x / TEXTURE_PX - 1, 2 * y / TEXTURE_PX - 1])


def _places(landmarks: FloatArray) -> NDArray[np.float64]:
    """(M, 2) where in the crop each texture pixel of the face lies."""
    where = _where()
    corners = raise_forehead(landmarks)[:, :2][where.corners]
    return np.asarray(np.einsum("mc,mck->mk", where.shares, corners))


def _areas(landmarks: FloatArray) -> NDArray[np.float64]:
    """(M,) how much of the crop each texture pixel covers: nothing where the face is turned away."""
    return np.asarray(np.maximum(_double_areas(raise_forehead(landmarks)) / _areas_of_mean_face(), 0))


@cache
def _areas_of_mean_face() -> FloatArray:
    return _double_areas(apply(crop_from_face(FULL, TEXTURE_PX), raise_forehead(mean_face())[:, :2]))


def _double_areas(points: FloatArray) -> FloatArray:
    """(M,) of each texture pixel's triangle, negative where it is seen from behind."""
    (ax, bx, cx), (ay, by, cy) = (points[:, axis][_where().corners.T] for axis in (0, 1))
    return np.asarray((bx - ax) * (cy - ay) - (by - ay) * (cx - ax))


def _texture(crop: Image, landmarks: FloatArray) -> NDArray[np.float64]:
    """(S, S, 3) the unwrapped face as logarithmic luminance and hue (red over green, blue over green); 0 outside."""
    size_px = np.ptp(np.asarray(landmarks)[:, :2], axis=0).max()
    sigma_px = 0.35 * size_px / TEXTURE_PX
    smooth = cv2.GaussianBlur(crop, (0, 0), sigma_px) if sigma_px > 0.4 else crop
    x, y = (_places(landmarks) - 0.5).astype(np.float32).T
    values = cv2.remap(smooth, x[:, None], y[:, None], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)[:, 0]
    texture = np.zeros((TEXTURE_PX, TEXTURE_PX, 3))
    red, green, blue = np.log(values.astype(np.float64) + _FLOOR).T
    texture[_where().inside] = np.column_stack([(red + green + blue) / 3, red - green, blue - green])
    return texture


def _shape(landmarks: FloatArray) -> NDArray[np.float64]:
    return apply(align_mesh(landmarks), np.asarray(landmarks)[:, :2]).ravel()


def _in_crop(visible: FloatArray, crop: Image, landmarks: FloatArray) -> Mask:
    """The visibility of texture pixels brought to the crop, continued beyond the face and fitted to the crop's edges."""
    height, width = crop.shape[:2]
    grid_px = max(height, width) / 128
    size = (round(width / grid_px), round(height / grid_px))
    x, y = np.clip((_places(landmarks) / grid_px).astype(int), 0, np.array(size) - 1).T
    weight, total = np.zeros(size[::-1], np.float32), np.zeros(size[::-1], np.float32)
    np.add.at(weight, (y, x), 1)
    np.add.at(total, (y, x), visible[_where().inside].astype(np.float32))
    mask = np.zeros_like(weight)
    reach = np.zeros_like(weight)
    for sigma in (0.8, 2.0, 5.0, 15.0):  # the nearest value known
        blurred, known = (cv2.GaussianBlur(each, (0, 0), sigma) for each in (total, weight))
        new = np.clip(known / 0.02, 0, 1) * (1 - reach)
        mask += new * blurred / np.maximum(known, 1e-6)
        reach += new
    mask = np.where(reach > 1e-3, mask / np.maximum(reach, 1e-3), 1)
    small = cv2.resize(crop, size, interpolation=cv2.INTER_AREA)
    fitted = _guided(mask.astype(np.float32), small, radius_px=3)
    return np.clip(cv2.resize(fitted, (width, height), interpolation=cv2.INTER_LINEAR), 0, 1).astype(np.float32)


def _guided(mask: Mask, guide: Image, radius_px: int, epsilon: float = 1e-3) -> Mask:
    """The mask as a local linear function of the picture's luminance (He, Sun and Tang 2010, "Guided image filtering")."""
    side = (2 * radius_px + 1, 2 * radius_px + 1)
    luminance = cv2.cvtColor(guide, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
    mean, mean_mask = cv2.blur(luminance, side), cv2.blur(mask, side)
    slope = (cv2.blur(luminance * mask, side) - mean * mean_mask) / (cv2.blur(luminance * luminance, side) - mean**2 + epsilon)
    offset = mean_mask - slope * mean
    return np.asarray(cv2.blur(slope, side) * luminance + cv2.blur(offset, side), np.float32)
