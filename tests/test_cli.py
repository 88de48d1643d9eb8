"""The command line: one line for a mistake, the right exit status, exactly one JSON object."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

import understudy
from understudy import cli
from understudy.cli import main, run_command
from understudy.console import duration
from understudy.estimate import estimate
from understudy.model.identity import write_identity_model
from understudy.recipes import TRAIN_RECIPES, parse_settings, train_recipe
from understudy.settings import TrainRecipe
from understudy.types import BadInput, Event, StageResult, UnfinishedFrames


def understudy_command(*arguments: str | Path, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    """The real command in a process of its own."""
    command = [sys.executable, "-m", "understudy", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=folder, env={**os.environ, "COLUMNS": "200"}
    )


# ---- mistakes -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["frobnicate"], "No such command 'frobnicate'"),
        (["extract", "clip.mp4", "--out", "faces"], "--performer"),
        (["extract", "clip.mp4", "--performr", "abel"], "--performer"),
        (["train", "a", "b", "--out", "m", "--minutes", "soon"], "--minutes"),
        (["train", "a", "b", "--out", "m", "--minutes", "1", "--steps", "1"], "--minutes and --steps were both given"),
        (["train", "a", "b", "--out", "m", "--take", "encoder"], "--take encoder was given without --from"),
        (["train", "a", "b", "--out", "m", "--recipe", "quik"], "did you mean 'quick'?"),
        (["train", "a", "b", "--out", "m", "--set", "bach_size=8"], "did you mean 'batch_size'?"),
        (["train", "a", "b", "--out", "m", "--set", "batch_size"], "expected key=value"),
        (
            ["train", "a", "b", "--out", "m", "--set", "batch_size=many"],
            "setting batch_size: expected a whole number, got 'many'",
        ),
        (["train", "a", "b", "--out", "m", "--set", "seed=-1"], "setting seed: expected 0 to 10000000, got -1"),
        (["train", "a", "b", "--out", "m", "--set", "seed=1000000000000"], "setting seed: expected 0 to 10000000, got 10000"),
        (["train", "a", "b", "--out", "m", "--set", "adam_beta1=1"], "setting adam_beta1: expected 0 to 0.9999, got 1.0"),
        (["train", "a", "b", "--out", "m", "--set", "held_out_fraction=1"], "setting held_out_fraction: expected 0 to 0.5"),
        (["train", "a", "b", "--out", "m", "--set", "width=0"], "setting width: expected 0.015625 to 8, got 0.0"),
        (["train", "a", "b", "--out", "m", "--set", "batch_size=0"], "setting batch_size: expected 1 or more, got 0"),
        (["train", "a", "b", "--out", "m", "--steps", "0"], "--steps"),
        (["train", "a", "b", "--out", "m", "--minuts", "3"], "(understudy train --help)"),
        (
            ["convert", "p", "--model", "m", "--replace", "a", "--with", "b", "--out", "s", "--set", "crf=99"],
            "crf: expected 0 to 51",
        ),
        (
            ["convert", "p", "--model", "m", "--replace", "a", "--with", "b", "--out", "s", "--set", "matte_seconds=1e300"],
            "setting matte_seconds: expected 0 to 1, got 1e+300",
        ),
        (["evaluate", "swap.mp4", "--plate", "p.mp4", "--out", "r", "--mask", "m"], "--mask was given without --truth"),
        (["run", "nowhere.toml"], "nowhere.toml: no such project file"),
        (["demo", "--minutes", "0"], "--minutes: expected more than 0"),
    ],
)
def test_a_mistake_is_one_line_on_stderr_and_exit_status_2(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command([*arguments, "--json"] if arguments[0] != "frobnicate" else arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert words in err
    assert err.startswith("understudy: ")
    assert err.count("\n") == 1


def test_a_bad_file_is_one_line_without_a_traceback_in_a_real_process(tmp_path: Path) -> None:
    (tmp_path / "film.toml").write_text("[project]\nname = 3\n", encoding="utf-8")
    done = understudy_command("run", "film.toml", "--json", folder=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "understudy: film.toml: project.name: input should be a valid string\n"


def test_our_own_fault_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fault(*_: object) -> StageResult:
        raise ZeroDivisionError

    monkeypatch.setattr("understudy.project.call", fault)
    with pytest.raises(ZeroDivisionError):
        run_command(["extract", "clip.mp4", "--performer", "abel", "--out", "faces"])


STOPPED = [
    (["train", "a", "b", "--out", "m"], "continues"),
    (["evaluate", "swap.mp4", "--plate", "p.mp4", "--out", "r"], "continues"),
    (["curate", "faces"], "begins anew"),
]


@pytest.mark.parametrize("reason", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(("command", "what"), STOPPED)
def test_being_stopped_says_whether_the_same_command_continues(
    reason: signal.Signals, command: list[str], what: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("understudy.project.call", lambda *_: signal.raise_signal(reason))
    monkeypatch.setattr("sys.argv", ["understudy", *command])
    handlers = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets what it starts in the background ignore it
    with pytest.raises(SystemExit) as caught:
        main()
    for each, handler in handlers.items():
        signal.signal(each, handler)
    assert caught.value.code == 130
    assert capsys.readouterr().err == f"understudy: Stopped. The same command {what}.\n"


@pytest.mark.parametrize("command", [[], ["train"], ["consent"], ["consent", "new"], ["verify"]])
def test_a_short_h_is_help_everywhere(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    texts = []
    for option in ("-h", "--help"):
        assert run_command([*command, option]) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1]
    assert "-h, --help" in texts[0]


def test_strict_prints_the_result_and_exits_with_4(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from understudy.store.manifest import Manifest, write_manifest

    def unfinished(*_: object) -> StageResult:
        write_manifest(tmp_path, Manifest("convert", {}, recipe_sha256="", figures={"num_failed": 2}, outputs={}))
        raise UnfinishedFrames("2 frames are in the ledger")

    monkeypatch.setattr("understudy.project.call", unfinished)
    names = ["--model", "m", "--replace", "abel", "--with", "bea", "--out", str(tmp_path)]
    assert run_command(["convert", "plate.mp4", *names, "--strict", "--json"]) == 4
    out, err = capsys.readouterr()
    assert json.loads(out) == {"num_failed": 2}
    assert err == "understudy: 2 frames are in the ledger\n"


# ---- results --------------------------------------------------------------------------------------------------------------


def test_doctor_prints_exactly_one_json_object() -> None:
    done = understudy_command("doctor", "--json")
    assert done.returncode == 0
    found = json.loads(done.stdout)
    assert found["understudy"] == understudy.__version__
    assert {"libx264", "ffv1"} <= set(found["encoders"])
    assert all({"licence", "is_commercial_use_ok", "is_present"} <= set(weight) for weight in found["weights"])
    assert {weight["name"]: weight["licence"] for weight in found["weights"]}["content_gate"] == "AGPL-3.0"


def test_dry_run_prints_the_full_recipe_and_the_expected_cost(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["train", "a", "b", "--out", "m", "--minutes", "3", "--set", "seed=7", "--dry-run", "--json"]) == 0
    (stage,) = json.loads(capsys.readouterr().out)["plan"]
    assert stage["asked"]["recipe"]["seed"] == 7
    assert set(stage["asked"]["recipe"]) == set(TrainRecipe.__dataclass_fields__)
    assert stage["estimated_seconds"] >= 180
    assert stage["estimated_memory_gb"] > 0


def test_dry_run_shows_settings_as_one_would_type_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["train", "a", "b", "--out", "m", "--dry-run"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["recipe.is_light_measured", "true"] in lines
    assert not {"True", "False", "None"} & {word for line in lines for word in line}


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("train a b --out m --from nothere", "--from nothere: there is no checkpoint"),
        ("extract {clip} --performer abel --out faces --like nothere.png", "nothere.png: cannot be read (No such file"),
        ("evaluate {clip} --plate {clip} --truth nothere.mp4 --out report", "nothere.mp4: no such file"),
    ],
)
def test_a_dry_run_refuses_what_is_not_there(
    sample: Path, capsys: pytest.CaptureFixture[str], command: str, words: str
) -> None:
    clip = str(sample / "abel_test.mp4")
    assert run_command([*(part.format(clip=clip) for part in command.split()), "--dry-run"]) == 2
    assert f"understudy: {words}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("train a b --out m --until plateau --recipe original", "--until plateau is judged on faces held out"),
        ("train a b --out m --set compile=default", "compile=default needs a GPU"),
        ("train a b --out m --set precision=float16", "precision=float16 needs a GPU"),
        ("train a b --out m --recipe original --set cycle_weight=1", "set alternate_performers=false"),
        ("train a b --out m --set perceptual_weight=1 --set perceptual_network=vggface", "needs weights of your own"),
        (
            "train a b --out m --set perceptual_weight=1 --set perceptual_network=vgg16 --set perceptual_file=no",
            "no is not there",
        ),
        ("train {abel} --out m", "expected two or more face sets to train on, got 1"),
        (
            "train {abel} {bea} --out m --freeze bae",
            "--freeze bae: expected encoder or a performer who is trained on: abel, bea",
        ),
        ("train {abel} {abel} --out m", "expected face sets of different performers"),
        ("extract {clip} --performer a/b --out faces", "a/b"),
        ("convert {clip} --model no --replace abel --with bea --out swap --frames 9-4", "--frames '9-4'"),
        ("convert {clip} --model {model} --replace abel --with cesar --out swap", "--with cesar: expected a performer"),
        (
            "convert {clip} --model {model} --replace abel --with bea --out swap --set exemplar_strength=0.5",
            "exemplar_strength at 1",
        ),
        (
            "convert {clip} --model {model} --replace abel --with bea --out swap --set shading_strength=0",
            "shading_strength at 1",
        ),
        ("evaluate {model} --plate {clip} --out report", "model: holds no pictures"),
    ],
)
def test_a_dry_run_refuses_what_the_command_would_at_its_start(
    sample: Path,
    face_sets: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    galleries = {name: np.full((1, 128), value, np.float32) for name, value in (("abel", 0), ("bea", 1))}
    places = {"clip": sample / "abel_test.mp4", "model": write_identity_model(tmp_path / "model", galleries)}
    places |= {"abel": face_sets[0], "bea": face_sets[1]}
    for is_dry in (True, False):
        assert run_command([*(part.format(**places) for part in command.split()), *(["--dry-run"] if is_dry else [])]) == 2
        assert words in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_longer_film_is_expected_to_need_more_memory(sample: Path) -> None:
    one, ten = (estimate("extract", {"footage": (sample / "abel_train.mp4",) * times}) for times in (1, 10))
    assert ten.memory_gb > one.memory_gb


def test_dry_run_of_the_demo_shows_each_stage_and_makes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["demo", str(tmp_path / "out"), "--dry-run"]) == 0
    text = capsys.readouterr().out
    assert [line.split()[0] for line in text.splitlines() if line and line[0] != " "] == [
        *("extract", "extract", "train", "convert", "evaluate", "convert", "evaluate")
    ]
    assert "recipe.learning_rate" in text
    assert not (tmp_path / "out").exists()


def test_help_does_not_wait_for_torch() -> None:
    code = "import sys; from understudy.cli import main, run_command; run_command(['--help']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def test_the_python_package_offers_the_verbs_of_the_command_line() -> None:
    verbs = {"extract", "train", "convert", "evaluate", "run", "demo", "doctor", "verify"}
    verbs |= {"consent_new", "consent_show", "consent_check", "consent_revoke"}
    assert verbs <= set(understudy.__all__)
    assert all(callable(getattr(understudy, verb)) for verb in verbs)
    assert list(understudy.__all__) == sorted(understudy.__all__)


# ---- progress -------------------------------------------------------------------------------------------------------------


def test_progress_without_a_terminal_is_at_most_a_line_each_five_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    from understudy.console import progress

    with progress() as report:
        for done in range(1000):
            report(Event("extract", "progress", done, 1000, "frames"))
        report(Event("extract", "warning", message="12 frames did not decode"))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert lines[-1] == "extract: warning: 12 frames did not decode"


def test_progress_on_a_terminal_of_80_columns_shows_the_time_left_whole() -> None:
    work = """
from understudy import console
from understudy.types import Event
console.BAR_SECONDS = 0
with console.progress() as report:
    report(Event("run", "started", 0, 7, message="extract faces/abel", figures={"seconds_after": 6000.0}))
    for done in range(299):
        report(Event("extract", "progress", done, 300, "frames", "looking for faces", {"faces_found": done}))
"""
    shown = on_a_terminal([sys.executable, "-c", work], num_columns=80)
    assert "preparing" in shown
    assert re.search(r"extract +━+.* 0:00 left \(1:40:00 in all\) · 298 of 300 frames *[\r\n]", shown)


def on_a_terminal(command: Sequence[str], num_columns: int) -> str:
    """All that a command writes to a terminal on its stderr, without colours."""
    terminal, its_end = os.openpty()
    environment = {**os.environ, "TERM": "xterm", "NO_COLOR": "1", "COLUMNS": str(num_columns)}
    with subprocess.Popen(command, stderr=its_end, env=environment), os.fdopen(terminal, "rb", buffering=0) as reader:
        os.close(its_end)
        written = b"".join(_until_closed(reader))
    return re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", written.decode())


def _until_closed(terminal: io.RawIOBase) -> Iterator[bytes]:
    with suppress(OSError):  # EIO is how Linux tells that the other end is closed
        while piece := terminal.read(65536):
            yield piece


@pytest.mark.parametrize(("seconds", "text"), [(4.6, "0:05"), (59.6, "1:00"), (3723, "1:02:03")])
def test_durations_read_like_a_clock(seconds: float, text: str) -> None:
    assert duration(seconds) == text


# ---- settings -------------------------------------------------------------------------------------------------------------


def test_settings_are_read_as_the_field_s_own_type() -> None:
    settings = parse_settings(["batch_size=4", "learning_rate=5e-4", "half_pixel_fault=true", "framing=face"])
    recipe = train_recipe("quick", settings)
    assert (recipe.batch_size, recipe.learning_rate, recipe.half_pixel_fault, recipe.framing) == (4, 5e-4, True, "face")


def test_a_choice_outside_its_list_names_the_list() -> None:
    with pytest.raises(BadInput, match="framing: expected one of core, face, full, head, got 'nose'"):
        train_recipe("quick", {"framing": "nose"})


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            {"gan_loss": "hinge"},
            "gan_loss: does nothing while adversarial_weight and adversarial_swap_weight are 0; set one",
        ),
        ({"perceptual_network": "vgg16"}, "perceptual_network: does nothing while perceptual_weight is 0; set it too"),
        ({"perceptual_file": "weights.safetensors"}, "perceptual_file: does nothing"),
        (
            {"equivariance_weight": "0.5", "rotation_degrees": "0", "scale_fraction": "0", "shift_fraction": "0"},
            "equivariance_weight: does nothing while rotation_degrees and scale_fraction and shift_fraction are 0",
        ),
    ],
)
def test_a_setting_that_would_do_nothing_is_refused(settings: dict[str, object], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        train_recipe("quick", settings)


def test_a_setting_of_a_term_that_is_on_or_switched_off_is_taken() -> None:
    assert train_recipe("quick", {"gan_loss": "hinge", "adversarial_swap_weight": "0.1"}).gan_loss == "hinge"
    assert train_recipe("original-gan", {"gan_loss": "hinge"}).gan_loss == "hinge"
    assert train_recipe("quick", {"warp_fraction": 0, "flip_probability": 0, "warp_until": 0}).warp_until == 0


def test_a_setting_that_is_a_text_says_so() -> None:
    with pytest.raises(BadInput, match="setting perceptual_file: expected text, got 3"):
        train_recipe("quick", {"perceptual_file": 3})


@pytest.mark.parametrize("name", TRAIN_RECIPES)
def test_each_preset_carries_its_name_and_states_command_time_memory_and_score(name: str) -> None:
    assert TRAIN_RECIPES[name]().name == name
    assert all(word in (TRAIN_RECIPES[name].__doc__ or "") for word in ("Command:", "Time:", "Memory:", "Score:"))


@pytest.mark.parametrize("numbers", ["\u00b2", "5-3", "0-9999999999", "a", "1-"])
def test_numbers_of_faces_that_are_none_are_refused(numbers: str) -> None:
    with pytest.raises(BadInput, match="expected numbers of faces"):
        cli._face_numbers("--keep", [numbers])
