"""A project file is read strictly, and its plan knows what is out of date."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from clips import make_clip
from tiny_training import TINY
from understudy.project import plan, run_project, steps_of, with_earlier
from understudy.projectfile import Project, read_project
from understudy.setaside import set_aside
from understudy.stages.train import train
from understudy.store.json_files import read_json, write_json
from understudy.store.manifest import Manifest, write_manifest
from understudy.types import BadInput, Event
from written_projects import NAMES, PROJECT, finished, pretend_finished, project_with, states, write_project


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_project(tmp_path)


# ---- reading --------------------------------------------------------------------------------------------------------------


def test_a_project_file_names_performers_footage_and_swaps(folder: Path) -> None:
    project = read_project(folder / "film.toml")
    assert project.out == folder / "made"
    assert project.performers["abel"].footage == (folder / "clips/abel_1.mp4", folder / "clips/abel_2.mp4")
    assert project.performers["bea"].like == (folder / "bea.jpg",)
    assert (project.recipe.name, project.recipe.batch_size, project.minutes) == ("quick", 8, 9)
    (swap,) = project.swaps
    assert (swap.name, swap.replace, swap.with_, swap.recipe.colour) == ("010", ("abel",), ("bea",), "none")


def test_a_project_may_lie_in_a_folder_whose_name_reads_as_a_pattern(folder: Path) -> None:
    moved = folder.rename(folder.with_name("film [take 2]"))
    footage = read_project(moved / "film.toml").performers["abel"].footage
    assert footage == (moved / "clips/abel_1.mp4", moved / "clips/abel_2.mp4")


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('name = "film"', 'nme = "film"', "project.name: field required"),
        ("minutes = 9", "minuts = 9", "train.minuts: unknown key; did you mean 'minutes'?"),
        ("minutes = 9", "minutes = -1", "train.minutes: input should be greater than 0"),
        ("minutes = 9", 'minutes = "9"', "train.minutes: expected a number, got '9'"),
        ("minutes = 9", 'steps = "100"', "train.steps: expected a whole number, got '100'"),
        ("minutes = 9", "steps = 100.0", "train.steps: expected a whole number, got 100.0"),
        ("minutes = 9", 'recipe = "quik"', "train: recipe 'quik' is unknown; did you mean 'quick'?"),
        (
            "batch_size = 8",
            "batch_sise = 8",
            "train: setting 'batch_sise' is unknown to this recipe; did you mean 'batch_size'?",
        ),
        ("minutes = 9", "minutes = 9\nsteps = 100", "train: expected minutes or steps, got both"),
        ("minutes = 9", 'until = "bored"', "train.until: input should be 'spent' or 'plateau'"),
        ("minutes = 9", 'from = "clips"', "train.from: "),
        ("minutes = 9", 'take = "encoder"', "train.from: take=encoder says what to take of a model, and none is named"),
        ('colour = "none"', 'notice_language = "xx"', "swap.1: setting notice_language: expected one of en, de,"),
        ("batch_size = 8", "batch_size = 0.5", "train: setting batch_size: expected a whole number, got 0.5"),
        ("set = { batch_size = 8 }", 'set = "batch_size=8"', "train.set: expected a table of settings, as in set = {"),
        ('set = { colour = "none" }', 'set = ""', "swap.1.set: expected a table of settings, as in set = { batch_size = 8 }"),
        ('set = { colour = "none" }', 'range = [{ set = "crf=1" }]', "swap.1.range.1.set: expected a table of settings"),
        ("batch_size = 8", "batch_size = [8]", "train.set.batch_size: expected a number, text, true or false, got [8]"),
        ("batch_size = 8", "batch_size = true", "train: setting batch_size: expected a whole number, got 'true'"),
        ("[train]\nminutes = 9\nset = { batch_size = 8 }", "[curate]\nset = 8", "curate.set: expected a table of settings"),
        ("[performers.abel]\n", "[performers]\nabel = 3\n[x]\n", "performers.abel: expected a table of keys and values, got 3"),
        ("[performers.abel]\n", "[performers]\nset = 3\n[x]\n", "performers.set: expected a table of keys and values, got 3"),
        ("[performers.abel]\n", "[performers.set]\n[x]\n", "performers.set.footage: field required"),
        ('plate = "shots/010.mp4"', 'plate = "shots/011.mp4"', "swap.1.plate: no file or folder matches 'shots/011.mp4'"),
        ('plate = "shots/010.mp4"', 'plate = "clips/*.mp4"', "swap.1.plate: expected one file or folder"),
        ("clips/bea.mp4", "clips/b*.mov", "performers.bea.footage: no file or folder matches 'clips/b*.mov'"),
        ('with = "bea"', 'with = "be"', "swap.1.with: no performer is called 'be'; did you mean 'bea'?"),
        ('with = "bea"', 'with = "abel"', "swap.1: replace and with are both 'abel'"),
        ('with = "bea"', 'with = "bea"\nname = "../x"', "swap.1.name: '../x' cannot be the name of a folder"),
        ("[performers.bea]", '[performers."../bea"]', "performers.../bea: performer name: expected letters, digits"),
        ("[train]", "[train", "not a TOML file"),
    ],
)
def test_a_mistake_in_a_project_file_names_the_file_and_the_key(folder: Path, old: str, new: str, complaint: str) -> None:
    with pytest.raises(BadInput) as caught:
        project_with(folder, old, new)
    assert str(caught.value).startswith(str(folder / "film.toml"))
    assert complaint in str(caught.value)


def test_a_plate_that_is_the_current_folder_names_its_swap(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    project_with(folder, '"shots/010.mp4"', '"."')
    assert [swap.name for swap in read_project(Path("film.toml")).swaps] == [folder.name]


def test_two_swaps_of_one_name_are_refused(folder: Path) -> None:
    again = PROJECT[PROJECT.index("[[swap]]") :]
    with pytest.raises(BadInput, match="2 swaps are called '010'"):
        project_with(folder, again, again + again)


def test_everything_is_written_below_the_out_folder(folder: Path) -> None:
    project = read_project(folder / "film.toml")
    assert [step.out for step in steps_of(project)] == [project.out / name for name in NAMES]


# ---- planning -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("out", "words"), [("bea.jpg", "bea.jpg is none"), ("bea.jpg/deep/er", "bea.jpg is none")])
def test_an_out_that_cannot_be_a_folder_is_named_before_anything_is_done(folder: Path, out: str, words: str) -> None:
    project = project_with(folder, '"made"', f'"{out}"')
    for act in (plan, run_project):
        with pytest.raises(BadInput, match=f"the project's out: .*{words}; name another place"):
            act(project)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a file system that holds no new folders")
def test_an_out_that_cannot_be_made_is_one_line_and_no_traceback(folder: Path) -> None:
    with pytest.raises(BadInput, match=r"/proc/film cannot be (made|used)"):
        run_project(project_with(folder, '"made"', '"/proc/film"'))


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is closed to root")
def test_an_out_that_is_closed_to_the_user_is_named(folder: Path) -> None:
    project = project_with(folder, '"made"', '"closed"')
    (folder / "closed").mkdir(mode=0)
    with pytest.raises(BadInput, match=r"closed cannot be used: .* is closed to you"):
        plan(project)


def test_a_new_project_does_everything_in_order(folder: Path) -> None:
    assert states(plan(read_project(folder / "film.toml"))) == dict.fromkeys(NAMES, "new")


def test_a_finished_project_has_nothing_to_do(folder: Path) -> None:
    assert states(plan(finished(folder))) == dict.fromkeys(NAMES, "up to date")


def test_a_moved_project_is_still_up_to_date(folder: Path) -> None:
    finished(folder)
    moved = folder.rename(folder.with_name("elsewhere"))
    assert states(plan(read_project(moved / "film.toml"))) == dict.fromkeys(NAMES, "up to date")


def test_changed_footage_redoes_its_performer_and_all_that_builds_on_it(folder: Path) -> None:
    project = finished(folder)
    (folder / "clips/abel_2.mp4").write_bytes(b"another take")
    planned = plan(project)
    assert states(planned) == {**dict.fromkeys(NAMES, "changed"), "faces/bea": "up to date"}
    assert planned[0].reason == "footage 2: abel_2.mp4 changed"
    assert planned[2].reason == "faces/abel is done first"


def test_a_changed_plate_redoes_only_its_swap_and_report(folder: Path) -> None:
    project = finished(folder)
    (folder / "shots/010.mp4").write_bytes(b"another take")
    assert [name for name, state in states(plan(project)).items() if state != "up to date"] == ["swaps/010", "reports/010"]


def test_settings_that_are_newer_than_the_project_change_nothing_where_they_are_off(folder: Path) -> None:
    project_with(folder, "batch_size = 8", 'batch_size = 8, starter = "none"')
    finished(folder)
    records = read_json(folder / "made/stages.json")
    for setting in ("starter", "equivariance_weight", "half_pixel_fault", "perceptual_file"):
        del records["stages"]["model"]["recipe"][setting]
    records["stages"]["model"]["recipe"]["default_minutes"] = 9.0
    write_json(folder / "made/stages.json", records)
    assert states(plan(read_project(folder / "film.toml"))) == dict.fromkeys(NAMES, "up to date")
    planned = plan(project_with(folder, "batch_size = 8", 'batch_size = 8, starter = "rendered"'))
    assert planned[2].reason == "starter: None, now rendered"


def test_a_changed_setting_says_what_it_was(folder: Path) -> None:
    finished(folder)
    planned = plan(project_with(folder, "batch_size = 8", "batch_size = 4"))
    assert states(planned)["model"] == "changed"
    assert planned[2].reason == "batch_size: 8, now 4"


def test_more_minutes_go_on_in_the_same_folder(folder: Path) -> None:
    finished(folder)
    planned = plan(project_with(folder, "minutes = 9", "minutes = 20"))
    assert (planned[2].state, planned[2].reason) == ("unfinished", "minutes: 9.0, now 20.0")
    assert states(planned)["swaps/010"] == "changed"


def test_a_training_until_a_plateau_goes_on_in_the_same_folder(folder: Path) -> None:
    finished(folder)
    planned = plan(project_with(folder, "minutes = 9", 'minutes = 9\nuntil = "plateau"'))
    assert planned[2].state == "unfinished"
    assert planned[2].step.arguments["until"] == "plateau"


def test_a_training_begins_from_a_model_and_anew_when_that_has_another_best_state(folder: Path, face_sets: list[Path]) -> None:
    train(face_sets, folder / "older", recipe=TINY, steps=1)
    finished(folder)
    begun = 'minutes = 9\nfrom = "older"\ntake = "encoder"\nfreeze = ["encoder"]'
    project = project_with(folder, "minutes = 9", begun)
    planned = plan(project)[2]
    assert planned.state == "changed"
    asked = {name: planned.step.arguments[name] for name in ("start_from", "take", "freeze")}
    assert asked == {"start_from": folder / "older", "take": "encoder", "freeze": ("encoder",)}
    for step in steps_of(project):
        pretend_finished(project, step)
    assert states(plan(project)) == dict.fromkeys(NAMES, "up to date")
    train(face_sets, folder / "older", recipe=TINY, steps=2)
    again = plan(project)[2]
    assert (again.state, again.reason) == ("changed", "start_from 1: older changed")


def test_a_stage_without_a_manifest_goes_on(folder: Path) -> None:
    project = finished(folder)
    (project.out / "model" / "manifest.json").unlink()
    planned = plan(project)
    assert (planned[2].state, planned[2].reason) == ("unfinished", "goes on where it stopped")


def test_a_model_that_was_trained_on_by_hand_is_converted_with_again(folder: Path) -> None:
    project = finished(folder)
    write_manifest(project.out / "model", Manifest("train", {}, recipe_sha256="", figures={"step": 900}, outputs={}))
    assert states(plan(project)) == {
        **dict.fromkeys(NAMES, "up to date"),
        "swaps/010": "changed",
        "reports/010": "changed",
    }


def test_a_folder_without_a_record_is_not_trusted(folder: Path) -> None:
    project = finished(folder)
    (project.out / "stages.json").unlink()
    assert states(plan(project)) == dict.fromkeys(NAMES, "changed")


@pytest.mark.parametrize(
    "damaged", ["", '{"schema": 1, "stages": {"mod', "{}", '{"schema": 1}', '{"schema": 1, "stages": []}', "[]"]
)
def test_a_damaged_record_is_told_in_one_line_and_can_be_deleted(folder: Path, damaged: str) -> None:
    project = finished(folder)
    record = project.out / "stages.json"
    record.write_text(damaged, encoding="utf-8")
    for ask in (plan, run_project):
        with pytest.raises(BadInput) as told:
            ask(project)
        assert str(told.value).startswith(str(record))
        assert str(told.value).endswith("or delete it: the stages then run again, and what they made is kept in previous/")
        assert "\n" not in str(told.value)
    record.unlink()
    assert states(plan(project)) == dict.fromkeys(NAMES, "changed")


def test_a_new_swap_leaves_the_others_alone(folder: Path) -> None:
    project = finished(folder)
    (swap,) = project.swaps
    more = replace(project, swaps=(swap, replace(swap, name="011")))
    assert [name for name, state in states(plan(more)).items() if state == "new"] == ["swaps/011", "reports/011"]


def test_what_a_stage_made_before_is_kept(folder: Path) -> None:
    project = finished(folder)
    step = steps_of(project)[2]
    (step.out / "weights").write_text("a night's work", encoding="utf-8")
    for _ in range(2):
        set_aside(project.out, step.name)
        pretend_finished(project, step)
    kept = sorted(project.out.glob("previous/*/model"))
    assert len(kept) == 2
    assert (kept[0] / "weights").read_text(encoding="utf-8") == "a night's work"


def test_a_folder_of_the_user_s_own_in_a_stage_s_place_is_refused_and_stays(folder: Path) -> None:
    project = read_project(folder / "film.toml")
    own = project.out / "model" / "my_3d_model.obj"
    own.parent.mkdir(parents=True)
    own.write_text("a week's work", encoding="utf-8")
    (own.parent / "manifest.json").write_text('{"name": "a web page"}', encoding="utf-8")
    for ask in (plan, run_project):
        with pytest.raises(BadInput, match="made/model: was not made by this project; move it elsewhere"):
            ask(project)
    assert own.read_text(encoding="utf-8") == "a week's work"
    assert not (project.out / "previous").exists()


def test_what_was_set_aside_and_where_is_told(folder: Path) -> None:
    make_clip(folder / "shots/010.mp4")
    project = finished(folder)
    (folder / "film.toml").write_text(PROJECT.replace("batch_size = 8", "batch_size = 4"))
    events: list[Event] = []
    with pytest.raises(BadInput):  # nobody has consented
        run_project(read_project(folder / "film.toml"), events.append)
    (place,) = project.out.glob("previous/*/model")
    assert f"what was in {project.out / 'model'} is now in {place}" in [event.message for event in events]


# ---- curating -------------------------------------------------------------------------------------------------------------

CURATIONS = ["faces/abel/curation", "faces/bea/curation"]


def finished_with_curation(folder: Path) -> Project:
    project = project_with(folder, "[train]", "[curate]\nset = { blur_fraction = 0.5 }\n\n[train]")
    for step in steps_of(project):
        pretend_finished(project, step)
    return project


def test_a_project_that_curates_does_so_between_extraction_and_training(folder: Path) -> None:
    project = project_with(folder, "[train]", "[curate]\nset = { blur_fraction = 0.5 }\n\n[train]")
    steps = steps_of(project)
    assert [step.name for step in steps] == [*NAMES[:2], *CURATIONS, *NAMES[2:]]
    assert [step.out for step in steps[2:4]] == [project.out / name for name in CURATIONS]
    assert [step.arguments["against"] for step in steps[2:4]] == [project.out / "faces/bea", project.out / "faces/abel"]
    assert project.curation is not None
    assert project.curation.blur_fraction == 0.5


def test_a_finished_project_that_curates_has_nothing_to_do(folder: Path) -> None:
    project = finished_with_curation(folder)
    assert set(states(plan(project)).values()) == {"up to date"}


def test_another_curation_trains_anew_but_extracts_nothing(folder: Path) -> None:
    project = finished_with_curation(folder)
    assert project.curation is not None
    other = replace(project, curation=replace(project.curation, blur_fraction=0.6))
    assert states(plan(other)) == {
        **dict.fromkeys([*CURATIONS, *NAMES[2:]], "changed"),
        **dict.fromkeys(NAMES[:2], "up to date"),
    }


@pytest.mark.parametrize(("codec", "name"), [("h265", "swap.mp4"), ("prores_422_hq", "swap.mov"), ("exr", "exr")])
def test_what_is_evaluated_is_what_the_codec_leaves(folder: Path, codec: str, name: str) -> None:
    project = project_with(folder, 'set = { colour = "none" }', f'set = {{ codec = "{codec}" }}')
    evaluated = steps_of(project)[-1].arguments["swap"]
    assert evaluated == project.out / "swaps/010" / name


def test_a_face_set_that_was_curated_by_hand_is_trained_on_anew(folder: Path) -> None:
    project = finished(folder)
    curation = project.out / CURATIONS[0]
    curation.mkdir()
    write_manifest(curation, Manifest("curate", {}, recipe_sha256="", figures={"num_kept": 30}, outputs={}))
    planned = states(plan(project))
    assert (planned["faces/abel"], planned["faces/bea"], planned["model"]) == ("up to date", "up to date", "changed")


def test_a_mistake_in_the_curate_table_names_the_key(folder: Path) -> None:
    with pytest.raises(
        BadInput, match="curate: setting 'blur_fractoin' is unknown to this recipe; did you mean 'blur_fraction'"
    ):
        project_with(folder, "[train]", "[curate]\nset = { blur_fractoin = 0.5 }\n\n[train]")


@pytest.mark.parametrize("name", ["010", "010 [take 2]"])
def test_a_conversion_is_told_where_it_was_last_set_aside(folder: Path, name: str) -> None:
    project = project_with(folder, "[[swap]]\n", f'[[swap]]\nname = "{name}"\n')
    step = steps_of(project)[-2]
    pretend_finished(project, step)
    assert with_earlier(project.out, step).arguments["earlier"] == step.out
    for _ in range(2):
        set_aside(project.out, step.name)
        pretend_finished(project, step)
    assert with_earlier(project.out, step).arguments["earlier"] == sorted(project.out.glob("previous/*"))[-1] / step.name
    assert "earlier" not in with_earlier(project.out, steps_of(project)[0]).arguments
