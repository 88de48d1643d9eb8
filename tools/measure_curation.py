"""Plants known faults in a copy of a face set and counts which of them curation finds, and what else it leaves out.

`python tools/measure_curation.py OUT FACES OTHER STRANGER` writes the planted copy of FACES to OUT, curates it against OTHER
and prints a table; faces of OTHER and STRANGER are planted as wrong persons.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import entry
import numpy as np

import understudy
from understudy.imaging.similarity import Matrix, apply, compose, invert, similarity_from_parameters
from understudy.media import encode_jpeg, read_image
from understudy.store.faceset import FaceSet
from understudy.types import Face, FloatArray, Image

NUM_PLANTED = 12
"""Of each kind."""


@dataclass(frozen=True)
class Plant:
    """A face to be stored, its picture, and what was done to it ("" for nothing)."""

    face: Face
    picture: Image
    kind: str = ""


def main(out: Path, faces: Path, other: Path, stranger: Path) -> None:
    """Plant, curate, count."""
    own = load(faces)
    rng = np.random.default_rng(0)
    kinds: dict[str, Callable[[Plant], Plant]] = {
        "blurred": lambda plant: blurred(plant, rng.uniform(0.025, 0.05)),
        "shaken": lambda plant: shaken(plant, rng.uniform(0.1, 0.2), rng.uniform(0, np.pi)),
        "over-exposed": lambda plant: lit(plant, gain=rng.uniform(2.6, 3.5)),
        "under-exposed": lambda plant: lit(plant, gain=rng.uniform(0.02, 0.06)),
        "slipped": lambda plant: slipped(plant, rng),
        "off its track": lambda plant: off_track(plant, rng.uniform(0, 2 * np.pi)),
        "too small": lambda plant: small(plant, rng.uniform(0.12, 0.2)),
    }
    chosen = rng.permutation(len(own))[: NUM_PLANTED * len(kinds)].reshape(len(kinds), NUM_PLANTED)
    planted = list(own)
    for rows, (kind, change) in zip(chosen, kinds.items(), strict=True):
        for row in rows:
            planted[row] = replace(change(own[row]), kind=kind)
    untouched = [row for row in range(len(own)) if row not in set(chosen.ravel().tolist())]
    for row in rng.permutation(untouched)[:NUM_PLANTED]:
        planted.append(doubled(own[row], rng))
    for folder, kind in ((other, "the other performer"), (stranger, "a stranger")):
        theirs = [plant for plant in load(folder) if np.isfinite(plant.face.embedding).all()]
        for row in rng.permutation(len(theirs))[:NUM_PLANTED]:
            planted.append(replace(theirs[row], kind=kind, face=replace(theirs[row].face, source=f"of {folder.name}")))
    with FaceSet.open(faces) as face_set:
        performer = face_set.performer
    store(out, performer, planted)
    report(out, faces, other, planted)


def load(folder: Path) -> list[Plant]:
    """The kept faces of a set and their pictures."""
    with FaceSet.open(folder) as face_set:
        return [Plant(face, read_image(face_set.crop_path(face))) for face in face_set.faces() if face.crop]


def store(out: Path, performer: str, planted: Sequence[Plant]) -> None:
    """Write the planted set; its faces are numbered from 1 in this order."""
    with FaceSet.create(out, performer) as face_set:
        for number, plant in enumerate(planted, 1):
            crop = face_set.write_crop(f"planted_{number:05d}", encode_jpeg(plant.picture))
            face_set.add_faces([replace(plant.face, id=number, crop=crop, kept=True, reason="")])


# ---- what is done to a face -----------------------------------------------------------------------------------------------


def blurred(plant: Plant, sigma: float) -> Plant:
    """Out of focus by `sigma` face units."""
    return replace(plant, picture=cv2.GaussianBlur(plant.picture, (0, 0), sigma * pixels_per_unit(plant)))


def shaken(plant: Plant, length: float, angle: float) -> Plant:
    """Moved while the shutter was open, by `length` face units."""
    size = max(3, round(length * pixels_per_unit(plant))) | 1
    kernel = np.zeros((size, size), np.float32)
    middle, reach = (size - 1) / 2, (size - 1) / 2
    ends = [(round(middle + sign * reach * np.cos(angle)), round(middle + sign * reach * np.sin(angle))) for sign in (-1, 1)]
    cv2.line(kernel, ends[0], ends[1], 1.0)
    return replace(plant, picture=cv2.filter2D(plant.picture, -1, kernel / kernel.sum()))


def lit(plant: Plant, gain: float) -> Plant:
    """As if light had changed by `gain`, in code values."""
    picture = np.clip(plant.picture * gain, 0, 255).astype(np.uint8)
    unknown = float("nan")
    return replace(plant, picture=picture, face=replace(plant.face, brightness=unknown, exposure=unknown))


def slipped(plant: Plant, rng: np.random.Generator) -> Plant:
    """A mesh half off the face: one half of the points squeezed, and noise."""
    points = np.array(plant.face.landmarks, np.float64)
    width = 1 / np.sqrt(abs(np.linalg.det(plant.face.face_from_frame[:, :2])))
    middle = points.mean(axis=0)
    side = np.sign(points[:, 0] - middle[0])
    points[:, 0] = np.where(side > 0, middle[0] + 0.35 * (points[:, 0] - middle[0]), points[:, 0])
    points += rng.normal(scale=0.02 * width, size=points.shape)
    return replace(plant, face=replace(plant.face, landmarks=points.astype(np.float32)))


def off_track(plant: Plant, angle: float) -> Plant:
    """Measured a quarter of a face away from where the track has it."""
    shift = similarity_from_parameters(0.0, 0.0, 0.25 * np.cos(angle), 0.25 * np.sin(angle))
    raw = compose(shift, matrix(plant.face.raw_face_from_frame))
    return replace(plant, face=replace(plant.face, raw_face_from_frame=raw))


def small(plant: Plant, factor: float) -> Plant:
    """Seen from so far away that it covers `factor` of its pixels, per axis."""
    size = plant.picture.shape[0]
    tiny = cv2.resize(plant.picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    picture = cv2.resize(tiny, (size, size), interpolation=cv2.INTER_CUBIC)
    shrink = similarity_from_parameters(np.log(factor), 0.0, 0.0, 0.0)
    face = plant.face
    return replace(
        plant,
        picture=picture,
        face=replace(
            face,
            landmarks=apply(shrink, face.landmarks).astype(np.float32),
            irises=apply(shrink, face.irises).astype(np.float32),
            face_from_frame=compose(matrix(face.face_from_frame), invert(shrink)),
            raw_face_from_frame=compose(matrix(face.raw_face_from_frame), invert(shrink)),
        ),
    )


def doubled(plant: Plant, rng: np.random.Generator) -> Plant:
    """The same frame once more, as another encoder would have it."""
    noise = rng.normal(scale=1.0, size=plant.picture.shape)
    picture = np.clip(plant.picture + noise, 0, 255).astype(np.uint8)
    return Plant(replace(plant.face, source="another copy", track=10_000), picture, "a double")


def pixels_per_unit(plant: Plant) -> float:
    """Of the stored picture."""
    return plant.picture.shape[0] / 2.7


def matrix(values: FloatArray) -> Matrix:
    """As float64."""
    return np.asarray(values, np.float64)


# ---- what is found --------------------------------------------------------------------------------------------------------

RIGHT_KINDS = {
    "blurred": ("blurred",),
    "shaken": ("blurred",),
    "over-exposed": ("over-exposed",),
    "under-exposed": ("under-exposed",),
    "slipped": ("misaligned",),
    "off its track": ("misaligned",),
    "too small": ("too small", "blurred"),
    "the other performer": ("wrong person",),
    "a stranger": ("wrong person",),
}


def report(out: Path, faces: Path, other: Path, planted: Sequence[Plant]) -> None:
    """Print the table: of each kind how many were found, and called by their name; and what else was left out."""
    before = understudy.curate(faces, against=other).figures["num_near_duplicate"]
    found = understudy.curate(out, against=other).figures["left_out"]
    assert isinstance(found, dict)
    print("| planted | faces | left out | called so |\n|---|---|---|---|")
    for kind, names in RIGHT_KINDS.items():
        numbers = [str(number) for number, plant in enumerate(planted, 1) if plant.kind == kind]
        reasons = [found[number] for number in numbers if number in found]
        named = sum(reason.split(":")[0] in names for reason in reasons)
        print(f"| {kind} | {len(numbers)} | {len(reasons)} | {named} |")
    of_double = [number for number, plant in enumerate(planted, 1) if plant.kind == "a double"]
    pairs = [(number, original_of(number, planted)) for number in of_double]
    num_resolved = sum((str(one) in found) + (str(two) in found) >= 1 for one, two in pairs)
    print(f"| a double (one of the two) | {len(pairs)} | {num_resolved} | {num_resolved} |")
    clean = [str(number) for number, plant in enumerate(planted, 1) if not plant.kind]
    others = [found[number] for number in clean if number in found]
    num_wrong = sum(not reason.startswith("near-duplicate") for reason in others)
    num_faults = sum(not reason.startswith("near-duplicate") for reason in found.values())
    print(f"\n{num_wrong} of {len(clean)} faces that nothing was done to were left out for a fault, so precision is", end=" ")
    print(f"{1 - num_wrong / max(num_faults, 1):.3f}; {len(others) - num_wrong} as near-duplicates ({before} before planting).")


def original_of(number: int, planted: Sequence[Plant]) -> int:
    """The number of the face that `doubled` made this one of."""
    frame, landmarks = planted[number - 1].face.frame, planted[number - 1].face.landmarks
    return next(
        other
        for other, plant in enumerate(planted, 1)
        if other != number and plant.face.frame == frame and np.array_equal(plant.face.landmarks, landmarks)
    )


if __name__ == "__main__":
    asked = entry.parser(__doc__)
    for name in ("out", "faces", "other", "stranger"):
        asked.add_argument(name, type=Path, metavar=name.upper())
    entry.run(main, asked)
