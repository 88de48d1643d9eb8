"""Makes docs/strip.jpg, the README's picture, from a finished demo: plate, both swaps and truth, one below the other.

python tools/make_strip.py demo docs/strip.jpg
"""

from __future__ import annotations

from pathlib import Path

import entry
import numpy as np

from understudy.imaging.warp import resize
from understudy.media import encode_jpeg, read_frames
from understudy.store.atomic import atomic_write_bytes
from understudy.trust.label import labelled_picture
from understudy.types import Image

SAMPLE = Path(__file__).parents[1] / "src" / "understudy" / "sample"
FRAMES = (6, 30, 44, 66, 74, 95, 114)
HEAD = slice(50, 430), slice(70, 450)
TILE_PX = 190


def make_strip(demo: Path, out: Path) -> None:
    """Write the strip of the demo folder `demo` to `out`."""
    swaps = [demo / "swaps" / name / "swap.mp4" for name in ("delivery", "abel_test")]
    clips = (SAMPLE / "abel_test.mp4", *swaps, SAMPLE / "bea_test.mp4")
    rows = [np.concatenate([_tile(picture) for picture in _pictures(clip)], axis=1) for clip in clips]
    atomic_write_bytes(out, labelled_picture(encode_jpeg(np.concatenate(rows, axis=0), quality=90)))


def _pictures(clip: Path) -> list[Image]:
    return [record.image for record in read_frames(clip) if record.index in FRAMES]


def _tile(picture: Image) -> Image:
    return resize(np.ascontiguousarray(picture[HEAD]), (TILE_PX, TILE_PX))


if __name__ == "__main__":
    asked = entry.parser(__doc__)
    asked.add_argument("demo", type=Path, help="the folder of a finished demo")
    asked.add_argument("out", type=Path, help="the picture")
    entry.run(make_strip, asked)
