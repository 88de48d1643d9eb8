"""Copies sound and subtitles of a plate unchanged beside a new picture, in step with it, a packet at a time."""

from __future__ import annotations

import io
from collections.abc import Generator
from fractions import Fraction

import av
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Discard, Stream

from understudy.media.footage import FootageInfo, LossReport, open_footage


class OtherTracks:
    """The audio and subtitle streams of a plate, and its chapters, muxed into `output` as far as the picture has come.

    Tracks that the output's container cannot hold, and kinds that are never copied (data other than timecode, attachments), are
    told to `on_loss` in words. Sound that is longer than the picture is copied to its end.
    """

    def __init__(self, plate: FootageInfo, output: OutputContainer, on_loss: LossReport) -> None:
        self._plate = plate
        self._output = output
        self._on_loss = on_loss
        self._num_lost = 0
        self._input = open_footage(plate.path)
        self._copies: dict[int, Stream] = {}
        for stream in self._input.streams:
            self._add(stream)
        if not plate.clock_start_seconds:
            output.set_chapters(self._input.chapters())
        self._packets = self._wanted_packets()
        self._next = next(self._packets, None)

    def copy_until(self, seconds: float) -> None:
        """Muxes all packets that are decoded at or before this time."""
        while self._next is not None and _decoded_at(self._next, self._plate.clock_start_seconds) <= seconds:
            self._mux(self._next)
            self._next = next(self._packets, None)

    def close(self, *, is_complete: bool) -> None:
        """Copies the rest where the picture is complete, and closes the plate."""
        if is_complete:
            self.copy_until(float("inf"))
        self._packets.close()
        self._input.close()
        if self._num_lost:
            self._on_loss(f"{self._plate.path}: {self._num_lost} packets of sound or subtitles are damaged and not copied")

    def _add(self, stream: Stream) -> None:
        if stream.type in ("audio", "subtitle") and _fits(stream, self._output.format.name):
            copy = self._output.add_stream_from_template(stream)
            copy.metadata.update(stream.metadata)
            copy.disposition = stream.disposition
            self._copies[stream.index] = copy
            return
        stream.discard = Discard.all
        if stream.type in ("audio", "subtitle"):
            codec = stream.codec_context.name if stream.codec_context else "unknown codec"
            track = f"{stream.type} track ({codec})"
            self._on_loss(f"{self._plate.path}: {self._output.format.name} cannot hold its {track}; write .mkv to keep it")
        elif stream.type != "video" and not (stream.type == "data" and self._plate.timecode):  # written anew, see mux.py
            self._on_loss(f"{self._plate.path}: its {stream.type} track is not copied")

    def _wanted_packets(self) -> Generator[Packet[Stream], None, None]:
        if not self._copies:
            return
        packets = self._input.demux([self._input.streams[index] for index in self._copies])
        while True:
            try:
                packet = next(packets, None)
            except av.FFmpegError:
                return
            if packet is None:
                return
            if packet.size:
                yield packet

    def _mux(self, packet: Packet[Stream]) -> None:
        offset = round(self._plate.clock_start_seconds / packet.time_base)
        packet.pts = None if packet.pts is None else packet.pts - offset
        packet.dts = None if packet.dts is None else packet.dts - offset
        packet.stream = self._copies[packet.stream.index]
        try:
            self._output.mux_one(packet)
        except av.FFmpegError:
            self._num_lost += 1


def _fits(stream: Stream, container_format: str) -> bool:
    """Whether a container takes this stream: tried with a header in memory."""
    if stream.codec_context is None:
        return False
    try:
        with av.open(io.BytesIO(), "w", format=container_format) as trial:
            trial.add_stream_from_template(stream)
            trial.start_encoding()
    except (av.FFmpegError, ValueError):
        return False
    return True


def _decoded_at(packet: Packet[Stream], clock_start_seconds: Fraction) -> float:
    time = packet.dts if packet.dts is not None else packet.pts
    return float((time or 0) * packet.time_base - clock_start_seconds)
