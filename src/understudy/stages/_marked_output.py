"""The files a conversion leaves: every frame gated, watermarked and under a visible notice; labelled and signed at the end."""

from __future__ import annotations

import os
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self, cast

import numpy as np

from understudy.imaging.depth import codes_from_unit, eight_bit, unit_from_codes
from understudy.imaging.transfer import HLG, PQ
from understudy.media.codecs import CODECS, Track, check_codec, unkept
from understudy.media.footage import FootageInfo, FrameRecord
from understudy.media.reader import read_frames
from understudy.media.segments import Layer, SegmentedWriter
from understudy.media.writer import blaming
from understudy.settings import Codec, ConvertRecipe
from understudy.stages._passes import FOREGROUND, MATTE, PASSES_FOLDER, pass_layers, pass_tracks
from understudy.stages._swapping import SwappedFrame
from understudy.store.hashing import code_sha256, sha256_of_footage
from understudy.trust.credentials import SIDECAR_SUFFIX, Lineage
from understudy.trust.finish import finish_output, label_and_sign, output_marker
from understudy.trust.gate import HIT_SCORE, ContentGate
from understudy.trust.label import metadata
from understudy.trust.notice import END_CARD_SECONDS, end_card, with_corner_notice
from understudy.trust.standing import Standing
from understudy.types import AnyImage, BadInput, Json, Refused

OUTPUT_NAMES: Mapping[Codec, str] = {"png": "frames", "tiff": "frames", "exr": "exr"}
DELIVERY_CODECS = ("h264", "h265", "vp9", "av1")
"""What people will watch. The others are intermediates: only the matte is marked, so that the plate's pixels stay untouched."""

SWAP = "swap"
_ENDLESS = 2**62
SEGMENTS_FOLDER, UNSIGNED_FOLDER = "segments", "unsigned"
WHITE = {PQ: 0.58, HLG: 0.75}
"""ITU-R BT.2408: the code value of reference white (203 cd/m2), at which writing is set in HDR."""


def output_path(folder: Path, codec: Codec) -> Path:
    """Where a conversion's picture goes: swap.mp4, swap.mov, swap.mkv, or the folder frames or exr."""
    return folder / OUTPUT_NAMES.get(codec, f"{SWAP}{CODECS[codec].suffixes[0]}")


class MarkedOutput:
    """Writes swapped frames to `folder`, and their passes; a file has its final name only once it is labelled and signed.

        with MarkedOutput(folder, info, recipe, lineage, on_loss, is_resumed=True) as output:
            for frame in swapped_frames(read_frames(info.path, output.num_done), ...):
                output.write(frame, shot, note)
            ledger = list(output.notes())

    is_resumed: go on after the `num_done` frames that lie in closed segments of an earlier run for the same by the same code
    (killed or failed); else it starts anew. excerpt: the frames of a film that are shown alone, from time 0, silent. keys:
    of the segments (_segment_keys.py); earlier: the folder of an earlier conversion of the plate, from which those that would
    come out the same are taken; then the segments stay for the next one. They also stay where a fault of ours spoiled a frame:
    a resumed run makes those that hold one again. `missing`: frames to be written, counted from the first that is shown.
    `note`: what of a frame must survive a kill with it; `notes` gives them all back, in order. `path` and `figures` hold after
    the block. standing: asked before a segment is closed, and before anything has its final name. Raises Refused where it or
    the content gate does; then nothing of it is kept.
    """

    def __init__(
        self,
        folder: Path,
        info: FootageInfo,
        recipe: ConvertRecipe,
        lineage: Lineage,
        on_loss: Callable[[str], None],
        *,
        is_resumed: bool = False,
        excerpt: range | None = None,
        keys: Sequence[str] = (),
        earlier: Path | None = None,
        standing: Standing | None = None,
    ) -> None:
        check_codec(recipe.codec)
        self._standing = standing or Standing(folder)
        self.path = output_path(folder, recipe.codec)
        self.figures: dict[str, object] = {}
        info = replace(info, timecode="") if excerpt else info  # the first frame's
        self._folder, self._info, self._recipe, self._lineage = folder, info, recipe, lineage
        self._is_delivery = recipe.codec in DELIVERY_CODECS
        self._unsigned = folder / UNSIGNED_FOLDER
        self._marker = output_marker(lineage, info.width, info.height)
        self._excerpt = excerpt
        self._last: FrameRecord | None = None
        self._begin_pts = _first_pts(info.path, excerpt) if excerpt else 0
        self._has_asked, self._run, self._is_kept, self._is_spoiled = False, time.time_ns(), earlier is not None, False
        tags = metadata(watermark_id=lineage.watermark_id)
        self._has_alpha = recipe.codec == "prores_4444" or (info.has_alpha and bool(CODECS[recipe.codec].alpha))
        swap = Track(self._unsigned / self.path.name, recipe.codec, recipe.crf, tags, not excerpt, self._has_alpha)
        self._passes = pass_tracks(self._unsigned / PASSES_FOLDER, recipe, tags)
        for message in unkept(recipe.codec, info, self.path.suffix == ".mkv", self._has_alpha):
            on_loss(message)
        if not is_resumed:
            shutil.rmtree(folder / SEGMENTS_FOLDER, ignore_errors=True)
        shutil.rmtree(self._unsigned, ignore_errors=True)  # left by a killed run
        tracks = {SWAP: swap, **self._passes}
        open_writer = partial(
            SegmentedWriter, folder / SEGMENTS_FOLDER, info, tracks, on_loss=on_loss, keys=keys, code=code_sha256()
        )
        with blaming(folder):
            self._writer = open_writer()
            if earlier is not None:
                self._writer.adopt(earlier / SEGMENTS_FOLDER)
        self._earlier = _gates(self._writer.notes())
        if any(
            float(str(gate["highest_score"])) >= HIT_SCORE for gate in self._earlier
        ):  # a hit counts together with others of its shot
            self._writer.discard()
            self._writer = open_writer()
            self._earlier = []
        self.num_done, self.missing = self._writer.num_done, self._writer.missing
        self._stack = ExitStack()
        self._gate = self._stack.enter_context(ContentGate())

    def write(self, frame: SwappedFrame, shot: int, note: Json | None = None) -> None:
        """Gate, mark and write one finished frame, and its passes."""
        record, where = self._from_the_begin(frame.record), f"{self._info.path.name}, frame {frame.record.index}"
        boxes = [face.box for face in frame.faces]
        if self._gate.consider(record.eight_bit, where, record.time_seconds, ("plate", shot), boxes):
            self._gate.look(eight_bit(frame.image), f"the swap of {where}", ("swap", shot))
            self._has_asked = True
        layers = {SWAP: Layer(self._marked(frame), self._alpha(frame)), **self._pass_layers(frame)}
        if self._writer.is_last_of_segment:
            self._standing.check()
        held: Json = {"note": note or {}}
        if self._writer.is_last_of_segment and self._has_asked:
            # This waits: no segment is closed before all its pictures are judged.
            held["gate"] = {**self._gate.result().as_json(), "run": self._run}
        with blaming(self.path):
            self._writer.write(record, layers, held, is_spoiled=bool(frame.fault))
        self._is_spoiled |= bool(frame.fault)
        self._last = record

    def notes(self) -> Iterator[Json]:
        """The notes of all frames, those of earlier runs too. After it nothing more can be written."""
        return (cast(Json, held["note"]) for held in self._writer.notes() if "note" in held)

    def discard_unless_spoiled(self) -> None:
        """Keeps nothing of a film that will not be, so that its folder is free for other settings.

        Where a fault of ours spoiled a frame, what is whole stays: the same command makes only the rest again.
        """
        if not self._is_spoiled:
            self._writer.discard()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if kind is None:
                self._finish()
        except Refused:
            self._writer.discard()
            raise
        finally:
            if isinstance(error, Refused):
                self._writer.discard()
            self._writer.__exit__(kind, error, trace)
            self._stack.close()
            shutil.rmtree(self._unsigned, ignore_errors=True)

    # ---- a frame ----

    def _marked(self, frame: SwappedFrame) -> AnyImage:
        if not self._is_delivery:
            return self._marker.mark(frame.image, frame.matte)
        has_corner = self._recipe.notice != "end-card"  # whatever else it were, there is a notice
        image = with_corner_notice(frame.image, self._recipe.notice_language, self._white) if has_corner else frame.image
        return self._marker.mark(image)

    def _alpha(self, frame: SwappedFrame) -> AnyImage | None:
        """The plate's own transparency, or the matte."""
        if not self._has_alpha:
            return None
        return frame.record.alpha if frame.record.alpha is not None else codes_from_unit(frame.matte, like=frame.image)

    def _pass_layers(self, frame: SwappedFrame) -> dict[str, Layer]:
        if not self._passes:
            return {}
        layers = pass_layers(frame)
        if frame.layers:
            matte = unit_from_codes(layers[MATTE].image)
            layers[FOREGROUND] = Layer(self._marker.mark(layers[FOREGROUND].image, matte))
        return layers

    @property
    def _white(self) -> float:
        return WHITE.get(self._info.colour.transfer, 1.0)

    def _write_end_card(self) -> None:
        if not self._is_delivery or self._recipe.notice != "end-card":
            return
        first, last = self._excerpt.start if self._excerpt else 0, self._last
        num_closed = self.missing[-1].start
        if last is None or last.index - first < num_closed:  # the film ends in an earlier run's segment, perhaps in the card
            last = self._last_frame()
        if last is None:
            return
        num_cards_done = max(0, num_closed - (last.index - first) - 1)
        card = end_card(self._info.width, self._info.height, self._recipe.notice_language)
        card_in_depth = self._marker.mark(codes_from_unit(unit_from_codes(card) * np.float32(self._white), like=last.image))
        step, begin = self._info.frame_step, last.pts + (last.duration or self._info.frame_step)
        for number in range(num_cards_done + 1, max(1, round(END_CARD_SECONDS * self._info.frame_rate)) + 1):
            pts = begin + step * (number - 1)
            seconds = float(pts * last.time_base)
            record = replace(last, index=last.index + number, pts=pts, time_seconds=seconds, duration=step)
            self._writer.write(record, {SWAP: Layer(card_in_depth)}, {})

    def _from_the_begin(self, record: FrameRecord) -> FrameRecord:
        """The frame at its time in the output."""
        return replace(record, pts=record.pts - self._begin_pts)

    def _last_frame(self) -> FrameRecord | None:
        shown = self._excerpt or range(_ENDLESS)
        frames = read_frames(self._info.path, shown.start, shown.stop, is_sought=bool(self._excerpt))
        return next(map(self._from_the_begin, deque(frames, maxlen=1)), None)

    # ---- the end ----

    def _finish(self) -> None:
        self._check_plate()
        self._standing.check()
        with blaming(self.path):
            self._write_end_card()
            gate = self._gate_figures()
            self._stack.close()
            (self._unsigned / PASSES_FOLDER).mkdir(parents=True, exist_ok=True)
            self._writer.join()
        lineage = replace(self._lineage, gate=gate)
        self.figures = {**finish_output(self._unsigned / self.path.name, lineage, self._info.path), "gate": gate}
        for track in self._passes.values():
            label_and_sign(track.path, lineage, self._info.path)
        self._standing.check()  # a long film has taken minutes to join and sign
        made = [*(self._unsigned / PASSES_FOLDER).iterdir(), *self._unsigned.iterdir()]
        for each in sorted(made, key=_is_picture):  # credentials beside a file go first: it is never there without them
            if each.name != PASSES_FOLDER:
                _put(each, self._folder / each.relative_to(self._unsigned))
        if not (self._is_kept or self._is_spoiled):
            self._writer.discard()

    def _check_plate(self) -> None:
        """Raises BadInput, and keeps nothing, where the plate is no longer what was checked and is signed for."""
        stated = self._lineage.inputs.get("plate")
        if stated and sha256_of_footage(self._info.path) != stated:
            self._writer.discard()
            raise BadInput(f"{self._info.path}: was changed while it was converted; convert it anew, into another folder")

    def _gate_figures(self) -> Json:
        """What the gate saw, over all runs."""
        runs = [*self._earlier, *([self._gate.result().as_json()] if self._has_asked or not self._earlier else [])]
        scores = [float(str(run["highest_score"])) for run in runs]
        num_samples = sum(int(str(run["num_samples"])) for run in runs)
        return {**runs[-1], "num_samples": num_samples, "highest_score": max(scores)}


def _first_pts(plate: Path, shown: range) -> int:
    """When a plate shows the first of these frames; 0 where it has none of them."""
    return next((record.pts for record in read_frames(plate, shown.start, shown.stop, is_sought=True)), 0)


def _gates(notes: Iterable[Json]) -> list[Json]:
    """What the gate saw in each earlier run, at its last closed segment."""
    seen = [held["gate"] for held in notes if "gate" in held]
    by_run = {
        gate["run"]: {key: value for key, value in gate.items() if key != "run"} for gate in seen if isinstance(gate, dict)
    }
    return list(by_run.values())


def _is_picture(made: Path) -> bool:
    return made.suffix != SIDECAR_SUFFIX


def _put(made: Path, place: Path) -> None:
    """A finished file or folder of frames, and its credentials, to where it belongs."""
    place.parent.mkdir(exist_ok=True)
    if place.is_dir():
        shutil.rmtree(place)
    os.replace(made, place)
