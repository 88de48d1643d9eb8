"""Fine detail from a performer's own pictures: what a network draws too softly, taken from real ones of nearly the same form.

A small network knows where a performer's lids, lips and lines are, and draws them soft. Its exemplars, pictures of the
performer, show them sharp. The mesh of what was drawn says where each bit of the face lies in them; those most alike in form,
and of eyes and mouth in looks, are unwrapped onto the drawn face, for either eye, the mouth and the rest by themselves, and
their detail takes the place of what was drawn of it. Detail is the logarithm of a picture over its own blur, so that light and
complexion cancel out.

Sources: Liu, Shan and Zhang 2001, "Expressive expression mapping with ratio images" (detail as a ratio); Thies et al. 2016,
"Face2Face: real-time face capture and reenactment of RGB videos" (a mouth found in the performer's own footage).

Convention: pictures are square crops (S, S, 3) in the model's framing; a form is (470, 2 or 3): the mesh's 468 points and the
two irises, that at image left first, in pixels of the crop, z in pixels towards the camera.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from understudy.imaging.depth import Picture
from understudy.imaging.irises import LEFT_IRIS, RIGHT_IRIS, looking_alike
from understudy.imaging.masks import Mask, dilate, erode, hull_mask
from understudy.imaging.meanface import INNER_LIPS, LEFT_EYE, OUTER_LIPS, RIGHT_EYE
from understudy.imaging.meshcover import Where, cover_of, middles, outline, where_it_lies
from understudy.imaging.steadiness import reach_frames
from understudy.types import FloatArray

NUM_FORM_POINTS = 470

NUM_ALIKE = 8
"""Exemplars that have a say at once. Fewer are sharper and flicker more: with 24 the truth pair's sharpness is 0.70 for 0.73,
its flicker 2.83 for 2.90 (docs/log.md)."""

FADE = 2.0
"""Which exemplars have a say fades over so many times as many frames as forms are steadied over."""

FADE_ALIKE = 0.015
"""Forms of a part so far apart, in face units, are another expression: what is chosen for a shut eye is not for an open one."""

NUM_NEAR = 24
"""Exemplars nearest in form, among which looks decide."""

NEAR_UNITS, NEAR_FEATURES = 0.004, 0.006
"""Forms this far apart are alike, whichever is the nearest; in face units, as all that follow. Of eyes and mouth the mesh of a
soft face says less than their looks: it takes a mouth open by a little for shut."""

LOOKS, LOOKS_ALIKE, NEAREST_LOOKS = 0.023, 0.01, 0.08
"""What an eye or a mouth looks like: its detail blurred (sigma) to what the network draws; how far two that look alike are
apart, in the logarithm of light; and how much farther, as a share of the square, where even the nearest is far."""

BROAD_FINE, BROAD_FEATURES = 1 / 32, 0.08
"""Where detail ends (sigma of the blur): of skin, where the network's broader shading is better than another frame's, and of
eyes and mouth, whose whites and teeth are broader than that."""

FEATURE_RIM, FEATURE_SOFTNESS = 0.055, 0.03
"""How far the parts reach beyond the contours of eyes and lips, and how softly they end."""

RIM, RIM_SOFTNESS = 0.1, 0.04
"""How much of the mesh's rim stays as it was drawn: there hair and background would be taken for detail."""

TRUSTED_FEATURES, TRUSTED_REST = 0.024, 0.2
"""Forms so far from the nearest exemplar are trusted to 1/e, half as far nearly in full: a mouth that was never shown open has
no teeth to give, and its shut lips would close the one that was drawn."""

MOST_RESTORED = 1.6
"""Pictures that are averaged lose contrast where they do not quite agree; it is given back up to this."""

DARK = 0.04
"""Added before the logarithm, so that the noise of shadows does not count as detail."""

_LEAST_WEIGHT = 1e-6
"""Where all are equally alike, all weigh the same."""
_ROW_PX = 1024
_LEVELS = np.float32(8192)
"""Detail as whole numbers, which OpenCV samples as they are; it reaches from -4 to 4, farther than `DARK` lets it."""
_PARTS = ((*LEFT_EYE, *[LEFT_IRIS] * 8), (*RIGHT_EYE, *[RIGHT_IRIS] * 8), (*OUTER_LIPS, *INNER_LIPS))
"""An iris counts as much as half of the lid: where the eye looks is a matter of one point."""
_REST = tuple(range(LEFT_IRIS))
_ALL_PARTS = (*_PARTS, _REST)
_TRUSTED = (*[TRUSTED_FEATURES] * len(_PARTS), TRUSTED_REST)


class _Detail(NamedTuple):
    """An exemplar's detail (S, S, 3) in `_LEVELS`, the same as soft as a network draws it, and how strong it is around the
    mesh's points (468,)."""

    levels: NDArray[np.int16]
    looks: NDArray[np.int16]
    strength: NDArray[np.float32]


class _Near(NamedTuple):
    """The numbers (K,) of the exemplars nearest in form, how far they are (K,) in face units, and how far the next one is."""

    numbers: NDArray[np.int64]
    distances: NDArray[np.float64]
    beyond: float


class _Face(NamedTuple):
    """A drawn face: its form (470, 3), where it lies, over which pixels (S, S), its parts' masks, its detail (S, S, 3)."""

    form: FloatArray
    where: Where
    cover: Mask
    parts: Sequence[Mask]
    detail: NDArray[np.float32]


Choice = NDArray[np.float64]
"""How much say each exemplar has in either eye, the mouth and the rest, (4, K)."""


class Exemplars:
    """Pictures of one performer from which a drawn face takes its detail.

    pictures: (K, S, S, 3) uint8; forms: (K, 470, 2) in their pixels; px_per_unit: pixels of a face unit there.
    """

    def __init__(self, pictures: NDArray[np.uint8], forms: FloatArray, px_per_unit: float) -> None:
        self.pictures, self.forms, self._px_per_unit = pictures, np.asarray(forms, np.float64), px_per_unit
        self._details: dict[int, _Detail] = {}

    def __len__(self) -> int:
        return len(self.pictures)

    @property
    def size_px(self) -> int:
        """Side of the pictures."""
        return int(self.pictures.shape[1])

    def choose(self, drawn: Picture, form: FloatArray) -> Choice | None:
        """Which exemplars are like a drawn face (S, S, 3) of that form (470, 3); None where the form is no face."""
        return None if (face := self._laid_out(drawn, form)) is None else self._chosen_for(face)

    def faded(
        self, choices: Sequence[Choice | None], forms: Sequence[FloatArray], place: int, sigma_frames: float
    ) -> Choice | None:
        """What was chosen for a face, averaged in time, a Gaussian, with the frames around in which its form was the same.

        choices, forms (470, 3): of consecutive frames of one track; None, where no face was found, does not count, and in the
        middle it is what the frames around it say. sigma_frames: over how many forms are steadied, as far as they are; 0 fades
        nothing.
        """
        here, reach = choices[place], reach_frames(sigma_frames)
        around = range(max(0, place - reach), min(len(choices), place + reach + 1))
        known = [(row, each) for row in around if (each := choices[row]) is not None]
        if reach == 0 or not known:
            return here
        seen = np.stack([forms[row] for row, _ in known])
        apart = np.zeros((len(_ALL_PARTS), len(known)))
        if here is not None:
            apart = np.stack([_apart(seen, forms[place], points) for points in _ALL_PARTS]) / (FADE_ALIKE * self._px_per_unit)
        times = np.array([row - place for row, _ in known]) / (FADE * sigma_frames)
        weights = np.exp(-0.5 * (times**2 + apart**2))
        total = np.einsum("pn,npk->pk", weights, np.stack([each for _, each in known]))
        return np.asarray(total / weights.sum(axis=1, keepdims=True))

    def detailed(self, drawn: Picture, form: FloatArray, strength: float = 1.0, choice: Choice | None = None) -> Picture:
        """A drawn face (S, S, 3) of that form (470, 3) with the exemplars' detail in place of its own; strength: 0..1.

        choice: whose detail; None for what this face alone would choose. As it was where the form is no face, and where no
        exemplar comes near it.
        """
        drawn = np.clip(drawn, 0, 1)  # enlarged, it may be darker than black
        face = self._laid_out(drawn, form) if strength > 0 else None
        if face is None:
            return drawn
        size_px, form, where, cover, own = self.size_px, face.form, face.where, face.cover, face.detail
        shares = self._chosen_for(face) if choice is None else choice
        total, trust = np.zeros((size_px * size_px, 4), np.float32), np.zeros_like(cover)
        for points, mask, trusted, weights in zip(_ALL_PARTS, face.parts, _TRUSTED, shares, strict=True):
            there = where.only(mask.ravel()[where.pixels] > 0)
            numbers, say = _few(weights)
            seen = self._seen(there, self._places(there, numbers, form, points), numbers, say)
            total[there.pixels] += mask.ravel()[there.pixels, None] * seen
            nearest = _apart(self.forms, form, points).min() / self._px_per_unit
            trust += mask * np.float32(np.exp(-((nearest / trusted) ** 4)))
        averages = total.reshape(size_px, size_px, 4)
        light = averages[..., :3].mean(axis=2, keepdims=True)
        # hue is not weakened as light is: teeth that are made less pink than the mean around them turn blue
        wanted = averages[..., :3] + (self._restored(averages, cover)[..., None] - 1) * light
        inside = _soft(erode(cover, RIM * self._px_per_unit), RIM_SOFTNESS * self._px_per_unit)
        change = (np.float32(strength) * inside * trust)[..., None] * (wanted - own)
        return np.asarray(np.clip((drawn + np.float32(DARK)) * np.exp(change) - np.float32(DARK), 0, 1), np.float32)

    def _laid_out(self, drawn: Picture, form: FloatArray) -> _Face | None:
        """A drawn face taken apart; None where the form is no face or lies beside the picture."""
        size_px, form = self.size_px, np.asarray(form, np.float64)
        if not np.isfinite(form).all():
            return None
        where = where_it_lies(form, size_px)
        cover = cover_of(where, size_px)
        if not cover.any():
            return None
        parts = _part_masks(form, size_px, self._px_per_unit)
        detail = self._log_detail(np.clip(drawn, 0, 1), cover, sum(parts[:-1], np.zeros_like(cover)))
        return _Face(form, where, cover, parts, detail)

    def _chosen_for(self, face: _Face) -> Choice:
        looks = _soft(face.detail, LOOKS * self._px_per_unit)
        shares = np.zeros((len(_ALL_PARTS), len(self)))
        for row, (points, mask) in enumerate(zip(_ALL_PARTS, face.parts, strict=True)):
            near, unlike = self._nearest(face.form, points), None
            if points is not _REST:
                there = face.where.only(mask.ravel()[face.where.pixels] > 0)
                unlike = self._unlikeness(there, near.numbers, face.form, points, mask, looks)
            shares[row, near.numbers] = _alike(near, unlike)
        return shares

    def _nearest(self, form: FloatArray, points: Sequence[int]) -> _Near:
        """The exemplars nearest in the form of some points, wherever these lie."""
        distances = _apart(self.forms, form, points) / self._px_per_unit
        numbers = np.argsort(distances, kind="stable")[: NUM_NEAR + 1]
        beyond = float(distances[numbers[-1]]) if len(numbers) > NUM_NEAR else np.inf
        return _Near(numbers[:NUM_NEAR], distances[numbers[:NUM_NEAR]], beyond)

    def _places(self, there: Where, numbers: NDArray[np.int64], form: FloatArray, points: Sequence[int]) -> NDArray[np.float32]:
        """(K, M, 2): where a part of the face, that of these points, lies in some exemplars."""
        forms = self.forms[numbers]
        return looking_alike(there.places_on(forms), middles(there.pixels, self.size_px), form, forms, points)

    def _unlikeness(
        self,
        there: Where,
        numbers: NDArray[np.int64],
        form: FloatArray,
        points: Sequence[int],
        mask: Mask,
        looks: NDArray[np.float32],
    ) -> NDArray[np.float64]:
        """(K,): the mean squared difference of a part's looks in some exemplars from those of what was drawn, (S, S, 3)."""
        drawn, weights = looks.reshape(-1, 3)[there.pixels], mask.ravel()[there.pixels, None]
        places = self._places(there, numbers, form, points)
        seen = (_at(self._detail(number).looks, place) / _LEVELS for number, place in zip(numbers, places, strict=True))
        return np.array([(weights * (each - drawn) ** 2).sum() for each in seen]) / (3 * float(weights.sum()) + 1e-6)

    def _seen(
        self, there: Where, places: NDArray[np.float32], numbers: NDArray[np.int64], weights: NDArray[np.float64]
    ) -> NDArray[np.float32]:
        """(M, 4): the mean detail of some exemplars and how strong it is in each; places (K, M, 2): where it lies in them."""
        shares = weights.astype(np.float32)
        total = np.zeros((len(there.pixels), 3), np.float32)
        for number, share, place in zip(numbers, shares, places, strict=True):
            total += _at(self._detail(number).levels, place) * (share / _LEVELS)
        strength = shares @ np.stack([self._detail(number).strength for number in numbers])
        # a pixel on the rim of the mesh may have its middle just beyond it, and the strength there be less than none
        return np.concatenate([total, np.maximum(there.between(strength[:, None]), 0)], axis=1)

    def _detail(self, number: int) -> _Detail:
        """Worked out when it is first asked for."""
        if number not in self._details:
            form = self.forms[number]
            cover = cover_of(where_it_lies(form, self.size_px), self.size_px)
            parts = _part_masks(form, self.size_px, self._px_per_unit)
            picture = self.pictures[number].astype(np.float32) / np.float32(255)
            detail = self._log_detail(picture, cover, sum(parts[:-1], np.zeros_like(cover)))
            around = _blur_within(detail.mean(axis=2) ** 2, cover, BROAD_FINE * self._px_per_unit)
            points = (outline(form)[:, :2] - 0.5).astype(np.float32)
            strength = cv2.remap(around, points, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)[:, 0]
            looks = _soft(detail, LOOKS * self._px_per_unit)
            levels, soft_levels = (np.rint(each * _LEVELS).astype(np.int16) for each in (detail, looks))
            self._details[number] = _Detail(levels, soft_levels, strength)
        return self._details[number]

    def _log_detail(self, picture: Picture, cover: Mask, features: Mask) -> NDArray[np.float32]:
        """(S, S, 3): the logarithm of a picture over its own blur, within the mesh; blurred farther in eyes and mouth."""
        fine, broad = (
            np.log((picture + np.float32(DARK)) / (_blur_within(picture, cover, sigma * self._px_per_unit) + np.float32(DARK)))
            for sigma in (BROAD_FINE, BROAD_FEATURES)
        )
        return np.asarray(fine + features[..., None] * (broad - fine), np.float32)

    def _restored(self, total: NDArray[np.float32], cover: Mask) -> Mask:
        """(S, S): how much averaging weakened the detail; total: (S, S, 4), the averages of detail and of its strength."""
        sigma_px = BROAD_FINE * self._px_per_unit
        there, single = (_blur_within(each, cover, sigma_px) for each in (total[..., :3].mean(axis=2) ** 2, total[..., 3]))
        return np.clip(np.sqrt((single + 1e-4) / (there + 1e-4)), 1, MOST_RESTORED)


def _apart(forms: FloatArray, form: FloatArray, points: Sequence[int]) -> NDArray[np.float64]:
    """(K,) pixels by which some points of forms (K, 470, 2 or 3) differ from those of another, wherever these lie."""
    difference = forms[:, points, :2] - form[list(points), :2]
    difference -= difference.mean(axis=1, keepdims=True)
    return np.asarray(np.sqrt((difference**2).sum(axis=2).mean(axis=1)))


def _alike(near: _Near, unlike: NDArray[np.float64] | None) -> NDArray[np.float64]:
    """(K,): how much say the nearest exemplars have, 1 in all.

    unlike: (K,), how little they look like what was drawn; None where form alone decides. A smooth function of both, so that
    nothing jumps from frame to frame.
    """
    nearest, alike = near.distances.min(), NEAR_UNITS if unlike is None else NEAR_FEATURES
    apart = (near.distances**2 - nearest**2) / (alike**2 + nearest**2)
    if unlike is not None:
        apart += (unlike - unlike.min()) / (LOOKS_ALIKE**2 + NEAREST_LOOKS * unlike.min())
    weights = np.exp((apart.min() - apart) / 2) * np.clip(1 - (near.distances / max(near.beyond, 1e-12)) ** 2, 0, 1)
    weights += _LEAST_WEIGHT
    return np.asarray(weights / weights.sum())


def _few(weights: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The numbers of those with most weight, and their shares: what each has more than the first who has no say, so that who
    comes in or goes has none then."""
    order = np.argsort(-weights, kind="stable")
    rest = weights[order[NUM_ALIKE]] if len(order) > NUM_ALIKE else 0.0
    shares = weights[order[:NUM_ALIKE]] - rest + _LEAST_WEIGHT
    return order[:NUM_ALIKE], shares / shares.sum()


def choose_exemplars(forms: FloatArray, num: int) -> NDArray[np.int64]:
    """The numbers of at most `num` of forms (N, P, 2) that are farthest apart, so that few stand for all; in ascending order.

    The first is the most ordinary one. Source: Gonzalez 1985, "Clustering to minimize the maximum intercluster distance".
    """
    flat = np.asarray(forms, np.float64).reshape(len(forms), -1)
    chosen = [int(((flat - flat.mean(axis=0)) ** 2).sum(axis=1).argmin())]
    distances = ((flat - flat[chosen[0]]) ** 2).sum(axis=1)
    while len(chosen) < min(num, len(flat)):
        chosen.append(int(distances.argmax()))
        distances = np.minimum(distances, ((flat - flat[chosen[-1]]) ** 2).sum(axis=1))
    return np.array(sorted(chosen))


# ---- the parts of a crop -------------------------------------------------------------------------------------------------


def _at(levels: NDArray[np.int16], places: NDArray[np.float32]) -> NDArray[np.float32]:
    """(M, 3): what lies at places (M, 2) of a picture (S, S, 3)."""
    num = len(places)
    # a list of places is laid in rows, as OpenCV takes 32,767 of a side at most
    laid = np.zeros((-(-num // _ROW_PX) * _ROW_PX, 2), np.float32)
    laid[:num] = places - np.float32(0.5)
    found = cv2.remap(levels, laid.reshape(-1, _ROW_PX, 2), None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(found.reshape(-1, 3)[:num], np.float32)


def _part_masks(form: FloatArray, size_px: int, px_per_unit: float) -> list[Mask]:
    """Soft masks of the eyes, the mouth and the rest, which add up to 1."""
    left, masks = np.ones((size_px, size_px), np.float32), []
    for points in _PARTS:
        contour = form[[point for point in points if point < LEFT_IRIS], :2]
        rim = dilate(hull_mask(contour, (size_px, size_px)), FEATURE_RIM * px_per_unit)
        masks.append(_soft(rim, FEATURE_SOFTNESS * px_per_unit) * left)
        left = left - masks[-1]
    return [*masks, left]


def _soft(mask: NDArray[np.float32], sigma_px: float) -> NDArray[np.float32]:
    return np.asarray(cv2.GaussianBlur(mask, (0, 0), sigma_px), np.float32)


def _blur_within(picture: NDArray[np.float32], cover: Mask, sigma_px: float) -> NDArray[np.float32]:
    """A picture (S, S) or (S, S, C) blurred within a mask, of whose outside nothing comes in."""
    weights = cover if picture.ndim == 2 else cover[..., None]
    around = np.maximum(cv2.GaussianBlur(cover, (0, 0), sigma_px), np.float32(1e-3))
    return np.asarray(
        cv2.GaussianBlur(picture * weights, (0, 0), sigma_px) / (around if picture.ndim == 2 else around[..., None]), np.float32
    )
