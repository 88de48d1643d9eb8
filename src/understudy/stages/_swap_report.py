"""The report of a conversion: what was done in words and figures, some frames before and after, and the fate of every frame."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path

import numpy as np

from understudy.imaging.depth import eight_bit
from understudy.imaging.warp import resize
from understudy.media.footage import FootageInfo
from understudy.media.images import encode_jpeg
from understudy.stages._swap_plan import Plan
from understudy.stages._swapping import SwappedFrame
from understudy.store.report import Picture, Section, Table, headline, render_report, settings_section
from understudy.trust.label import labelled_picture
from understudy.types import Image, Json

NUM_KEEPSAKES = 6
_PICTURE_HEIGHT_PX = 360
_MOST_ROWS = 200

_NOTES = {
    "num_frames": "as many as the plate has, at the same times",
    "num_swapped": "frames that show the new face",
    "num_partly_swapped": "of these, frames in which one of several could not be replaced, see the table",
    "num_without_face": "passed through: nobody was found",
    "num_other_person": "passed through: only other people's faces",
    "num_left_out": "passed through: the project says so",
    "num_failed": "passed through: something went wrong, see the table",
    "identity_distance": "of the farthest track taken from the performer; under 0.6 is usually the same person",
    "jitter_before_px": "tremble of the alignment as measured",
    "jitter_after_px": "tremble of the alignment in use",
    "flicker_before": "of the raw faces: how the broad difference to the plate changes between frames, in levels",
    "flicker_after": "of the finished frames",
    "seam_before": "step of colour at the edge of the raw faces beyond the plate's own, in CIE76",
    "seam_after": "the same of the finished frames",
}
"""The figures at the top of the page, and how to read them."""

_IN_WORDS = {
    "swapped": "swapped",
    "no_face": "no face",
    "other_person": "other person",
    "left_out": "left out",
    "failed": "failed",
}


def keepsake_frames(frames: Sequence[int]) -> frozenset[int]:
    """A few frames spread evenly over `frames`, of which the report has pictures."""
    rows = np.linspace(0, len(frames) - 1, num=min(NUM_KEEPSAKES, len(frames)))
    return frozenset(frames[round(float(row))] for row in rows)


def keepsake(finished: SwappedFrame) -> str:
    """The frame as a small picture, plate beside swap: a JPEG in base64, to be kept with the frame's note."""
    both = np.hstack([_small(finished.record.eight_bit), _small(eight_bit(finished.image))])
    return base64.b64encode(encode_jpeg(both, quality=90)).decode()


def keepsake_picture(kept: str, line: Json) -> Picture:
    """A keepsake as the report shows it; line: the frame's in the ledger."""
    caption = f"frame {line['frame']}, {line['time_seconds']:.2f} s: plate, and {_IN_WORDS[str(line['status'])]}"
    return Picture(labelled_picture(base64.b64decode(kept)), caption)


def write_swap_report(
    path: Path,
    plan: Plan,
    info: FootageInfo,
    figures: Mapping[str, object],
    ledger: Sequence[Json],
    keepsakes: Sequence[Picture],
    losses: Sequence[str],
) -> None:
    """Write report.html of a conversion."""
    num_frames, num_swapped = len(ledger), figures["num_swapped"]
    spans = list(_spans(ledger))
    sections = [
        Section("Every frame", _ledger_text(spans), table=Table(("frames", "status", "why"), spans[:_MOST_ROWS])),
        settings_section("How it was composited", asdict(plan.recipe)),
    ]
    if losses:
        sections.insert(1, Section("What could not be kept of the plate", items=list(losses)))
    render_report(
        path,
        "; ".join(map(str, plan.replacements)),
        sections,
        verdict=f"{num_swapped} of {num_frames} frames of {info.path.name} are swapped.",
        figures=headline(figures, _NOTES),
        pictures=list(keepsakes),
        eyebrow="Understudy: convert",
        footer="The swapped frames are AI-manipulated; the container of the clip says so too.",
    )


def _spans(ledger: Sequence[Json]) -> Iterator[tuple[str, str, str]]:
    """Runs of frames with the same fate: ("0-28", "swapped", "")."""
    for (status, reason), lines in groupby(ledger, key=lambda line: (str(line["status"]), str(line["reason"]))):
        frames = [line["frame"] for line in lines]
        yield (f"{frames[0]}-{frames[-1]}" if len(frames) > 1 else str(frames[0]), _IN_WORDS[status], reason)


def _ledger_text(spans: Sequence[tuple[str, str, str]]) -> str:
    text = "Each frame is listed in ledger.jsonl; here are the runs of frames that share a fate."
    if len(spans) > _MOST_ROWS:
        text += f" Only the first {_MOST_ROWS} of {len(spans)} are shown."
    return text


def _small(image: Image) -> Image:
    height, width = image.shape[:2]
    if height <= _PICTURE_HEIGHT_PX:
        return image
    return resize(image, (max(1, round(width * _PICTURE_HEIGHT_PX / height)), _PICTURE_HEIGHT_PX))
