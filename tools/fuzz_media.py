"""Clips and stills to be fuzzed, small and good ones of each container, and all that reads a foreign one."""

from __future__ import annotations

import tempfile
from fractions import Fraction
from functools import cache
from itertools import islice
from pathlib import Path

import av
import cv2
import numpy as np
from fuzz_answers import answered

from understudy.media import probe, read_frames
from understudy.media.images import footage_images, read_image
from understudy.media.keyframes import read_key_frames
from understudy.media.tags import container_tags
from understudy.store.atomic import atomic_write_bytes
from understudy.trust.credentials import Lineage, read_credentials, sign_output
from understudy.trust.label import xmp_packet
from understudy.trust.xmp import add_xmp, read_xmp

SIDE_PX = 64

_CONTAINERS = {
    ".mp4": "libx264",
    ".mov": "prores_ks",
    ".mkv": "ffv1",
    ".avi": "mpeg4",
    ".ts": "mpeg2video",
    ".gif": "gif",
    ".webm": "libvpx",
}


@cache
def media_seeds() -> tuple[bytes, ...]:
    """A short clip in each container, one that is labelled and signed, and a still of each kind."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for suffix, codec in _CONTAINERS.items():
            _write_clip(folder / f"clip{suffix}", codec)
        signed = folder / "signed.mp4"
        signed.write_bytes((folder / "clip.mp4").read_bytes())
        add_xmp(signed, xmp_packet(watermark_id="0123456789ab"))
        sign_output(signed, Lineage({"plate": "00"}, ()), folder / "clip.mp4")
        picture = np.random.default_rng(0).integers(0, 255, (SIDE_PX, SIDE_PX, 3), np.uint8)
        stills = [cv2.imencode(kind, picture)[1].tobytes() for kind in (".png", ".jpg", ".tif", ".bmp", ".webp")]
        return (*(path.read_bytes() for path in sorted(folder.iterdir())), *stills)


def _write_clip(path: Path, codec: str) -> None:
    with av.open(str(path), "w") as output:
        stream = output.add_stream(codec, rate=Fraction(25))
        stream.width, stream.height = SIDE_PX, SIDE_PX
        stream.pix_fmt = {"gif": "rgb8", "prores_ks": "yuv422p10le"}.get(codec, "yuv420p")
        for number in range(3):
            picture = np.full((SIDE_PX, SIDE_PX, 3), 40 * number, np.uint8)
            output.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=stream.pix_fmt)))
        output.mux(stream.encode(None))


def run_media(data: bytes, folder: Path) -> None:
    """Read a file of that content in every way that a clip or a still is read."""
    path = folder / "clip.mp4"
    path.write_bytes(data)
    with answered():
        probe(path)
        for _ in islice(read_frames(path), 4):
            pass
    with answered():
        for _ in read_key_frames(path, 2):
            pass
    with answered():
        container_tags(path)
    with answered():
        read_image(path)
    read_xmp(path)
    read_credentials(path)
    still = folder / "frames" / "0001.png"
    atomic_write_bytes(still, data)
    with answered():
        footage_images(still.parent)
        probe(still.parent)
    with answered():
        add_xmp(still, xmp_packet())
