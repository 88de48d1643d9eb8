"""Drawing: what the network reads of a face is steadied along its track, the same wherever a render was cut."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from painted_plates import LOSSLESS, NUM_FRAMES, Mirror, a_face, planned, soft_texture, write_plate
from understudy.media.images import write_png
from understudy.media.reader import read_frames
from understudy.stages._drawing import frames_to_read
from understudy.stages._segment_keys import segment_keys
from understudy.stages._swap_plan import face_in_crop
from understudy.stages._swapping import swapped_frames

STEADY = replace(LOSSLESS, code_seconds=0.05, batch_size=2, matte_seconds=0)
RAW = replace(STEADY, code_seconds=0)


@pytest.fixture
def plate(tmp_path: Path) -> Path:
    return write_plate(tmp_path / "plate")


class Told(Mirror):
    """A model that is told expressions and reads one number, as bright as which it paints the face."""

    def __init__(self):
        super().__init__()
        self.reads_expressions = False
        self.exemplars = {}

    def swap(self, crops, from_performer, to_performer, drive=None, codes=None):
        painted = super().swap(crops, from_performer, to_performer)
        codes = self.read(crops, from_performer) if codes is None else codes
        painted[..., :3] = codes[:, :, None, None]
        return painted


class Trembling(Told):
    """What it reads is noise, another in each picture."""

    def read(self, crops, performer, faces=None):
        seeds = [int.from_bytes(hashlib.sha256(crop.tobytes()).digest()[:4], "little") for crop in crops]
        return np.float32([[np.random.default_rng(seed).uniform(0.3, 0.7)] for seed in seeds])


class Light(Told):
    """What it reads is how bright the picture is."""

    def read(self, crops, performer, faces=None):
        return np.float32([[crop.mean() / 255] for crop in crops])


class Asking(Told):
    """It notes where the faces lie, as it is told: when it reads, and when it draws."""

    def __init__(self):
        super().__init__()
        self.told_to_read, self.told_to_draw = [], []

    def read(self, crops, performer, faces=None):
        self.told_to_read += list(faces)
        return np.zeros((len(crops), 1), np.float32)

    def swap(self, crops, from_performer, to_performer, drive=None, codes=None):
        self.told_to_draw += list(drive.faces)
        return super().swap(crops, from_performer, to_performer, drive, codes)


def brightness(plate, faces, model, recipe=STEADY, wanted=None, ranges=()):
    """How bright the faces are painted, by frame."""
    plan = planned(plate, faces, model, recipe, ranges)
    frames = read_frames(plate)
    if wanted is not None:
        read = frames_to_read(wanted, plan, 1)
        frames = (record for record in frames if record.index in read)
    return {
        done.record.index: float(done.drawn[0].answer[..., :3].mean())
        for done in swapped_frames(frames, plan, wanted)
        if done.drawn
    }


def test_what_trembles_in_the_reading_does_not_tremble_in_the_picture(plate):
    faces = [a_face(frame, x=100.3) for frame in range(NUM_FRAMES)]
    raw, steady = (list(brightness(plate, faces, Trembling(), recipe).values()) for recipe in (RAW, STEADY))
    assert len(raw) == len(steady) == NUM_FRAMES
    assert np.std(np.diff(steady)) < 0.4 * np.std(np.diff(raw))


@pytest.mark.parametrize("wanted", [range(5, 9), range(0, 3), range(13, 16)])
def test_a_range_is_drawn_as_in_the_whole_film(plate, wanted):
    faces = [a_face(frame, x=100.3) for frame in range(NUM_FRAMES)]
    whole = brightness(plate, faces, Trembling())
    assert brightness(plate, faces, Trembling(), wanted=wanted) == {frame: whole[frame] for frame in wanted}


def test_nothing_is_carried_from_one_track_to_the_next(tmp_path):
    (folder := tmp_path / "cut").mkdir()
    for frame in range(NUM_FRAMES):
        write_png(folder / f"{frame:04d}.png", (soft_texture(0) // (1 if frame < 8 else 4)).astype(np.uint8))
    cut = [a_face(frame, track=int(frame >= 8), x=100.3) for frame in range(NUM_FRAMES)]
    unbroken = [a_face(frame, x=100.3) for frame in range(NUM_FRAMES)]
    before, after, mixed = (
        brightness(folder, faces, Light(), recipe) for faces, recipe in ((cut, RAW), (cut, STEADY), (unbroken, STEADY))
    )
    assert after == pytest.approx(before, abs=1e-6)
    assert mixed[7] < before[7] - 0.02


def test_a_face_that_is_missing_in_a_frame_breaks_the_average(plate):
    faces = [a_face(frame, x=100.3) for frame in range(NUM_FRAMES) if frame not in (5, 7)]
    raw, steady = (brightness(plate, faces, Trembling(), recipe) for recipe in (RAW, STEADY))
    assert steady[6] == raw[6]
    assert steady[10] != raw[10]


def test_a_frame_that_only_steadies_a_segment_is_part_of_its_key(plate):
    faces = [a_face(frame, x=100.3) for frame in range(NUM_FRAMES)]
    moved = [a_face(frame, x=91.5) if frame == 10 else a_face(frame, x=100.3) for frame in range(NUM_FRAMES)]

    def keys(faces, model):
        return segment_keys(planned(plate, faces, model, STEADY), NUM_FRAMES, 2, 1, "id")

    told, untold = (
        [a != b for a, b in zip(keys(moved, model()), keys(faces, model()), strict=True)] for model in (Light, Mirror)
    )
    assert untold == [False] * 5 + [True] + [False] * 2
    assert told == [False] * 3 + [True] * 5


def test_a_model_is_told_where_each_face_lies_in_its_crops(plate):
    faces = [a_face(frame, x=100.3, size=50.0 + frame) for frame in range(NUM_FRAMES)]
    faces = [replace(face, landmarks=face.landmarks * (1, 1 + 0.01 * face.frame)) for face in faces]
    model = Asking()
    plan = planned(plate, faces, model, replace(STEADY, num_crops=2))
    model.told_to_draw.clear()
    list(swapped_frames(read_frames(plate), plan))
    twice = [face_in_crop(face, model) for face in faces for _ in range(2)]
    np.testing.assert_array_equal(model.told_to_read, twice)
    np.testing.assert_array_equal(model.told_to_draw, twice)
