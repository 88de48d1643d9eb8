"""The file a conversion leaves: every frame gated, watermarked and under a visible notice; labelled and signed at the end."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

from understudy.imaging.depth import eight_bit
from understudy.media.footage import FootageInfo, FrameRecord
from understudy.media.writer import VideoWriter
from understudy.stages._swapping import SwappedFrame
from understudy.trust.credentials import Lineage
from understudy.trust.finish import finish_output, output_marker
from understudy.trust.gate import ContentGate
from understudy.trust.label import metadata
from understudy.trust.notice import end_card, with_corner_notice
from understudy.types import ConvertRecipe, Image

OUTPUT_NAME: Mapping[str, str] = {"h264": "swap.mp4", "ffv1": "swap.mkv", "png": "frames"}
DELIVERY_CODECS = ("h264",)
"""What people will watch. The others are intermediates: only the matte is marked, so that the plate's pixels stay untouched."""

UNSIGNED_FOLDER = "unsigned"
END_CARD_SECONDS = 2.0


class MarkedOutput:
    """Writes swapped frames to `folder`; the file has its final name only once it is labelled and signed.

    Use as a context manager; `path` and `figures` hold after it has closed. Raises Refused where the content gate does.
    """

    def __init__(
        self, folder: Path, info: FootageInfo, recipe: ConvertRecipe, lineage: Lineage, on_loss: Callable[[str], None]
    ) -> None:
        self.path = folder / OUTPUT_NAME[recipe.codec]
        self.figures: dict[str, object] = {}
        self._info, self._recipe, self._lineage = info, recipe, lineage
        self._is_delivery = recipe.codec in DELIVERY_CODECS
        self._unsigned = folder / UNSIGNED_FOLDER / self.path.name
        shutil.rmtree(self._unsigned.parent, ignore_errors=True)  # left by a killed run
        self._unsigned.parent.mkdir(parents=True)
        self._marker = output_marker(lineage, info.width, info.height)
        self._last_records: list[FrameRecord] = []
        self._stack = ExitStack()
        self._gate = self._stack.enter_context(ContentGate())
        tags = metadata(watermark_id=lineage.watermark_id)
        self._writer = self._stack.enter_context(
            VideoWriter(self._unsigned, plate=info.path, codec=recipe.codec, crf=recipe.crf, metadata=tags, on_loss=on_loss)
        )

    def write(self, frame: SwappedFrame, shot: int) -> None:
        """Gate, mark and write one finished frame."""
        record, where = frame.record, f"{self._info.path.name}, frame {frame.record.index}"
        boxes = [face.box for face in frame.faces]
        if self._gate.consider(record.eight_bit, where, record.time_seconds, ("plate", shot), boxes):
            self._gate.look(eight_bit(frame.image), f"the swap of {where}", ("swap", shot))
        self._writer.write(self._marked(frame), record)
        self._last_records = [*self._last_records[-1:], record]

    def _marked(self, frame: SwappedFrame) -> Image:
        plain = eight_bit(frame.image)
        if not self._is_delivery:
            return self._marker.mark(plain, frame.matte)
        has_corner = self._recipe.notice == "corner"
        image = with_corner_notice(plain, self._recipe.notice_language) if has_corner else plain
        return self._marker.mark(image)

    def _write_end_card(self) -> None:
        if not self._is_delivery or self._recipe.notice != "end-card" or not self._last_records:
            return
        card = self._marker.mark(end_card(self._info.width, self._info.height, self._recipe.notice_language))
        first, last = self._last_records[0], self._last_records[-1]
        step = max(last.pts - first.pts, 1) if first is not last else round(1 / self._info.frame_rate / last.time_base)
        for number in range(1, max(1, round(END_CARD_SECONDS * self._info.frame_rate)) + 1):
            seconds = last.time_seconds + float(Fraction(step * number) * last.time_base)
            self._writer.write(
                card, replace(last, index=last.index + number, pts=last.pts + step * number, time_seconds=seconds)
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if kind is None:
                self._finish()
            else:
                self._stack.__exit__(kind, error, trace)
        finally:
            self._stack.close()
            shutil.rmtree(self._unsigned.parent, ignore_errors=True)

    def _finish(self) -> None:
        self._write_end_card()
        gate = self._gate.result().as_json()
        self._stack.close()
        self.figures = {**finish_output(self._unsigned, replace(self._lineage, gate=gate), self._info.path), "gate": gate}
        for made in sorted(self._unsigned.parent.iterdir()):  # the file or folder, and its credentials where they lie beside it
            place = self.path.parent / made.name
            if place.is_dir():
                shutil.rmtree(place)
            os.replace(made, place)
