"""Atomic writes, JSON, hashes and events: torn, damaged, full."""

import json
import math
import os
import resource
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.store.atomic import atomic_folder, atomic_write_bytes, atomic_write_text, remove_temporaries
from understudy.store.events import TimedEvent, combine, event_log, read_events, time_left
from understudy.store.hashing import code_sha256, sha256_of_file, sha256_of_footage, sha256_of_json
from understudy.store.json_files import as_plain, read_json, write_json
from understudy.types import BadInput, Event


def events_without_time(folder: Path) -> list[Event]:
    return [timed.event for timed in read_events(folder)]


# ---- atomic writes --------------------------------------------------------------------------------------------------------


def test_a_file_is_replaced_and_nothing_else_is_left(tmp_path: Path):
    path = tmp_path / "deep" / "a.txt"
    atomic_write_text(path, "old")
    atomic_write_text(path, "nёw")
    assert path.read_text(encoding="utf-8") == "nёw"
    assert os.listdir(path.parent) == ["a.txt"]


def test_a_full_disk_leaves_the_old_file(tmp_path: Path):
    path = tmp_path / "a.bin"
    atomic_write_bytes(path, b"old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
        with pytest.raises(BadInput, match=r"no space left to write .*a\.bin"):
            atomic_write_bytes(path, bytes(5000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_a_file_where_a_folder_is_needed_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(BadInput, match="file stands where a folder is needed"):
        atomic_write_text(tmp_path / "file" / "a.txt", "x")


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path):
    with suppress(RuntimeError), atomic_folder(tmp_path / "made") as folder:
        (folder / "half").write_text("x")
        raise RuntimeError
    assert os.listdir(tmp_path) == []
    with atomic_folder(tmp_path / "made") as folder:
        assert not (tmp_path / "made").exists()
        (folder / "whole").write_text("x")
    assert os.listdir(tmp_path) == ["made"]
    with pytest.raises(BadInput, match="exists already"), atomic_folder(tmp_path / "made"):
        pass


def test_what_killed_writers_left_is_removed_and_nothing_else(tmp_path: Path):
    (tmp_path / ".tmp-1").mkdir()
    (tmp_path / ".tmp-2").write_text("x")
    (tmp_path / "kept").write_text("x")
    remove_temporaries(tmp_path)
    assert os.listdir(tmp_path) == ["kept"]


# ---- JSON and hashes ------------------------------------------------------------------------------------------------------


def test_plain_values_keep_their_meaning_and_nan_becomes_null():
    value = {"path": Path("a/b"), "array": np.arange(3), "number": np.float32(0.5), "nan": math.nan, "pair": (1, True)}
    assert as_plain(value) == {"path": "a/b", "array": [0, 1, 2], "number": 0.5, "nan": None, "pair": [1, True]}
    with pytest.raises(TypeError, match="got set"):
        as_plain({1, 2})


@pytest.mark.parametrize("text", ["", "{", "[1]", "\xff", "[" * 100_000])
def test_a_damaged_json_file_is_named(tmp_path: Path, text: str):
    path = tmp_path / "recipe.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(BadInput, match=r"recipe\.json"):
        read_json(path)


def test_a_name_that_is_not_utf8_survives(tmp_path: Path):
    name = os.fsdecode(b"b\xe9a.mp4")
    write_json(tmp_path / "a.json", {"path": Path(name), "word": "é"})
    assert read_json(tmp_path / "a.json") == {"path": name, "word": "é"}


def test_the_hash_of_footage_follows_names_and_contents_only(tmp_path: Path):
    folder = tmp_path / "frames"
    folder.mkdir()
    for name in ("b.png", "a.png"):
        (folder / name).write_text(name)
    before = sha256_of_footage(folder)
    (folder / ".DS_Store").write_text("noise")
    os.utime(folder / "a.png", (0, 0))
    assert sha256_of_footage(folder) == before
    (folder / "a.png").rename(folder / "c.png")
    assert sha256_of_footage(folder) != before
    assert sha256_of_footage(folder / "b.png") == sha256_of_file(folder / "b.png")
    with pytest.raises(BadInput, match="missing"):
        sha256_of_file(tmp_path / "missing")


def test_the_hash_of_a_recipe_ignores_the_order_of_its_keys():
    assert sha256_of_json({"a": 1, "b": 2}) == sha256_of_json({"b": 2, "a": 1}) != sha256_of_json({"a": 2, "b": 1})


def test_the_hash_of_the_program_follows_from_its_sources_and_tables_alone(tmp_path: Path) -> None:
    for name in ("a.py", "imaging/b.py", "imaging/c.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x = 1")
    found = [code_sha256(tmp_path)]
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__/a.cpython-311.pyc").touch()
    assert code_sha256(tmp_path) == found[0]
    for name in ("a.py", "imaging/b.py", "imaging/c.json"):
        (tmp_path / name).write_text("x = 2")
        found.append(code_sha256(tmp_path))
    (tmp_path / "a.py").rename(tmp_path / "d.py")
    found.append(code_sha256(tmp_path))
    assert len(set(found)) == 5
    assert code_sha256() == code_sha256() not in found


# ---- events ---------------------------------------------------------------------------------------------------------------

EVENTS = st.builds(
    Event,
    stage=st.text(),
    kind=st.sampled_from(["started", "progress", "figures", "warning", "finished"]),
    done=st.floats(0, 1e9) | st.integers(0, 10**9),
    unit=st.text(),
    message=st.text(),
    figures=st.dictionaries(
        st.text(), st.text() | st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**60), 2**60)
    ),
)


@settings(max_examples=50)
@given(st.lists(EVENTS, max_size=5), st.integers(1, 40))
def test_events_come_back_as_told_and_a_torn_line_costs_only_itself(tmp_path_factory, events: list[Event], torn: int):
    folder = tmp_path_factory.mktemp("events")
    first = Event("train", "started")
    for event in [first, *events]:
        event_log(folder)(event)
    assert events_without_time(folder) == [first, *events]
    path = folder / "events.jsonl"
    os.truncate(path, path.stat().st_size - torn)
    survivors = [first, *events][: path.read_bytes().count(b"\n") + (torn == 1)]
    assert events_without_time(folder) == survivors
    event_log(folder)(first)
    assert events_without_time(folder) == [*survivors[: path.read_bytes().count(b"\n") - 1], first]
    assert all(json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1])


def test_no_events_are_no_mistake_and_listeners_all_hear(tmp_path: Path):
    assert read_events(tmp_path) == []
    heard: list[Event] = []
    combine(heard.append, event_log(tmp_path / "new"), heard.append)(Event("train", "progress", 1, 2))
    assert heard == [Event("train", "progress", 1, 2)] * 2
    assert events_without_time(tmp_path / "new") == heard[:1]


def history(*progress: tuple[float, float], total: float = 100, unit: str = "steps") -> list[TimedEvent]:
    epoch = datetime(2026, 1, 1, tzinfo=UTC)
    return [TimedEvent(epoch + timedelta(seconds=s), Event("train", "progress", done, total, unit)) for s, done in progress]


def test_time_left_follows_the_speed_of_the_last_minute():
    slow_then_fast = history((0, 0), (1000, 10), (1010, 20), (1020, 30))
    assert time_left(slow_then_fast) == pytest.approx(70)
    assert time_left(slow_then_fast, now=slow_then_fast[-1].time + timedelta(seconds=20)) == pytest.approx(50)
    assert time_left(history((0, 0), (1000, 10))) == pytest.approx(9000)
    assert time_left(history((0, 0), (10, 100))) == 0


def test_time_left_is_unknown_without_progress_or_total():
    assert time_left([]) is None
    assert time_left(history((0, 5))) is None
    assert time_left(history((0, 5), (10, 5))) is None
    assert time_left(history((0, 5), (10, 6), total=0)) is None


def test_time_left_starts_anew_with_other_work():
    old = history((0, 0), (10, 90))
    assert time_left([*old, *history((20, 0), (30, 10))]) == pytest.approx(90)
    assert time_left([*old, *history((20, 91), unit="frames")]) is None
    assert time_left([*old, TimedEvent(old[-1].time, Event("train", "started")), *history((20, 91))]) is None
    with_warning = [old[0], TimedEvent(old[0].time, Event("train", "warning")), old[1]]
    assert time_left(with_warning) == time_left(old)


def test_what_a_library_says_over_several_lines_reaches_the_user_as_one() -> None:
    assert str(BadInput("faces.sqlite is damaged (unrecognized token:\n  -- (N, 2) float32); extract it again")) == (
        "faces.sqlite is damaged (unrecognized token: -- (N, 2) float32); extract it again"
    )


def test_an_event_that_does_not_say_where_its_time_holds_is_left_out(tmp_path: Path) -> None:
    lines = [
        f'{{"time": "2026-11-25T10:00:0{second}{zone}", "stage": "train", "kind": "progress", "done": {second}, "total": 9}}\n'
        for second, zone in enumerate(("+00:00", "", "+00:00"))
    ]
    (tmp_path / "events.jsonl").write_text("".join(lines), encoding="utf-8")
    assert [timed.event.done for timed in read_events(tmp_path)] == [0, 2]
    assert time_left(read_events(tmp_path)) == pytest.approx(7)
