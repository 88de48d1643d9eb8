"""Looks through a clip for faces and stores what it finds as it goes, so that a survey that was killed goes on where it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from understudy.media.footage import FrameRecord
from understudy.perception.survey import FrameFaces, Networks, in_batches, survey
from understudy.store.faceset import FaceSet, SurveyedFrame
from understudy.types import Face

_DONE = "surveyed"


def survey_stored(
    stored: FaceSet,
    source: str,
    read: Callable[[int], Iterator[FrameRecord]],
    load: Callable[[], Networks],
    tell: Callable[[int], None] = lambda num_done: None,
) -> list[FrameFaces]:
    """What every frame of a clip shows, not yet linked: what `stored` has of `source`, and the rest found now.

    read: the frames from a number on. load: the networks, asked for only where there is work. tell: is told how many are done.
    """
    if stored.note(_DONE) is None:
        previous = stored_survey(stored, source)[-1:]
        frames = survey(read(stored.num_frames_done(source)), source, load(), *previous)
        for several in in_batches(frames):
            num_done = several[-1].frame + 1
            with stored.transaction():
                for seen in several:
                    stored.add_frame(source, SurveyedFrame(seen.frame, seen.time_seconds, seen.thumbnail))
                stored.add_faces([face for seen in several for face in seen.faces], num_frames_done={source: num_done})
            tell(num_done)
        stored.set_note(_DONE, "yes")
    return stored_survey(stored, source)


def stored_survey(stored: FaceSet, source: str) -> list[FrameFaces]:
    """What is stored of a clip, frame by frame."""
    faces: dict[int, list[Face]] = {}
    for face in stored.faces(kept_only=False, source=source):
        faces.setdefault(face.frame, []).append(face)
    return [FrameFaces(*frame, tuple(faces.get(frame.frame, ()))) for frame in stored.frames(source)]
