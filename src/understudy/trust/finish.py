"""Finishes an output, in one call after its last frame: XMP label, signed credentials, a line in the user's list of renders.

In the frame loop before that, every frame goes through `output_marker(lineage, width, height).mark(frame)`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from understudy.store.atomic import temporary_beside
from understudy.store.hashing import sha256_of_footage
from understudy.trust.credentials import Lineage, sign_output
from understudy.trust.label import xmp_packet
from understudy.trust.renders import remember_render
from understudy.trust.watermark import Marker
from understudy.trust.xmp import add_xmp


def output_marker(lineage: Lineage, width: int, height: int) -> Marker:
    """The marker of one output's frames; the identity it writes leads back to the lineage."""
    return Marker(int(lineage.watermark_id, 16), width, height)


def finish_output(path: Path, lineage: Lineage, plate: Path) -> Mapping[str, object]:
    """Labels and signs a finished file or folder of frames, atomically; returns figures for the stage's manifest.

    Figures: `watermark_id` (12 hexadecimal digits), `credentials` ("embedded" or "sidecar"), `output_sha256`.
    """
    holder = label_and_sign(path, lineage, plate)
    sha256 = sha256_of_footage(path)
    remember_render(lineage, path.name, sha256)
    return {
        "watermark_id": lineage.watermark_id,
        "credentials": "embedded" if holder == path else "sidecar",
        "output_sha256": sha256,
    }


def label_and_sign(path: Path, lineage: Lineage, plate: Path) -> Path:
    """Labels and signs a file or folder of frames, a pass for instance; returns what holds the credentials."""
    packet = xmp_packet(watermark_id=lineage.watermark_id)
    if path.is_dir():
        for frame in sorted(path.iterdir()):
            if frame.suffix.lower() in (".png", ".jpg", ".jpeg", ".tif", ".tiff"):
                _labelled(frame, packet)
    else:
        _labelled(path, packet)
    return sign_output(path, lineage, plate)


def _labelled(path: Path, packet: str) -> None:
    temporary = temporary_beside(path).with_suffix(path.suffix)
    try:
        shutil.copyfile(path, temporary)
        if add_xmp(temporary, packet):
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
