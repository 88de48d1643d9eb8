"""Cuts the bundled sample out of the full set of virtual-actor clips: `python tools/make_sample.py ACTORS [OUT]`.

ACTORS is the folder with `train_A.mp4`, `test_A.mp4`, `test_A.json`, `test_A_mask/` and the same for B. Clips are copied as
they are; of the true landmarks only what `evaluate` reads is kept; masks keep 32 grey levels, so that all fits into 6 MB.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import entry
import numpy as np
from numpy.typing import NDArray

PERFORMERS = {"A": "abel", "B": "bea"}
NEEDED_FRAME_FIELDS = ("frame", "head_yaw_pitch_roll", "landmarks", "visible")
NUM_MASK_LEVELS = 32
PACKAGE_SAMPLE = Path(__file__).resolve().parents[1] / "src" / "understudy" / "sample"


def main(actors: Path, out: Path) -> None:
    """Write the sample's clips, true landmarks and masks of both performers."""
    for letter, name in PERFORMERS.items():
        shutil.copyfile(actors / f"train_{letter}.mp4", out / f"{name}_train.mp4")
        shutil.copyfile(actors / f"test_{letter}.mp4", out / f"{name}_test.mp4")
        (out / f"{name}_test.json").write_text(slim_truth(actors / f"test_{letter}.json", name), encoding="utf-8")
        masks = out / f"{name}_test_mask"
        masks.mkdir(exist_ok=True)
        for source in sorted((actors / f"test_{letter}_mask").glob("*.png")):
            (masks / source.name).write_bytes(small_png(cv2.imread(str(source), cv2.IMREAD_GRAYSCALE)))
    num_bytes = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    print(f"{out}: {num_bytes / 1e6:.2f} MB")


def slim_truth(path: Path, name: str) -> str:
    """The true landmarks of a clip in the same format, without what only the renderer needs."""
    truth = json.loads(path.read_text(encoding="utf-8"))
    truth |= {"clip": f"{name}_test", "actor": name}
    truth["frames"] = [{field: frame[field] for field in NEEDED_FRAME_FIELDS} for frame in truth["frames"]]
    return json.dumps(truth, separators=(",", ":")) + "\n"


def small_png(mask: NDArray[np.uint8]) -> bytes:
    """A mask (height, width) with fewer grey levels, in the smallest PNG that OpenCV's filters and strategies give."""
    step = 255 / (NUM_MASK_LEVELS - 1)
    reduced = np.round(np.round(mask / step) * step).astype(np.uint8)
    filters = (cv2.IMWRITE_PNG_FILTER_NONE, cv2.IMWRITE_PNG_ALL_FILTERS)
    strategies = (cv2.IMWRITE_PNG_STRATEGY_DEFAULT, cv2.IMWRITE_PNG_STRATEGY_FILTERED)
    options = [
        [cv2.IMWRITE_PNG_COMPRESSION, 9, cv2.IMWRITE_PNG_FILTER, png_filter, cv2.IMWRITE_PNG_STRATEGY, strategy]
        for png_filter in filters
        for strategy in strategies
    ]
    return min((cv2.imencode(".png", reduced, option)[1].tobytes() for option in options), key=len)


if __name__ == "__main__":
    asked = entry.parser(__doc__)
    asked.add_argument("actors", type=Path, metavar="ACTORS")
    asked.add_argument("out", type=Path, metavar="OUT", nargs="?", default=PACKAGE_SAMPLE)
    entry.run(main, asked)
