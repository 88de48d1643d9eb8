"""The ledger of a swap: what became of every frame, and the figures that follow from it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import numpy as np

from understudy.perception.follow import jitter_px
from understudy.perception.persons import track_embeddings
from understudy.stages._compositing import lies_somewhere
from understudy.stages._plate_survey import PlateSurvey
from understudy.stages._swap_plan import Plan
from understudy.stages._swapping import SwappedFrame
from understudy.store.json_files import json_text
from understudy.types import BadInput, FaultInFrames, Json


def ledger_line(finished: SwappedFrame, shot: int = 0) -> Json:
    """What the ledger says of a frame."""
    return {
        "frame": finished.record.index,
        "time_seconds": finished.record.time_seconds,
        "shot": shot,
        "status": finished.status,
        "reason": finished.reason,
        "track": finished.faces[0].track if finished.faces else None,
        "tracks": [face.track for face in finished.faces],
        **({"fault": finished.fault} if finished.fault else {}),
    }


def alignment_line(finished: SwappedFrame) -> Json:
    """Where the faces of a frame lie; every frame has its line, those without a face too. One that lies nowhere is left out."""
    faces = [
        {"track": face.track, "face_from_frame": np.asarray(face.face_from_frame).tolist()}
        for face in finished.faces
        if lies_somewhere(face)
    ]
    return {"frame": finished.record.index, "time_seconds": finished.record.time_seconds, "faces": faces}


def json_lines(lines: Sequence[Json]) -> str:
    """One line each."""
    return "".join(json_text(line, is_compact=True) + "\n" for line in lines)


def counts_of(ledger: Sequence[Json]) -> dict[str, object]:
    """The figures that account for every frame."""
    by_status = Counter(line["status"] for line in ledger)
    return {
        "num_frames": len(ledger),
        "num_swapped": by_status["swapped"],
        "num_partly_swapped": sum(is_partly_swapped(line) for line in ledger),
        "num_without_face": by_status["no_face"],
        "num_other_person": by_status["other_person"],
        "num_left_out": by_status["left_out"],
        "num_failed": by_status["failed"],
        "num_faults": sum("fault" in line for line in ledger),
    }


def without_a_swap(ledger: Sequence[Json], plan: Plan, plate: Path, file: Path) -> BadInput | FaultInFrames:
    """What is said of a film in which no frame has a new face: why that is, and what to do. file: the ledger's."""
    counts = counts_of(ledger)
    if counts["num_faults"]:
        return faults_in(counts, file, "No frame has a new face, so no film is written")
    reasons = Counter(str(line["reason"]) for line in ledger if line["status"] == "failed")
    words = {
        "num_failed": f"failed, most for this: {max(reasons, key=reasons.__getitem__)}" if reasons else "",
        "num_without_face": "without a face",
        "num_other_person": "with only other people's faces",
        "num_left_out": "left as they are by ranges",
    }
    why = "; ".join(f"{counts[name]} {each}" for name, each in words.items() if counts[name])
    names = " or ".join(role.replace for role in plan.replacements)
    return BadInput(
        f"{plate}: none of its {len(ledger)} frames could be given a new face ({why}), though the film would say so; set back "
        f"what keeps faces from showing (erode_fraction, mask, blend), or give frames that show {names} well; {file} has each "
        "frame's reason"
    )


def faults_in(figures: Mapping[str, object], file: Path, rest: str) -> FaultInFrames:
    """What is said where a fault of ours spoiled frames. file: the ledger's; rest: what became of the others."""
    return FaultInFrames(
        f"{figures['num_faults']} of {figures['num_frames']} frames failed through a fault of Understudy: {file} has the "
        f"tracebacks. {rest}; the same command tries those frames again"
    )


def is_partly_swapped(line: Json) -> bool:
    """Whether a frame shows a new face, and beside it one that could not be replaced: its reason says whose."""
    return line["status"] == "swapped" and bool(line["reason"])


def track_figures(plan: Plan, survey: PlateSurvey, ledger: Sequence[Json]) -> dict[str, object]:
    """How sure the choice of the performer is: the farthest track taken, and the nearest face that was left alone."""
    persons = {
        role: np.nanmean(np.asarray(plan.swapper.galleries[role.replace], np.float64), axis=0) for role in plan.replacements
    }
    distance = {
        track: min(
            float(np.linalg.norm(mean - person)) for role, person in persons.items() if plan.roles.get(track, role) == role
        )
        for track, mean in track_embeddings(survey.faces).items()
    }
    taken, left = [d for t, d in distance.items() if t in plan.ends], [d for t, d in distance.items() if t not in plan.ends]
    frames = [cast(int, line["frame"]) for line in ledger if line["status"] == "swapped"]
    before_px, after_px = jitter_px([face for frame in frames for face in plan.faces[frame] if lies_somewhere(face)])
    return {
        "num_tracks": len(plan.ends),
        "identity_distance": round(max(taken), 4) if taken else None,
        "nearest_other_distance": round(min(left), 4) if left else None,
        "jitter_before_px": round(before_px, 4),
        "jitter_after_px": round(after_px, 4),
    }
