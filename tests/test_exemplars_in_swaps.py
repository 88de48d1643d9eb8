"""A model keeps exemplars of its performers, bound to its checkpoints; a swap is as sharp as they are."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from drawn_faces import draw_face_set
from tiny_training import TINY
from understudy.imaging.exemplars import NUM_FORM_POINTS, Exemplars
from understudy.imaging.framing import FULL, crop_from_face
from understudy.imaging.irises import LEFT_IRIS
from understudy.imaging.meanface import LEFT_EYE, align_mesh, mean_face
from understudy.imaging.similarity import apply, compose
from understudy.imaging.warp import warp_image
from understudy.media import read_frames
from understudy.model.folder import EXEMPLARS_FILE
from understudy.model.identity import IdentitySwapper, write_identity_model
from understudy.model.swapper import load_swapper
from understudy.perception.detect import mediapipe_detector
from understudy.perception.embed import dlib_embedder
from understudy.perception.landmarks import mesh_landmarker
from understudy.recipes import convert_recipe, train_recipe
from understudy.settings import ConvertRecipe, RangeSettings
from understudy.stages._exemplar_detail import FormReader, with_detail
from understudy.stages._training_exemplars import presentable, write_exemplars
from understudy.stages._training_faces import StoredFaces, is_held_out, open_performers
from understudy.stages.convert import convert
from understudy.stages.train import train
from understudy.store.faceset import FaceSet
from understudy.trust.consent import create_record
from understudy.trust.identity import bind_identity
from understudy.trust.records import read_record
from understudy.types import BadInput

# ---- in a model -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(face_sets: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "model"
    train(face_sets, folder, recipe=TINY, steps=3)
    return folder


def test_a_model_keeps_pictures_of_faces_it_learned_from(model: Path, face_sets: list[Path]) -> None:
    arrays = load_file(model / EXEMPLARS_FILE)
    assert arrays["abel.pictures"].shape == (TINY.num_exemplars, TINY.exemplar_px, TINY.exemplar_px, 3)
    assert arrays["abel.forms"].shape == (TINY.num_exemplars, NUM_FORM_POINTS, 2)
    kept = load_swapper(model).exemplars
    assert set(kept) == {"abel", "bea"}
    middle = kept["bea"].pictures[:, TINY.exemplar_px // 2, TINY.exemplar_px // 2].mean(0)
    np.testing.assert_allclose(middle, (50, 95, 110), atol=12)  # the colour bea is drawn in


def test_faces_that_are_blurred_hidden_or_held_out_are_no_exemplars(consented: Path, tmp_path: Path) -> None:
    folders = [draw_face_set(tmp_path / name, name, (150, 200, 235)) for name in ("abel", "bea")]
    with FaceSet.open(folders[0]) as face_set:
        ids = [face.id for face in face_set.faces()]
        face_set.set_occlusion(ids[5], 0.3)
    stored = open_performers(folders)[0]
    blurred = tuple(replace(face, sharpness=10.0) if number == 7 else face for number, face in enumerate(stored.faces))
    recipe = replace(TINY, held_out_fraction=0.25)
    numbers = set(presentable(replace(stored, faces=blurred), recipe))
    held = set(np.flatnonzero(is_held_out(len(stored), 0.25)))
    assert held
    assert numbers == set(range(len(stored))) - held - {5, 7}


@pytest.mark.parametrize(("num_known", "num_seen"), [(20, 4), (4, 4), (3, 3), (0, 0)])
def test_a_face_whose_gaze_is_not_known_is_an_exemplar_only_where_others_are_too_few(
    face_sets: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_known: int, num_seen: int
) -> None:
    def some_known(folders: list[Path]) -> list[StoredFaces]:
        nothing = np.full((2, 2), np.nan)
        return [
            replace(
                each, faces=each.faces[:num_known] + tuple(replace(face, irises=nothing) for face in each.faces[num_known:])
            )
            for each in open_performers(folders)
        ]

    monkeypatch.setattr("understudy.stages._training_exemplars.open_performers", some_known)
    write_exemplars(tmp_path, face_sets, replace(TINY, held_out_fraction=0.0), {})
    forms = load_file(tmp_path / EXEMPLARS_FILE)["abel.forms"]
    lids = [(33, 133, 159, 145), (362, 263, 386, 374)]
    straight = np.stack([forms[:, eye].mean(axis=1) for eye in lids], axis=1)
    looks_straight = np.abs(forms[:, LEFT_IRIS:] - straight).max(axis=(1, 2)) < 1e-3
    assert (len(forms), (~looks_straight).sum()) == (4, num_seen)


def test_exemplars_smaller_than_what_is_drawn_are_refused(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "model"
    shutil.copytree(model, other)
    arrays = {
        name: np.ascontiguousarray(each[:, :16, :16]) if name.endswith("pictures") else each
        for name, each in load_file(other / EXEMPLARS_FILE).items()
    }
    save_file(arrays, other / EXEMPLARS_FILE)
    monkeypatch.setattr("understudy.model.folder.check_beside", lambda *_: None)
    with pytest.raises(BadInput, match=r"exemplars\.safetensors: it holds no pictures of 'abel' that are 32 px wide or more"):
        load_swapper(other)


def test_a_changed_file_of_exemplars_is_refused_and_one_that_only_lies_there_is_not_used(
    model: Path, face_sets: list[Path], tmp_path: Path
) -> None:
    changed = tmp_path / "changed"
    shutil.copytree(model, changed)
    arrays = load_file(changed / EXEMPLARS_FILE)
    save_file({name.replace("abel", "bea", 1) + "x" * name.startswith("bea"): each for name, each in arrays.items()},
              changed / EXEMPLARS_FILE)  # fmt: skip
    with pytest.raises(BadInput, match=r"exemplars.*was changed since its checkpoint was saved"):
        load_swapper(changed)
    without = tmp_path / "without"
    train(face_sets, without, recipe=replace(TINY, num_exemplars=0), steps=3)
    assert not (without / EXEMPLARS_FILE).exists()
    shutil.copy(model / EXEMPLARS_FILE, without)
    assert not load_swapper(without).exemplars


def test_a_run_that_goes_on_keeps_the_exemplars_its_checkpoints_are_bound_to(face_sets: list[Path], tmp_path: Path) -> None:
    train(face_sets, tmp_path / "model", recipe=TINY, steps=2)
    before = (tmp_path / "model" / EXEMPLARS_FILE).read_bytes()
    train(face_sets, tmp_path / "model", recipe=TINY, steps=4)
    assert (tmp_path / "model" / EXEMPLARS_FILE).read_bytes() == before
    (tmp_path / "model" / EXEMPLARS_FILE).unlink()  # lost: the same pictures again
    train(face_sets, tmp_path / "model", recipe=TINY, steps=5)
    assert (tmp_path / "model" / EXEMPLARS_FILE).read_bytes() == before


def test_settings_that_no_exemplars_could_have_are_refused() -> None:
    assert train_recipe("quick", {"num_exemplars": 0, "exemplar_px": 512}).num_exemplars == 0
    for name, value in (("num_exemplars", -1), ("exemplar_px", 0), ("exemplar_px", 5000)):
        with pytest.raises(BadInput, match=f"setting {name}: expected [01] to .*, got {value}"):
            train_recipe("quick", {name: value})
    with pytest.raises(BadInput, match=r"setting exemplar_strength: expected 0 to 1, got 1\.5"):
        convert_recipe("delivery", {"exemplar_strength": 1.5})


# ---- in a swap ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bea(sample: Path) -> tuple[np.ndarray, np.ndarray]:
    """A real picture of bea, rendered: (256, 256, 3) in 0..1, and its form."""
    frame = next(record.image for record in read_frames(sample / "bea_test.mp4", 30, 31))
    found = mediapipe_detector()(frame)
    seen = mesh_landmarker()(frame, found[0])
    picture = warp_image(frame, compose(crop_from_face(FULL, 256), align_mesh(seen.points)), (256, 256))
    unit = picture.astype(np.float32) / np.float32(255)
    return unit, FormReader(FULL).read([unit])[0]


def test_the_form_of_a_drawn_face_is_found_where_the_framing_says_it_lies(bea: tuple[np.ndarray, np.ndarray]) -> None:
    picture, found = bea
    ordinary = apply(crop_from_face(FULL, 256), mean_face()[:, :2])
    assert np.abs(found[:LEFT_IRIS, :2] - ordinary).mean() < 12
    blurred = FormReader(FULL).read([cv2.GaussianBlur(picture, (0, 0), 4), np.zeros_like(picture)])
    assert np.abs(blurred[0] - found)[:, :2].mean() < 3
    assert np.isnan(blurred[1]).all()  # no face is there


def test_a_blurred_face_gets_its_eyes_and_mouth_back(bea: tuple[np.ndarray, np.ndarray]) -> None:
    picture, found = bea
    drawn = cv2.resize(cv2.GaussianBlur(picture, (0, 0), 3), (96, 96), interpolation=cv2.INTER_AREA)
    own = Exemplars(np.rint(255 * picture).astype(np.uint8)[None], found[None, :, :2], 256 / FULL.side)
    sharp = with_detail(drawn, FormReader(FULL).read([drawn]), [None], 0, 0.0, own, 1.0)
    plain = cv2.resize(drawn, (256, 256), interpolation=cv2.INTER_CUBIC)
    inside = cv2.boundingRect(found[list(LEFT_EYE), :2].astype(np.float32))
    eye = (slice(inside[1], inside[1] + inside[3]), slice(inside[0], inside[0] + inside[2]))
    assert sharp.shape == picture.shape
    contrast = {name: each[eye].mean(2).std() for name, each in (("soft", plain), ("sharp", sharp), ("true", picture))}
    assert contrast["soft"] < 0.85 * contrast["true"]
    assert contrast["sharp"] == pytest.approx(contrast["true"], rel=0.15)
    assert np.abs(sharp - picture)[eye].mean() < 0.9 * np.abs(plain - picture)[eye].mean()


def test_the_very_picture_blurred_comes_back_sharp(bea: tuple[np.ndarray, np.ndarray]) -> None:
    picture, found = bea
    own = Exemplars(np.rint(255 * picture).astype(np.uint8)[None], found[None, :, :2], 256 / FULL.side)
    drawn = cv2.GaussianBlur(picture, (0, 0), 3)
    sharp = own.detailed(drawn, found)
    inside = (slice(90, 190), slice(85, 170))  # eyes, nose and mouth
    assert np.abs(sharp - picture)[inside].mean() < 0.3 * np.abs(drawn - picture)[inside].mean()


class Soft(IdentitySwapper):
    """Draws whoever is asked for as the plate shows him, softly: abel stands in for the performer he is replaced by."""

    def swap(self, crops, from_performer, to_performer, drive=None, codes=None):
        drawn = super().swap(crops, from_performer, to_performer, drive, codes)
        return np.stack([cv2.GaussianBlur(each, (0, 0), 4) for each in drawn])


def test_a_swap_is_as_sharp_as_the_exemplars_wherever_its_ranges_want_them(
    sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = [record.image for record in read_frames(sample / "abel_test.mp4", 4, 8)]
    seen = mesh_landmarker().batch(frames, [mediapipe_detector()(frame)[0] for frame in frames])
    place = [compose(crop_from_face(FULL, 256), align_mesh(each.points)) for each in seen]
    pictures = np.stack([warp_image(frame, each, (256, 256)) for frame, each in zip(frames, place, strict=True)])
    forms = np.stack([form[:, :2] for form in FormReader(FULL).read(list(pictures.astype(np.float32) / 255))])
    abel = dlib_embedder().batch(frames, [each.points for each in seen])
    for name, faces in (("abel", abel), ("bea", -abel)):
        create_record(tmp_path / "consent", name, "synthetic")
        bind_identity(read_record(tmp_path / "consent", name), faces)
    model = write_identity_model(tmp_path / "model", {"abel": abel, "bea": -abel})
    swapper = Soft({"abel": abel, "bea": -abel}, checkpoint=load_swapper(model).checkpoint)
    swapper.exemplars = {"bea": Exemplars(pictures, forms, 256 / FULL.side)}
    monkeypatch.setattr("understudy.stages._swap_asked.load_swapper", lambda *_, **__: swapper)
    plain = ConvertRecipe(colour="none", passes="none", exemplar_strength=0.0)
    ranges = [RangeSettings(replace(plain, exemplar_strength=1.0), frames=(6, 7))]
    convert(
        sample / "abel_test.mp4",
        model,
        "abel",
        "bea",
        tmp_path / "swap",
        recipe=plain,
        ranges=ranges,
        frames=(4, 7),
        consent=tmp_path / "consent",
    )
    made = [record.image for record in read_frames(tmp_path / "swap" / "swap.mp4")]
    kept = []
    for frame, new, matrix in zip(frames, made, place, strict=True):
        plate, swap = (warp_image(each, matrix, (256, 256)).astype(np.float32).mean(2)[60:190, 85:170] for each in (frame, new))
        edges = [
            np.abs(cv2.GaussianBlur(each, (0, 0), 1.5) - cv2.GaussianBlur(each, (0, 0), 4)).mean() for each in (plate, swap)
        ]
        kept.append(edges[1] / edges[0])
    assert max(kept[:2]) < 0.6
    assert min(kept[2:]) > 0.8
