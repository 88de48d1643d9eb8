"""Extracts a performer's faces from footage: looks through the frames, follows and steadies the faces, cuts them out."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from understudy.imaging.depth import eight_bit
from understudy.imaging.framing import STORED, crop_from_face
from understudy.imaging.similarity import Matrix, compose, scale_of
from understudy.imaging.warp import warp_image
from understudy.media.footage import FootageInfo, FrameRecord, probe, with_a_name
from understudy.media.images import encode_jpeg, read_image
from understudy.media.reader import read_frames
from understudy.perception.follow import jitter_px, link_and_smooth
from understudy.perception.persons import select_performer
from understudy.perception.survey import (
    WEIGHTS_OF_DETECTOR,
    WEIGHTS_OF_LANDMARKS,
    FrameFaces,
    Networks,
    check_choices,
    in_batches,
    load_networks,
    read_ahead,
    survey,
)
from understudy.perception.weights import licences
from understudy.stages._extraction_choice import chosen_person, doubts_in_words
from understudy.stages._extraction_progress import Progress
from understudy.stages._extraction_report import write_contact_sheet, write_extraction_report
from understudy.stages._frame_memory import FrameMemory
from understudy.stages._occlusion import measure_occlusion
from understudy.stages._stored_survey import stored_survey
from understudy.store.events import combine, event_log
from understudy.store.faceset import FaceSet, SurveyedFrame
from understudy.store.json_files import json_text
from understudy.store.manifest import describe_input
from understudy.store.runs import Run, open_run
from understudy.trust.gate import LICENCE, ContentGate, NudeMaterial, gate_footage
from understudy.trust.limited import check_footage
from understudy.types import (
    AnyImage,
    BadInput,
    Box,
    Event,
    Face,
    FloatArray,
    Refused,
    Reporter,
    StageResult,
    check_performer_name,
    silent,
)

OTHER_PERSON = "other person"
GATE_NOTE, REFUSAL_NOTE = "gate", "refused by the gate"
DOUBT_NOTE = "doubt about who is the performer"

LEAST_CROP_PX, MOST_CROP_PX, CROP_STEP_PX = 128, 1024, 64


def extract(
    footage: Sequence[Path],
    performer: str,
    out: Path,
    *,
    like: Sequence[Path] = (),
    detector: str = "mediapipe",
    landmarks: str = "mediapipe",
    report: Reporter = silent,
) -> StageResult:
    """Finds `performer` in each clip of `footage` and leaves a face set in `out`; the same call again resumes.

    like: pictures of the performer; without them the person seen in most frames is taken. Everybody else is counted and
    stored as not kept ("other person"), without pictures. Faces that were interpolated within a track, or that the picture's
    edge cuts off, are stored with pictures, but not kept for training. A second person in many frames is a warning. Raises
    BadInput for footage that cannot be read, a picture in `like` without a face, an unknown detector, unknown landmarks or an
    unusable name, or an `out` that holds other work.
    """
    check_performer_name(performer)
    check_choices(detector, landmarks)
    sources = _sources(footage)
    clips = _readable(sources, like)
    inputs = {f"footage {source}": describe_input(path) for source, path in sources.items()}
    inputs |= {f"like {number}": describe_input(path) for number, path in enumerate(like, 1)}
    recipe = {"performer": performer, "detector": detector} | ({"landmarks": landmarks} if landmarks != "mediapipe" else {})
    with open_run(out, "extract", recipe, inputs) as run:
        if run.state == "finished":
            return run.result()
        report = combine(report, event_log(out))
        report(Event("extract", "started", message=f"extracting {performer}"))
        with FaceSet.create(out, performer) as face_set, _opencv_without_threads():
            frames_per_second, memory = 0.0, FrameMemory()
            if not face_set.note("linked"):
                networks = load_networks(detector, landmarks)
                gallery = _gallery(like, networks)
                frames_per_second = _look_through(clips, face_set, networks, memory, report)
                _follow(face_set, gallery)
            _cut_out(clips, face_set, memory, report)
            _measure_occlusion(face_set, report)
            used = licences(*WEIGHTS_OF_DETECTOR[detector], *WEIGHTS_OF_LANDMARKS[landmarks]) | {"content_gate": LICENCE}
            return _finish(run, face_set, used, frames_per_second, report)


def check_asked(footage: Sequence[Path], performer: str, like: Sequence[Path], detector: str, landmarks: str) -> None:
    """Raises BadInput as `extract` would at its start."""
    check_performer_name(performer)
    check_choices(detector, landmarks)
    _readable(_sources(footage), like)


@contextmanager
def _opencv_without_threads() -> Iterator[None]:
    """Extraction keeps the cores busy by threads of its own; OpenCV's wait for work by spinning, a tenth of all the time."""
    num_threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(num_threads)


def _sources(footage: Sequence[Path]) -> dict[str, Path]:
    """The clips by the name that their faces are filed under: the file's own, or the whole path where two are alike.

    A clip that was named twice, in whatever way, is taken once: its faces would count twice.
    """
    if not footage:
        raise BadInput("expected at least one video file or folder of images to extract from, got none; name one")
    clips: dict[str, Path] = {}
    for path in footage:
        clips.setdefault(os.path.realpath(path), path)
    names = [with_a_name(path).name for path in clips.values()]
    return {name if names.count(name) == 1 else path.as_posix(): path for name, path in zip(names, clips.values(), strict=True)}


def _readable(sources: dict[str, Path], pictures: Iterable[Path]) -> dict[str, FootageInfo]:
    """What each clip is. Raises BadInput for what cannot be read at all, before the folder holds anything."""
    clips = {}
    for source, path in sources.items():
        check_footage(path)
        clips[source] = probe(path)
    for picture in pictures:
        if picture.is_dir():
            raise BadInput(f"{picture}: expected a picture of the performer, got a folder; give --like for each picture in it")
        read_image(picture)
    return clips


def _gallery(like: Sequence[Path], networks: Networks) -> FloatArray | None:
    """The embedding of the largest face in each picture (N, 128); None where no picture is given."""
    if not like:
        return None
    embeddings = []
    for path in like:
        record = FrameRecord(0, 0.0, 0, Fraction(1), read_image(path))
        faces = next(survey([record], path.name, networks)).faces
        if not faces:
            raise BadInput(f"{path}: expected a picture of the performer, found no face in it; give one that shows it clearly")
        embeddings.append(max(faces, key=lambda face: face.box.height).embedding)
    return np.stack(embeddings)


# ---- first pass: look through the frames ----------------------------------------------------------------------------------


def _look_through(
    clips: dict[str, FootageInfo], face_set: FaceSet, networks: Networks, memory: FrameMemory, report: Reporter
) -> float:
    """Survey every frame that is not done yet; a killed run goes on at the frame after the last. Returns frames a second.

    The gate's answers are written down when it has seen everything: until then, each run shows it the done frames again.
    """
    if face_set.note(GATE_NOTE):
        return 0.0
    progress = Progress(report, "frames", sum(clip.num_frames_estimate for clip in clips.values()))
    progress.skip(sum(face_set.num_frames_done(source) for source in clips))
    with _gate(face_set) as gate:
        for source, clip in clips.items():
            losses: list[str] = []
            boxes: list[Box] = []
            num_done = face_set.num_frames_done(source)
            if num_done:
                boxes += _gate_done_frames(read_frames(clip.path, stop=num_done), source, face_set, gate)
            frames = memory.remember(read_frames(clip.path, num_done, on_loss=losses.append, info=clip), source)
            gated = _gated(frames, source, boxes, gate)
            for several in in_batches(survey(gated, source, networks, previous=_last_frame(face_set, source))):
                with face_set.transaction():
                    for found in several:
                        face_set.add_frame(source, SurveyedFrame(found.frame, found.time_seconds, found.thumbnail))
                        face_set.add_faces(found.faces, num_frames_done={source: found.frame + 1})
                boxes[:] = [face.box for face in several[-1].faces]
                for _ in several:
                    progress.step("looking for faces")
            _note_losses(face_set, losses, report)
        face_set.set_note(GATE_NOTE, json_text(gate.result().as_json(), is_compact=True))
    progress.tell("looking for faces")
    return progress.per_second


@contextmanager
def _gate(face_set: FaceSet) -> Iterator[ContentGate]:
    """The content gate over this footage. Nude material stays refused when the same command is given again."""
    if refusal := face_set.note(REFUSAL_NOTE):
        raise Refused(refusal)
    try:
        with ContentGate() as gate:
            yield gate
    except NudeMaterial as refused:
        face_set.set_note(REFUSAL_NOTE, str(refused))
        raise


def _gate_done_frames(frames: Iterator[FrameRecord], source: str, face_set: FaceSet, gate: ContentGate) -> list[Box]:
    """Shows the gate what an interrupted run has surveyed, faces included; returns the faces of the last frame."""
    surveyed = stored_survey(face_set, source)
    found = {each.frame: [face.box for face in each.faces] for each in surveyed}
    gate_footage(frames, source, gate, faces={frame + 1: boxes for frame, boxes in found.items()})
    return found[surveyed[-1].frame]


def _gated(frames: Iterator[FrameRecord], source: str, boxes: list[Box], gate: ContentGate) -> Iterator[FrameRecord]:
    """The frames, while the gate samples them; `boxes` are the faces last found, round which it looks closer."""
    for record in frames:
        gate.consider(record.eight_bit, f"{source}, frame {record.index}", record.time_seconds, (source, 0), boxes)
        yield record


def _last_frame(face_set: FaceSet, source: str) -> FrameFaces | None:
    surveyed = stored_survey(face_set, source)
    return surveyed[-1] if surveyed else None


def _note_losses(face_set: FaceSet, messages: Sequence[str], report: Reporter) -> None:
    """Tell of footage that could not be read, and remember it for the report."""
    for message in messages:
        report(Event("extract", "warning", message=message))
    known = (face_set.note("losses") or "").splitlines()
    face_set.set_note("losses", "\n".join([*known, *(message for message in messages if message not in known)]))


# ---- second pass: follow and steady the faces, choose the performer -------------------------------------------------------


def _follow(face_set: FaceSet, gallery: FloatArray | None) -> None:
    """Link and smooth all clips and mark who is not the performer, in one transaction: a kill leaves all of it or nothing."""
    linked: list[Face] = []
    for source in face_set.sources():
        first_track = max((face.track for face in linked), default=-1) + 1
        linked += link_and_smooth(stored_survey(face_set, source), first_track)
    doubt = ""
    if gallery is None:
        gallery, doubt = chosen_person(linked, face_set.performer)
    tracks = select_performer(linked, gallery)
    measured = [face for face in linked if not face.is_bridged]
    before, after = jitter_px([face for face in linked if face.track in tracks])
    with face_set.transaction():
        face_set.replace_alignments(
            [face.id for face in measured],
            np.array([face.face_from_frame for face in measured]),
            shots=[face.shot for face in measured],
            tracks=[face.track for face in measured],
        )
        for face in measured:
            reason = face.reason if face.track in tracks else OTHER_PERSON
            if reason:
                face_set.set_kept([face.id], False, reason)
        face_set.add_faces([face for face in linked if face.is_bridged and face.track in tracks])
        face_set.set_note("jitter", f"{before} {after}")
        face_set.set_note(DOUBT_NOTE, doubt)
        face_set.set_note("linked", "yes")


# ---- third pass: cut the faces out ----------------------------------------------------------------------------------------


def _cut_out(clips: dict[str, FootageInfo], face_set: FaceSet, memory: FrameMemory, report: Reporter) -> None:
    """Write the crop of each of the performer's faces that has none yet."""
    faces = _performers_faces(face_set)
    progress = Progress(report, "crops", len(faces))
    progress.skip(sum(bool(face.crop) for face in faces))
    for source, clip in clips.items():
        waiting = [face for face in faces if face.source == source and not face.crop]
        if not waiting:
            continue
        frames = read_ahead(memory.read(clip, source, waiting[0].frame, waiting[-1].frame + 1))
        for face, size_px, data in _encoded_crops(frames, waiting):
            name = f"{Path(source).stem}_{face.frame:06d}_{face.track:03d}"
            face_set.set_crops([face.id], [face_set.write_crop(name, data)], size_px)
            progress.step("cutting faces out")
    progress.tell("cutting faces out")


def _measure_occlusion(face_set: FaceSet, report: Reporter) -> None:
    """What hides a face is told by its track, so it is measured when all crops are there."""
    faces = _performers_faces(face_set)
    progress = Progress(report, "faces", len(faces))
    measure_occlusion(face_set, faces, lambda: progress.step("looking for what hides them"))


def _encoded_crops(frames: Iterable[FrameRecord], faces: Sequence[Face]) -> Iterator[tuple[Face, int, bytes]]:
    """Each face with its crop's size and JPEG, warped and encoded by two threads."""
    by_frame: dict[int, list[Face]] = {}
    for face in faces:
        by_frame.setdefault(face.frame, []).append(face)
    with ThreadPoolExecutor(2) as pool:
        at_work: list[Future[tuple[Face, int, bytes]]] = []
        for record in frames:
            at_work += [pool.submit(_encoded_crop, record.image, face) for face in by_frame.get(record.index, ())]
            while len(at_work) > 8:
                yield at_work.pop(0).result()
        for each in at_work:
            yield each.result()


def _encoded_crop(image: AnyImage, face: Face) -> tuple[Face, int, bytes]:
    face_from_frame = np.asarray(face.face_from_frame, np.float64)
    size_px = crop_size_px(face_from_frame)
    crop_from_frame = compose(crop_from_face(STORED, size_px), face_from_frame)
    return face, size_px, encode_jpeg(eight_bit(warp_image(image, crop_from_frame, (size_px, size_px))))


def crop_size_px(face_from_frame: Matrix) -> int:
    """The size at which a stored crop keeps every pixel of the frame: a multiple of 64 from 128 to 1024."""
    native_px = STORED.side / scale_of(face_from_frame)
    return int(np.clip(np.ceil(native_px / CROP_STEP_PX) * CROP_STEP_PX, LEAST_CROP_PX, MOST_CROP_PX))


# ---- what came of it ------------------------------------------------------------------------------------------------------


def _performers_faces(face_set: FaceSet) -> list[Face]:
    return [face for face in face_set.faces(kept_only=False) if face.reason != OTHER_PERSON]


def _finish(run: Run, face_set: FaceSet, used: dict[str, str], frames_per_second: float, report: Reporter) -> StageResult:
    faces = _performers_faces(face_set)
    figures = _figures(face_set, faces) | {"frames_per_second": round(frames_per_second, 2)}
    outputs = {"faces": run.folder, "contact_sheet": run.folder / "contact_sheet.jpg", "report": run.folder / "report.html"}
    sheet = write_contact_sheet(face_set, faces, outputs["contact_sheet"])
    losses = (face_set.note("losses") or "").splitlines()
    doubts = doubts_in_words(face_set.performer, figures, face_set.note(DOUBT_NOTE) or "")
    for doubt in doubts:
        report(Event("extract", "warning", message=doubt))
    write_extraction_report(outputs["report"], face_set, faces, figures, sheet, losses, doubts)
    gated = json.loads(face_set.note(GATE_NOTE) or "{}")
    if gated:  # its answer holds for these pictures alone
        gated["pictures_sha256"] = face_set.pictures_sha256()
    result = run.finish({**figures, "gate": gated}, outputs, licences=used)
    report(Event("extract", "finished", figures=figures))
    return result


def _figures(face_set: FaceSet, faces: Sequence[Face]) -> dict[str, float | int]:
    """The result's figures. Faces are the performer's and measured; interpolated ones and other persons have their own."""
    measured = [face for face in faces if not face.is_bridged]
    num_frames = sum(face_set.num_frames_done(source) for source in face_set.sources())
    num_frames_with_face = len({(face.source, face.frame) for face in measured})
    before, after = (float(value) for value in (face_set.note("jitter") or "0 0").split())
    return {
        "num_frames": num_frames,
        "num_faces": len(measured),
        "num_kept": sum(face.kept for face in measured),
        "num_frames_with_face": num_frames_with_face,
        "num_frames_without_face": num_frames - num_frames_with_face,
        "num_tracks": len({face.track for face in faces}),
        "num_other_faces": len(face_set) - len(faces),
        "num_bridged": len(faces) - len(measured),
        "jitter_before_px": round(before, 3),
        "jitter_after_px": round(after, 3),
    }
