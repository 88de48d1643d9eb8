"""Work that goes on for hours ends when consent does, and leaves nothing more under a final name."""

from __future__ import annotations

import datetime
import errno
import signal
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

import killing
from drawn_faces import draw_face_set
from painted_plates import AS_BEA, LOSSLESS, NUM_FRAMES, Mirror, a_face, planned, surveyed, write_plate
from tiny_training import DARK_SKIN, LIGHT_SKIN, TINY
from understudy import parallel
from understudy.media.footage import probe
from understudy.media.segments import SegmentedWriter
from understudy.settings import TrainRecipe
from understudy.stages import _marked_output
from understudy.stages import convert as convert_stage
from understudy.stages._marked_output import output_path
from understudy.stages._training_asked import check_all_have_the_same, describe_face_sets
from understudy.stages.train import train
from understudy.store.checkpoints import latest_valid
from understudy.store.faceset import FaceSet
from understudy.trust import consent, standing
from understudy.trust.consent import ConsentReference, create_record, revoke
from understudy.trust.credentials import Lineage
from understudy.trust.records import SignedRecord, read_record, record_path
from understudy.trust.standing import Standing
from understudy.types import BadInput, Event, Refused, Reporter, silent


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A consent folder with records of abel and bea."""
    monkeypatch.setenv("UNDERSTUDY_KEYS", str(tmp_path / "keys"))
    monkeypatch.setenv("UNDERSTUDY_CONSENT", str(tmp_path / "consent"))
    for name in ("abel", "bea"):
        create_record(tmp_path / "consent", name, "synthetic")
    return tmp_path / "consent"


def standing_of(folder: Path, *names: str) -> Standing:
    records = {name: read_record(folder, name).sha256 for name in names}
    return Standing(
        folder, ("train", [ConsentReference(name, each, "synthetic", "", "", "", 0.0) for name, each in records.items()])
    )


# ---- looking --------------------------------------------------------------------------------------------------------------


def revoked(folder: Path, _: pytest.MonkeyPatch) -> None:
    revoke(folder, "bea")


def ended(_: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eleven years go by."""
    later = datetime.date.today() + datetime.timedelta(days=4000)
    monkeypatch.setattr(standing, "check", partial(consent.check, on=later))


def gone(folder: Path, _: pytest.MonkeyPatch) -> None:
    record_path(folder, "bea").unlink()


def replaced(folder: Path, _: pytest.MonkeyPatch) -> None:
    revoke(folder, "bea")
    create_record(folder, "bea", "synthetic")


def lists_out_of_reach(_: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The key folder, which lists what was revoked, lies on a server that went away."""

    def exists(signed: SignedRecord) -> str | None:
        raise OSError(errno.ESTALE, "Stale file handle", "keys/revoked")

    monkeypatch.setattr(consent, "revocation_of", exists)


@pytest.mark.parametrize(
    ("happens", "error", "words"),
    [
        (revoked, Refused, "^stopped, and nothing more is saved: .*'bea': consent was revoked on"),
        (ended, Refused, "^stopped, and nothing more is saved: .*'abel': consent ended on"),
        (
            gone,
            BadInput,
            "^stopped: .*no consent record of 'bea'.*with the record back in its place the same command continues",
        ),
        (lists_out_of_reach, BadInput, "^stopped: .*whether it was revoked cannot be known .*the same command continues"),
        (replaced, BadInput, "^stopped: .*'bea': another record has taken the place of the one that permitted this"),
    ],
)
def test_what_ends_a_record_ends_the_work_under_it_for_good(
    happens: Callable[[Path, pytest.MonkeyPatch], None],
    error: type[Exception],
    words: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watched = standing_of(folder, "abel", "bea")
    watched.check()
    happens(folder, monkeypatch)
    for now in (True, False):
        with pytest.raises(error, match=words):
            watched.check(now)


def test_between_two_looks_is_a_minute_and_the_next_event_tells(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(standing.time, "monotonic", lambda: clock[0])
    watched = standing_of(folder, "bea")
    revoke(folder, "bea")
    clock[0] = 59.0
    watched.listen(Event("convert", "progress"))
    clock[0] = 60.0
    with pytest.raises(Refused, match="consent was revoked"):
        watched.listen(Event("convert", "progress"))


# ---- training -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def face_sets(folder: Path) -> list[Path]:
    return [draw_face_set(folder.parent / name, name, skin) for name, skin in (("abel", LIGHT_SKIN), ("bea", DARK_SKIN))]


RARELY_SAVED = replace(TINY, checkpoint_seconds=1e9)


def at_a_step(step: int, happens: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> Reporter:
    """A listener to whom each step is told."""
    monkeypatch.setattr("understudy.stages.train.REPORT_SECONDS", 0.0)

    def tell(event: Event) -> None:
        if event.kind == "progress" and event.figures.get("step") == step:
            happens()

    return tell


def test_a_training_saves_no_checkpoint_after_a_revocation(
    face_sets: list[Path], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = at_a_step(3, lambda: revoke(folder, "bea"), monkeypatch)
    with pytest.raises(Refused, match=r"stopped, and nothing more is saved: .*'bea': consent was revoked"):
        train(face_sets, tmp_path / "model", recipe=TINY, steps=8, report=report)
    checkpoint = latest_valid(tmp_path / "model")
    assert checkpoint is not None
    assert checkpoint.step == 2
    assert not (tmp_path / "model/manifest.json").exists()


@pytest.mark.parametrize("is_interrupted", [False, True])
def test_neither_the_end_of_a_training_nor_an_interruption_saves_what_is_no_longer_permitted(
    is_interrupted: bool, face_sets: list[Path], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def happens() -> None:
        revoke(folder, "bea")
        if is_interrupted:
            signal.raise_signal(signal.SIGINT)

    report = at_a_step(3, happens, monkeypatch)
    with pytest.raises(Refused, match="consent was revoked"):
        train(face_sets, tmp_path / "model", recipe=RARELY_SAVED, steps=5, report=report)
    assert not (tmp_path / "model").exists() or latest_valid(tmp_path / "model") is None


def test_a_training_looks_once_a_minute_however_rarely_it_saves(
    face_sets: list[Path], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standing, "SECONDS_BETWEEN_LOOKS", 0.0)
    steps: list[int] = []

    def happens() -> None:
        revoke(folder, "bea")

    report = at_a_step(3, happens, monkeypatch)

    def count(event: Event) -> None:
        steps.extend([int(event.figures["step"])] if event.kind == "progress" and "step" in event.figures else [])
        report(event)

    with pytest.raises(Refused, match="consent was revoked"):
        train(face_sets, tmp_path / "model", recipe=RARELY_SAVED, steps=1000, report=count)
    assert steps[-1] == 3


def _revoked_as_rank(rank: int, port: int, face_sets: list[Path], out: Path, folder: Path, recipe: TrainRecipe) -> None:
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("RANK", rank), ("LOCAL_RANK", rank), ("WORLD_SIZE", 2), ("MASTER_PORT", port)):
            patch.setenv(name, str(value))
        patch.setenv("MASTER_ADDR", "127.0.0.1")
        patch.setenv("UNDERSTUDY_KEYS", str(folder.parent / "keys"))
        report = at_a_step(3, lambda: revoke(folder, "bea"), patch)
        with pytest.raises(Refused) as refusal:
            train(face_sets, out, recipe=recipe, steps=8, consent=folder, report=report)
    out.with_name(f"rank{rank}.txt").write_text(str(refusal.value))


@pytest.mark.slow
def test_all_processes_of_a_shared_training_end_together(face_sets: list[Path], folder: Path, tmp_path: Path) -> None:
    asked = (killing.free_port(), face_sets, tmp_path / "shared", folder, replace(TINY, batch_size=4))
    ranks = [killing.start(_revoked_as_rank, rank, *asked) for rank in range(2)]
    for process in ranks:
        process.join(180)
        assert process.exitcode == 0
    assert "'bea': consent was revoked" in (tmp_path / "rank0.txt").read_text()
    assert (tmp_path / "rank1.txt").read_text() == "stopped by process 0, which says which consent has ended"


def test_processes_that_hold_other_pictures_refuse(face_sets: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(parallel, "world", lambda: 2)
    monkeypatch.setattr(parallel, "ranks_that_differ", told.append)
    inputs = describe_face_sets(face_sets)
    check_all_have_the_same({"starter": "none"}, inputs)
    with FaceSet.open(face_sets[0]) as face_set:
        face_set.crop_path(face_set.faces()[0]).write_bytes(b"another")
    check_all_have_the_same({"starter": "none"}, inputs)
    assert told[0] != told[2]
    assert told[1] == told[3]


# ---- converting -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("revoked_at", [4, NUM_FRAMES])
def test_a_conversion_keeps_nothing_that_it_rendered_once_a_consent_is_revoked(
    revoked_at: int, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen at the end of the next segment, or before the film has its name."""
    monkeypatch.setattr(_marked_output, "SegmentedWriter", partial(SegmentedWriter, every=3))
    monkeypatch.setattr(convert_stage, "_SECONDS_BETWEEN_EVENTS", 0)
    plate, out, done = write_plate(tmp_path / "plate"), tmp_path / "swap", []
    out.mkdir()

    def tell(event: Event) -> None:
        done.append(event.done)
        if event.done == revoked_at:
            revoke(folder, "bea")

    faces = [a_face(frame) for frame in range(NUM_FRAMES)]
    plan = planned(plate, faces, Mirror(), LOSSLESS, roles=AS_BEA)
    watched = standing_of(folder, "abel", "bea")
    with pytest.raises(Refused, match="'bea': consent was revoked"):
        convert_stage.swap_footage(probe(plate), surveyed(faces), plan, out, Lineage({}, ()), tell, standing=watched)
    assert done[-1] == min(revoked_at + 1, NUM_FRAMES)
    assert not list(out.iterdir())


def test_a_record_that_is_out_of_reach_stops_a_conversion_and_costs_none_of_it(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_marked_output, "SegmentedWriter", partial(SegmentedWriter, every=3))
    monkeypatch.setattr(convert_stage, "_SECONDS_BETWEEN_EVENTS", 0)
    plate, out, elsewhere = write_plate(tmp_path / "plate"), tmp_path / "swap", tmp_path / "bea.toml"
    out.mkdir()

    def tell(event: Event) -> None:
        if event.done == 7:
            record_path(folder, "bea").rename(elsewhere)

    def convert(report: Reporter = silent) -> None:
        faces = [a_face(frame) for frame in range(NUM_FRAMES)]
        plan = planned(plate, faces, Mirror(), LOSSLESS, roles=AS_BEA)
        watched = standing_of(folder, "abel", "bea")
        convert_stage.swap_footage(probe(plate), surveyed(faces), plan, out, Lineage({}, ()), report, standing=watched)

    with pytest.raises(BadInput, match="no consent record of 'bea'"):
        convert(tell)
    assert len(list(out.glob("segments/0*"))) == 2, "what was rendered before stays"
    elsewhere.rename(record_path(folder, "bea"))
    done: list[float] = []
    convert(lambda event: done.append(event.done) if event.kind == "progress" else None)
    assert len(list(output_path(out, LOSSLESS.codec).glob("*.png"))) >= NUM_FRAMES
    assert min(done) > 6, "its first segments are not rendered again"


def test_a_film_that_is_being_joined_when_a_consent_is_revoked_gets_no_name(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plate, out = write_plate(tmp_path / "plate"), tmp_path / "swap"
    out.mkdir()
    join = SegmentedWriter.join

    def slowly(writer: SegmentedWriter) -> None:
        join(writer)
        revoke(folder, "bea")

    monkeypatch.setattr(SegmentedWriter, "join", slowly)
    faces = [a_face(frame) for frame in range(NUM_FRAMES)]
    plan = planned(plate, faces, Mirror(), LOSSLESS, roles=AS_BEA)
    with pytest.raises(Refused, match="'bea': consent was revoked"):
        convert_stage.swap_footage(
            probe(plate), surveyed(faces), plan, out, Lineage({}, ()), standing=standing_of(folder, "abel", "bea")
        )
    assert not list(out.iterdir())
