"""Convert: some frames of a clip alone, and the whole stage with the real networks, killed and gone on."""

import json
import os
import shutil
import signal
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
from safetensors.numpy import save_file

import understudy.stages.convert as convert_stage
from clips import make_clip
from killing import start
from painted_plates import (
    HEIGHT,
    LOSSLESS,
    NUM_FRAMES,
    WIDTH,
    Painter,
    a_face,
    planned,
    soft_texture,
    surveyed,
    write_plate,
)
from short_clips import write_pictures
from understudy.cli import _frames
from understudy.imaging.expression import measure_standards, read_expressions
from understudy.media.footage import probe
from understudy.media.images import read_image, write_png
from understudy.media.reader import read_frames
from understudy.media.segments import SegmentedWriter
from understudy.model.colour import UNCHANGED
from understudy.model.folder import GALLERIES_FILE, read_galleries, recipe_as_json
from understudy.model.identity import write_identity_model
from understudy.model.networks import build_network
from understudy.perception.survey import load_networks, survey
from understudy.settings import ConvertRecipe, RangeSettings, TrainRecipe
from understudy.stages import _marked_output, _plate_survey
from understudy.stages._evaluation_clips import open_clip
from understudy.stages._plate_survey import WHOLE, frames_around, reuse_survey, survey_plate
from understudy.stages.convert import (
    convert,
    swap_footage,
)
from understudy.store.checkpoints import save_checkpoint
from understudy.store.faceset import FaceSet
from understudy.store.manifest import Manifest, write_manifest
from understudy.trust.credentials import Lineage
from understudy.trust.identity import bind_identity
from understudy.trust.records import read_record
from understudy.types import BadInput, Event, UnfinishedFrames, silent


@pytest.fixture
def plate(tmp_path: Path) -> Path:
    return write_plate(tmp_path / "plate")


# ---- some frames alone ----------------------------------------------------------------------------------------------------


def shown_alone(plate: Path, out: Path, recipe: ConvertRecipe, shown: range) -> dict[str, object]:
    faces = [a_face(frame) for frame in range(NUM_FRAMES)]
    out.mkdir()
    plan = planned(plate, faces, Painter(), recipe)
    return swap_footage(probe(plate), surveyed(faces), plan, out, Lineage({}, ()), shown=shown)[0]


def test_frames_that_are_shown_alone_are_those_of_the_film_under_their_own_numbers(plate, tmp_path):
    film, alone = tmp_path / "film", tmp_path / "alone"
    shown_alone(plate, film, LOSSLESS, WHOLE)
    figures = shown_alone(plate, alone, LOSSLESS, range(6, 10))
    assert (figures["num_frames"], figures["num_swapped"]) == (4, 4)
    assert [path.name for path in sorted((alone / "frames").glob("*.png"))] == [f"{frame:06d}.png" for frame in range(6, 10)]
    for path in (alone / "frames").glob("*.png"):
        assert np.array_equal(read_image(path), read_image(film / "frames" / path.name))
    assert [json.loads(line)["frame"] for line in (alone / "ledger.jsonl").read_text().splitlines()] == [6, 7, 8, 9]


def test_a_clip_that_is_shown_alone_starts_at_time_zero_without_sound_or_timecode(sample, tmp_path):
    clip = tmp_path / "clip.mov"
    with av.open(str(clip), "w") as container:
        video, audio = container.add_stream("libx264", rate=25), container.add_stream("aac", rate=48000, layout="mono")
        video.width, video.height, video.pix_fmt, video.metadata["timecode"] = WIDTH, HEIGHT, "yuv420p", "01:00:00:00"
        for frame in range(NUM_FRAMES):
            container.mux(video.encode(av.VideoFrame.from_ndarray(soft_texture(frame), format="rgb24")))
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        sound.rate = 48000
        container.mux(audio.encode(sound))
        container.mux([*video.encode(None), *audio.encode(None)])
    assert (probe(clip).timecode, probe(clip).has_audio) == ("01:00:00:00", True)
    figures = shown_alone(clip, tmp_path / "alone", replace(LOSSLESS, codec="h264", passes="none"), range(6, 10))
    swap = probe(tmp_path / "alone/swap.mp4")
    assert (swap.timecode, swap.has_audio) == ("", False)
    times = [record.time_seconds for record in read_frames(swap.path)]
    assert times == pytest.approx([0, 0.04, 0.08, 0.12])
    assert figures["credentials"] == "embedded"


def test_one_frame_that_is_shown_alone_lasts_as_long_as_in_the_film(tmp_path):
    clip = make_clip(tmp_path / "clip.mp4", times=range(NUM_FRAMES), size=(WIDTH, HEIGHT))
    shown_alone(clip, tmp_path / "alone", replace(LOSSLESS, codec="h264", passes="none"), range(6, 7))
    swap = probe(tmp_path / "alone/swap.mp4")
    assert (swap.frame_rate, swap.duration_seconds) == (25, 0.04)


@pytest.mark.parametrize("given", ["9-6", "-3", "6-", "a-b", "6-9-12", ""])
def test_frames_that_are_no_range_are_refused(given):
    with pytest.raises(BadInput, match=f"--frames '{given}': expected the first and the last frame"):
        frames_around(_frames(given), probe_of_a_clip())


def probe_of_a_clip():
    return SimpleNamespace(frame_rate=Fraction(25))


def test_only_what_is_around_the_frames_is_looked_at():
    assert frames_around((100, 120), probe_of_a_clip()) == (range(100, 121), range(50, 171))
    assert frames_around((0, 0), probe_of_a_clip()) == (range(1), range(51))
    assert frames_around(None, probe_of_a_clip()) == (WHOLE, WHOLE)


def test_an_earlier_survey_is_taken_over_where_plate_and_code_are_the_same(plate, tmp_path, monkeypatch):
    earlier = tmp_path / "earlier"
    survey_plate(probe(plate), earlier, silent, plate_sha256="a")
    write_manifest(earlier, Manifest("convert", {}, "", {}, {}))

    def is_taken_over(out: Path, clip: Path = plate, plate_sha256: str = "a") -> bool:
        reuse_survey(earlier, out, probe(clip), WHOLE, plate_sha256)
        assert not list(out.glob(".*"))
        return (out / "plate/faces.sqlite").exists()

    assert is_taken_over(tmp_path / "same")
    assert not is_taken_over(tmp_path / "other plate", plate_sha256="b")
    assert not is_taken_over(tmp_path / "other name", clip=shutil.copytree(plate, tmp_path / "renamed"))
    monkeypatch.setattr(_plate_survey, "code_sha256", lambda: "another")
    assert not is_taken_over(tmp_path / "other code")


# ---- the whole stage, with the real networks ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clip(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first 14 frames of abel's test clip, as pictures."""
    return write_pictures(sample / "abel_test.mp4", tmp_path_factory.mktemp("clip") / "abel", 14)


@pytest.fixture(scope="module")
def model(clip: Path, consented: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained model that knows abel by the identity network, and somebody else as bea."""
    folder = tmp_path_factory.mktemp("model")
    recipe = TrainRecipe(resolution_px=32, width=0.25, code_size=16, is_expression_measured=True)
    first = next(survey(read_frames(clip), "clip", load_networks()))
    standards = measure_standards({name: read_expressions(first.faces) for name in ("abel", "bea")})
    state = {
        "recipe": recipe_as_json(recipe),
        "colour": {name: UNCHANGED.as_json() for name in ("abel", "bea")},
        "expressions": {name: standard.as_json() for name, standard in standards.items()},
    }
    weights = build_network(recipe, ["abel", "bea"]).state_dict()
    save_checkpoint(folder, 1, {"weights": weights, "ema": weights}, state)
    abel = np.asarray(first.faces[0].embedding, np.float32)[None]
    galleries = {"abel": abel, "bea": -abel}
    save_file(galleries, folder / GALLERIES_FILE)
    for name, embeddings in galleries.items():
        bind_identity(read_record(consented, name), embeddings)
    return folder


def test_a_killed_conversion_goes_on_where_it_was_and_a_finished_one_is_not_repeated(clip, model, tmp_path):
    class KillError(Exception):
        pass

    def kill_in_the_survey(event: Event) -> None:
        if event.message == "looking for faces" and event.done >= 10:
            raise KillError

    with pytest.raises(KillError):
        convert(clip, model, "abel", "bea", tmp_path / "swap", report=kill_in_the_survey)
    assert not (tmp_path / "swap/manifest.json").exists()
    events: list[Event] = []
    result = convert(clip, model, "abel", "bea", tmp_path / "swap", report=events.append)
    looked_at = [event.done for event in events if event.message == "looking for faces"]
    assert looked_at[0] > 10
    assert (result.figures["num_frames"], result.figures["num_swapped"]) == (14, 14)
    assert result.outputs["swap"].name == "swap.mp4"
    assert (tmp_path / "swap/manifest.json").exists()
    written = result.outputs["swap"].stat().st_mtime_ns
    again = convert(clip, model, "abel", "bea", tmp_path / "swap", report=silent)
    assert again.as_json() == result.as_json()
    assert result.outputs["swap"].stat().st_mtime_ns == written


def convert_until_killed(clip: Path, model: Path, out: Path, consent: Path, message: str) -> None:
    def kill_at(event: Event) -> None:
        if event.message == message:
            os.kill(os.getpid(), signal.SIGKILL)

    convert(clip, model, "abel", "bea", out, consent=consent, report=kill_at)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="the system has no such signal")
@pytest.mark.parametrize("message", ["looking for faces", "swapping"])
def test_a_conversion_killed_before_anything_is_rendered_binds_its_folder_to_nothing(clip, model, consented, tmp_path, message):
    process = start(convert_until_killed, clip, model, tmp_path / "swap", consented, message)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    events: list[Event] = []
    other = ConvertRecipe(crf=20)
    result = convert(clip, model, "abel", "bea", tmp_path / "swap", recipe=other, report=events.append)
    assert result.figures["num_swapped"] == 14
    assert json.loads((tmp_path / "swap/recipe.json").read_text())["recipe"]["crf"] == 20
    num_looked_at = sum(event.message == "looking for faces" for event in events)
    assert num_looked_at == 0 if message == "swapping" else num_looked_at > 0, "faces that were found serve any settings"


def test_what_other_code_left_of_a_killed_conversion_is_made_again(clip, model, tmp_path, monkeypatch):
    """Faces, colours and whole segments; nothing of them where the code is the same."""
    monkeypatch.setattr(_marked_output, "SegmentedWriter", partial(SegmentedWriter, every=3))
    monkeypatch.setattr(convert_stage, "FRAMES_PER_SEGMENT", 3)
    monkeypatch.setattr(convert_stage, "_SECONDS_BETWEEN_EVENTS", 0)

    def begun(code: str) -> dict[str, int]:
        """What a run by that code, stopped late, did first of each thing, by the frames that it says are done."""
        first: dict[str, int] = {}
        monkeypatch.setattr(_marked_output, "code_sha256", lambda: code)
        monkeypatch.setattr(_plate_survey, "code_sha256", lambda: code)

        def note(event: Event) -> None:
            first.setdefault(event.message, int(event.done))
            if event.message == "swapping" and event.done >= 11:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            convert(clip, model, "abel", "bea", tmp_path / "swap", report=note)
        return {name: first[name] for name in ("looking for faces", "measuring colours", "swapping") if name in first}

    fresh = begun("this")
    assert list(fresh) == ["looking for faces", "measuring colours", "swapping"]
    assert begun("this") == {"swapping": 10}
    assert begun("another") == fresh


def test_expressions_are_made_stronger_only_for_a_model_that_is_told_them(clip, model, tmp_path):
    strong = ConvertRecipe(expression_strength=1.5)
    assert convert(clip, model, "abel", "bea", tmp_path / "told", recipe=strong, frames=(3, 4)).figures["num_swapped"] == 2
    untold = write_identity_model(tmp_path / "identity", read_galleries(model, {}))
    for setting in ({"recipe": strong}, {"ranges": [RangeSettings(strong, frames=(3, 4))]}):
        with pytest.raises(BadInput, match="expression_strength"):
            convert(clip, untold, "abel", "bea", tmp_path / "untold", **setting)
        assert not (tmp_path / "untold").exists(), "said before the plate is looked through"


def test_shadows_are_left_out_only_for_a_model_that_draws_in_ordinary_light(clip, model, tmp_path):
    as_lit = write_identity_model(tmp_path / "identity", read_galleries(model, {}))
    with pytest.raises(BadInput, match="shading_strength"):
        convert(clip, as_lit, "abel", "bea", tmp_path / "swap", recipe=ConvertRecipe(shading_strength=0.0))
    assert not (tmp_path / "swap").exists()


def test_detail_of_exemplars_is_asked_for_only_of_a_model_that_keeps_some(clip, model, tmp_path):
    without = ConvertRecipe(exemplar_strength=0.5)
    for setting in ({"recipe": without}, {"ranges": [RangeSettings(without, frames=(3, 4))]}):
        with pytest.raises(BadInput, match=r"keeps no pictures of bea \(num_exemplars\); leave exemplar_strength at 1"):
            convert(clip, model, "abel", "bea", tmp_path / "swap", **setting)
    assert not (tmp_path / "swap").exists()


def test_some_frames_of_a_clip_are_converted_alone_and_frames_that_it_lacks_are_refused(clip, model, tmp_path):
    result = convert(clip, model, "abel", "bea", tmp_path / "alone", frames=(3, 4))
    assert (result.figures["num_frames"], result.figures["num_swapped"]) == (2, 2)
    with pytest.raises(BadInput, match="has no frame 900"):
        convert(clip, model, "abel", "bea", tmp_path / "beyond", frames=(900, 950))
    assert convert(clip, model, "abel", "bea", tmp_path / "beyond", frames=(3, 4)).figures["num_swapped"] == 2
    by_shot = [RangeSettings(ConvertRecipe(), shot=0)]
    with pytest.raises(BadInput, match="by frames"):
        convert(clip, model, "abel", "bea", tmp_path / "shots", frames=(3, 4), ranges=by_shot)


@pytest.mark.parametrize("place", [{"shot": 3}, {"frames": (14, 20)}])
def test_a_range_that_the_plate_lacks_is_refused_and_the_faces_found_serve_the_next_try(clip, model, tmp_path, place):
    wrong, right = ([RangeSettings(ConvertRecipe(), is_swapped=False, **at)] for at in (place, {"frames": (12, 20)}))
    with pytest.raises(BadInput, match=r"range .*: the plate has (1 shots|14 frames), counted from 0"):
        convert(clip, model, "abel", "bea", tmp_path / "swap", ranges=wrong)
    events: list[Event] = []
    figures = convert(clip, model, "abel", "bea", tmp_path / "swap", ranges=right, report=events.append).figures
    assert (figures["num_swapped"], figures["num_left_out"]) == (12, 2)
    assert "looking for faces" not in {event.message for event in events}


def test_a_plate_that_is_the_current_folder_is_called_by_its_own_name(clip, model, tmp_path, monkeypatch):
    monkeypatch.chdir(clip)
    convert(Path("."), model, "abel", "bea", tmp_path / "swap", frames=(3, 3))
    assert "1 of 1 frames of abel are swapped." in (tmp_path / "swap/report.html").read_text(encoding="utf-8")
    with FaceSet.open(tmp_path / "swap/plate") as faces:
        assert faces.sources() == ("abel",)


def test_the_mask_beside_a_clip_is_found_also_where_the_clip_is_the_current_folder(plate, monkeypatch):
    mask = plate.with_name("plate_mask")
    mask.mkdir()
    monkeypatch.chdir(plate)
    clip = open_clip(Path("."))
    assert (clip.path, clip.mask) == (plate, mask)


def test_swapped_names_are_refused_by_who_is_there_and_the_right_ones_need_no_second_look(clip, model, tmp_path):
    out = tmp_path / "swap"
    with pytest.raises(
        BadInput, match=r"no face in .*abel is bea; 14 frames show abel: did you mean --replace abel --with bea\?"
    ):
        convert(clip, model, "bea", "abel", out)
    assert not list(out.glob("swap.*"))
    events: list[Event] = []
    assert convert(clip, model, "abel", "bea", out, report=events.append).figures["num_swapped"] == 14
    assert "looking for faces" not in {event.message for event in events}


def test_a_plate_that_shows_nobody_whom_the_model_knows_is_refused_and_never_labelled_as_a_swap(clip, plate, model, tmp_path):
    with pytest.raises(BadInput, match="plate: no face was found in it; give footage or frames that show abel"):
        convert(plate, model, "abel", "bea", tmp_path / "nobody")
    nearly_equal = ConvertRecipe(identity_distance=1e-9)
    with pytest.raises(BadInput, match=r"no face in .*abel is abel, nor bea: .*identity_distance \(1e-09\)"):
        convert(clip, model, "abel", "bea", tmp_path / "stranger", recipe=nearly_equal)
    with pytest.raises(BadInput, match=r"no face in .*abel is abel or bea: give footage"):
        convert(clip, model, ["abel", "bea"], ["bea", "abel"], tmp_path / "strangers", recipe=nearly_equal)
    assert not list(tmp_path.glob("*/swap.*"))


def test_a_film_in_which_no_frame_could_be_swapped_is_refused_and_other_settings_may_use_its_folder(clip, model, tmp_path):
    out, eroded = tmp_path / "swap", ConvertRecipe(erode_fraction=1.0)
    for _ in range(2):
        with pytest.raises(BadInput, match=r"none of its 14 frames could be given a new face \(14 failed"):
            convert(clip, model, "abel", "bea", out, recipe=eroded)
        assert not [*out.glob("swap.*"), *out.glob("manifest.json"), *out.glob("segments/*"), *out.glob("passes/*")]
    with pytest.raises(BadInput, match=r"none of its 2 frames could be given a new face \(2 failed"):
        convert(clip, model, "abel", "bea", tmp_path / "alone", recipe=eroded, frames=(3, 4))
    assert convert(clip, model, "abel", "bea", out).figures["num_swapped"] == 14


@pytest.mark.parametrize("name", ["clip", "plate"])
def test_a_film_in_which_ranges_leave_everybody_as_they_are_is_never_labelled_as_a_swap(name, request, model, tmp_path):
    footage = request.getfixturevalue(name)
    everything = [RangeSettings(ConvertRecipe(), frames=(0, NUM_FRAMES - 1), is_swapped=False)]
    with pytest.raises(BadInput, match="its ranges leave every frame that shows abel as it is"):
        convert(footage, model, "abel", "bea", tmp_path / "swap", ranges=everything)
    assert not list(tmp_path.glob("*/swap.*"))


def test_faces_that_a_failed_conversion_left_are_not_taken_for_another_plate(clip, plate, model, tmp_path):
    with pytest.raises(BadInput, match="1 shots"):
        convert(clip, model, "abel", "bea", tmp_path / "swap", ranges=[RangeSettings(ConvertRecipe(), shot=3)])
    with pytest.raises(BadInput, match="no face was found"):
        convert(plate, model, "abel", "bea", tmp_path / "swap")


def test_strict_finishes_first_and_another_recipe_into_the_same_folder_is_refused(clip, model, tmp_path):
    plate = shutil.copytree(clip, tmp_path / "plate")
    height, width = read_image(plate / "0000.png").shape[:2]
    write_png(plate / "0014.png", soft_texture(0, width, height))
    with pytest.raises(UnfinishedFrames, match=r"1 of 15 frames.*ledger\.jsonl"):
        convert(plate, model, "abel", "bea", tmp_path / "swap", is_strict=True)
    assert (tmp_path / "swap/manifest.json").exists()
    assert convert(plate, model, "abel", "bea", tmp_path / "swap").figures["num_without_face"] == 1
    with pytest.raises(BadInput, match="crf: 14 there, 20 now"):
        convert(plate, model, "abel", "bea", tmp_path / "swap", recipe=ConvertRecipe(crf=20))
