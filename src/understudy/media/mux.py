"""Writes a movie file of packets that are encoded already, with the plate's sound, subtitles, chapters and tags."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import cast

import av
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.stream import VideoStream

from understudy.media.codecs import CODECS, Track
from understudy.media.encode import configure
from understudy.media.footage import FootageInfo, LossReport
from understudy.media.passthrough import OtherTracks

FORMAT_FROM_SUFFIX = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}
MOVIE_UNITS_PER_SECOND = 90_000


def write_movie(file: Path, track: Track, info: FootageInfo, packets: Iterable[Packet[Stream]], on_loss: LossReport) -> None:
    """Muxes packets (in decoding order, timed in the plate's unit) into `file`; sound is copied in step with the picture.

    The container is the one that `track.path` names.
    """

    with _open_output(file, FORMAT_FROM_SUFFIX[track.path.suffix.lower()], info, track.metadata) as container:
        stream = cast(VideoStream, container.add_stream(CODECS[track.codec].encoder, rate=info.frame_rate))
        configure(stream.codec_context, track, info)
        stream.time_base = info.time_base
        if info.display_matrix:
            stream.set_display_matrix(info.display_matrix)
        if info.timecode:
            stream.metadata["timecode"] = info.timecode
        others = OtherTracks(info, container, on_loss) if track.has_sound and not info.is_folder else None
        is_complete = False
        try:
            for packet in packets:
                packet.stream = stream
                if others is not None and packet.dts is not None:
                    others.copy_until(float(packet.dts * packet.time_base))
                container.mux_one(packet)
            is_complete = True
        finally:
            if others is not None:
                others.close(is_complete=is_complete)


def _open_output(file: Path, container_format: str, info: FootageInfo, metadata: Mapping[str, str]) -> OutputContainer:
    # Sound often starts a little before zero (its codec's run-in); moving everything to zero would change the picture's times.
    options = {"avoid_negative_ts": "disabled", "fflags": "+bitexact"}  # bitexact: Matroska would draw its identity by lot
    if container_format in ("mp4", "mov"):
        # Times are counted in the plate's own unit; the movie's own unit, in which tracks are shifted against each other, is a
        # fine multiple of it. The index comes first, so that browsers play at once, and every metadata name is kept.
        unit = info.time_base.denominator
        movie_unit = unit * max(1, MOVIE_UNITS_PER_SECOND // unit)
        options["movflags"] = "+faststart+use_metadata_tags"
        options |= {"video_track_timescale": str(unit), "movie_timescale": str(movie_unit)}
    container = av.open(f"file:{file.absolute()}", "w", format=container_format, container_options=options)
    container.metadata.update(metadata)
    return container
