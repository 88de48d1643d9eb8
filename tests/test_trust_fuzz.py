"""Whatever a foreign file holds, the user gets one line and nothing is written elsewhere; `tools/fuzz.py` asks for longer."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from understudy.media import probe
from understudy.store.checkpoints import best_valid
from understudy.store.events import EVENTS_FILE, read_events
from understudy.store.faceset import FaceSet
from understudy.store.manifest import MANIFEST_FILE, Manifest, read_manifest
from understudy.types import BadInput, Refused, UnderstudyError

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))
import fuzz_targets
from fuzz_answers import check_one_line
from fuzz_mutations import mutated

TARGETS = fuzz_targets.TARGETS
NUM_CASES = {"consent": 120, "manifest": 120, "project": 200, "checkpoint": 60, "media": 60}


@pytest.fixture
def run(tmp_path: Path) -> Callable[[str, bytes], str]:
    """Reads one case of a target and returns the line that the user gets, "" where all is well."""

    def run_case(name: str, data: bytes) -> str:
        folder = tmp_path / "case"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        before = {path.name for path in tmp_path.iterdir()}
        try:
            TARGETS[name].run(data, folder)
            line = ""
        except UnderstudyError as error:
            check_one_line(error)
            line = str(error)
        assert {path.name for path in tmp_path.iterdir()} == before
        return line

    return run_case


@pytest.mark.parametrize("name", TARGETS)
def test_a_good_file_of_each_kind_is_read(name: str, run: Callable[[str, bytes], str]) -> None:
    """Else the changed ones below would all be turned away at the door."""
    lines = [run(name, seed) for seed in TARGETS[name].seeds()]
    assert sum(not line for line in lines) >= len(lines) - 1, lines


@pytest.mark.parametrize("name", TARGETS)
def test_changed_files_end_in_one_line(name: str, run: Callable[[str, bytes], str]) -> None:
    draw, seeds = random.Random(7), TARGETS[name].seeds()
    lines = [run(name, mutated(seeds, draw)) for _ in range(NUM_CASES[name])]
    assert name == "media" or sum(map(bool, lines)) > len(lines) / 10, "nothing was refused"


# ---- what the long runs found ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content", [b"\xff", b"[]", b"7", b"{", b"[" * 3000, b'{"record_sha256": ""}', b'{"a": ' + b"9" * 5000 + b"}"]
)
def test_a_face_that_is_none_is_refused(content: bytes, run: Callable[[str, bytes], str]) -> None:
    assert "is no face of a consent record" in run("consent", b"\3" + content)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"minutes = 2.5", b"minutes = " + b"9" * 5000),
        (b"like = []", b"like = " + b"[" * 3000),
        (b'out = "made"', b'out = "' + b"x" * 300 + b'"'),
        (b'out = "made"', b'out = "a\\u0000b"'),
        (b'"scene 1"', b'"' + b"x" * 300 + b'"'),
        (b'"scene 1"', b'"a\\u0000b"'),
        (b'"scene 1"', b'"../../x"'),
        (b'"b.mp4"', b'"' + b"x" * 300 + b'"'),
        (b'"b.mp4"', b'"a\\u0000b"'),
    ],
)
def test_a_project_with_impossible_values_is_bad_input(old: bytes, new: bytes, run: Callable[[str, bytes], str]) -> None:
    (good,) = TARGETS["project"].seeds()
    assert old in good
    assert "case/film.toml: " in run("project", good.replace(old, new))


def changed_state(**changes: object) -> bytes:
    state = json.loads(TARGETS["checkpoint"].seeds()[0][1:])
    for name, value in changes.items():
        state[name] = value
    return b"\0" + json.dumps({name: value for name, value in state.items() if value != "taken out"}).encode()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"recipe": "taken out"}, "has no recipe"),
        ({"recipe": 7}, "has no recipe"),
        ({"recipe": {"resolution_px": "wide"}}, "resolution_px"),
        ({"recipe": {"resolution_px": 2**40}}, "no such model was ever made"),
        ({"recipe": {"width": 1e9}}, "no such model was ever made"),
        ({"recipe": {"resolution_px": 64}}, "do not fit its recipe"),
        ({"colour": "taken out"}, "who its performers are"),
        ({"colour": {"../bea": {}}}, "performer name"),
        ({"colour": {"abel": {"mean": [1], "spread": [1]}}}, "three means"),
        ({"colour": {"cy": {"mean": [1, 1, 1], "spread": [1, 1, 1]}}}, "lacks cy"),
        ({"skin_offsets": {"abel": {"bea": [1]}}}, "skin offsets"),
        ({"expressions": "taken out"}, "expressions are measured by"),
        ({"expressions": [3]}, "no table"),
        ({"expressions": {"abel": {"neutral": [1]}}}, "expression standard"),
        ({"step": float("inf")}, "damaged"),
        ({"files": {"../../x": {"sha256": "00"}}}, "names the file '../../x'"),
        ({"files": {"x\0": {"sha256": "00", "size_bytes": 1}}}, "names the file"),
    ],
)
def test_a_model_made_to_harm_is_bad_input(changes: dict[str, object], words: str, run: Callable[[str, bytes], str]) -> None:
    assert words in run("checkpoint", changed_state(**changes))


@pytest.mark.parametrize("place", [1, 2])
@pytest.mark.parametrize("content", [b"", b"\xff" * 8 + b"{}", b"\x02\0\0\0\0\0\0\0[]", b"\x0a\0\0\0\0\0\0\0" + b"[" * 10])
def test_tensors_that_are_none_are_bad_input(place: int, content: bytes, run: Callable[[str, bytes], str]) -> None:
    assert "safetensors" in run("checkpoint", bytes([place]) + content)


def test_a_pointer_to_a_checkpoint_with_an_endless_name_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "best").write_text("9" * 5000)
    assert best_valid(tmp_path) is None


def test_events_nested_without_end_are_left_out(tmp_path: Path) -> None:
    (tmp_path / EVENTS_FILE).write_bytes(b"[" * 100_000 + b"\n")
    assert read_events(tmp_path) == []


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("crop", "../../x"),
        ("crop", "a\0b"),
        ("crop", "/etc/passwd"),
        ("landmarks", b"\0" * 7),
        ("embedding", "text"),
        ("left_px", "x"),
    ],
)
def test_a_face_set_made_to_harm_is_bad_input(column: str, value: object, tmp_path: Path) -> None:
    (tmp_path / "faces.sqlite").write_bytes(fuzz_targets._face_set_bytes())
    with FaceSet.open(tmp_path) as face_set:
        face_set._connection.execute(f"UPDATE faces SET {column} = ?", (value,))
        with pytest.raises(BadInput):
            _ = [face_set.crop_path(face) for face in face_set.faces()]


@pytest.mark.parametrize("value", ["text", b"\0" * 7, 3])
def test_a_gallery_of_embeddings_that_are_none_is_bad_input(value: object, tmp_path: Path) -> None:
    (tmp_path / "faces.sqlite").write_bytes(fuzz_targets._face_set_bytes())
    with FaceSet.open(tmp_path) as face_set:
        face_set._connection.execute("UPDATE faces SET embedding = ?", (value,))
        with pytest.raises(BadInput, match="damaged"):
            face_set.gallery()


# ---- any JSON where an object is expected ---------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELDS = ("schema", "stage", "inputs", "recipe_sha256", "figures", "outputs", "seed", "licences", "consent", "code_version")


@given(content=st.fixed_dictionaries({}, optional=dict.fromkeys(FIELDS, JSON)), is_current=st.booleans())
@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_json_as_a_manifest_is_a_manifest_or_bad_input(
    tmp_path: Path, content: dict[str, object], is_current: bool
) -> None:
    (tmp_path / MANIFEST_FILE).write_text(json.dumps(content | ({"schema": 1} if is_current else {})), encoding="utf-8")
    with contextlib.suppress(BadInput):
        assert isinstance(read_manifest(tmp_path), Manifest)


@given(content=st.fixed_dictionaries({}, optional=dict.fromkeys(("record_sha256", "method", "embeddings", "schema"), JSON)))
@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_json_as_a_face_of_a_record_is_refused(tmp_path: Path, content: dict[str, object]) -> None:
    target, folder = TARGETS["consent"], Path(tempfile.mkdtemp(dir=tmp_path))
    with pytest.raises(Refused):
        target.run(b"\3" + json.dumps(content).encode(), folder)


def test_a_picture_that_claims_more_pixels_than_the_limit_is_not_decoded(tmp_path: Path) -> None:
    png = TARGETS["media"].seeds()[-5]
    (tmp_path / "bomb.png").write_bytes(png[:16] + b"\0\0\xff\xff\0\0\xff\xff" + png[24:])
    with pytest.raises(BadInput, match="larger than the limit"):
        probe(tmp_path)
