"""Renders performers whom nobody is, drawn at random, each with a performance of its own: what a starter learns from.

`python tools/starter_performers.py RENDERER OUT --performers 48 [--first 0]` runs in the renderer's environment, not in ours
(docs/virtual-performers.md). OUT gets NAME.mp4 for each, from p000 on: the same number gives the same performer. Head shape,
skin, colours, hair, brows, light and performance are all random; meshes and textures are those that the renderer's notes list
as CC0. All are adults. The performers of the benchmark are not among them. Only NumPy is imported here besides.
"""

from __future__ import annotations

import argparse
import importlib
import shutil
import sys
from pathlib import Path
from typing import Any

import entry
import numpy as np

SKINS = (
    "middleage_lightskinned_male_diffuse",
    "young_lightskinned_male_diffuse",
    "middleage_lightskinned_female_diffuse2",
    "middleage_darkskinned_female_diffuse",
    "old_lightskinned_male_diffuse2",
)
HAIR, BROWS, LASHES = ("short02", "ponytail01", "short04"), ("001", "002", "008"), ("01", "02")
EYES = ("grey_eye", "brown_eye", "brownlight_eye")
CHANGES = {  # how many shape targets of each group, and how much of each at most
    "head": (3, 0.45),
    "chin": (2, 0.45),
    "nose": (4, 0.5),
    "mouth": (4, 0.45),
    "eyebrows": (2, 0.5),
    "forehead": (1, 0.35),
    "eyes": (3, 0.35),
    "cheek": (1, 0.45),
}
LEFT_ALONE = ("trans-forward", "trans-backward", "trans-in", "trans-out", "head-trans", "age", "fat-incr", "mouth-trans")
SIZE_PX, FRAMES, STEP = 256, 160, 2
NUM_RAYS = 16
"""For the baked light: a quarter of what the benchmark's performers got."""


def performer(number: int, targets: Path) -> dict[str, Any]:
    """The description of performer `number`, in the form of the renderer's `identities.py`."""
    random = np.random.default_rng([20261126, number])
    skin = random.dirichlet([0.6] * len(SKINS))
    tone = random.uniform(0.55, 1.05)
    eye = str(random.choice(EYES))
    hair, brow, lash = (str(random.choice(each)) for each in (HAIR, BROWS, LASHES))
    grey = random.uniform() < 0.3
    shade = float(random.uniform(0.1, 1.1))
    return {
        "shape": {**_build(random), **_features(random, targets)},
        "skin": [(name, float(weight)) for name, weight in zip(SKINS, skin, strict=True) if weight > 0.02],
        "skin_gain": tuple(float(tone * random.uniform(0.92, 1.04)) for _ in range(3)),
        "pore": float(random.uniform(0.8, 1.3)),
        "gloss": float(random.uniform(0.48, 0.62)),
        "eye": eye,
        "eye_tint": tuple(float(each) for each in random.uniform(0.5, 1.0) * random.uniform(0.85, 1.1, 3)),
        "hair_gain": tuple(float(shade * each) for each in random.uniform(0.75, 1.1, 3)),
        "hair_grey": float(random.uniform(0.5, 1.0)) if grey else 0.0,
        "brow_rgb": tuple(float(0.01 + 0.05 * shade * each) for each in random.uniform(0.4, 1.1, 3)),
        "brow_alpha": float(random.uniform(0.8, 1.6)),
        "proxies": {
            "eyes": "mh/eyes/high-poly/high-poly.mhclo",
            "brows": f"mha/eyebrows/eyebrow{brow}/eyebrow{brow}.mhclo",
            "lashes": f"mha/eyelashes/eyelashes{lash}/eyelashes{lash}.mhclo",
            "teeth": "mha/teeth/teeth_base/teeth_base.mhclo",
            "tongue": "mha/tongue/tongue01/tongue01.mhclo",
            "hair": f"mha/hair/{hair}/{hair}.mhclo",
        },
        "brow_tex": f"eyebrow{brow}",
        "lash_tex": f"eyelashes{lash}",
        "hair_tex": hair,
    }


def _build(random: np.random.Generator) -> dict[str, float]:
    """Descent, sex and age (25 and more), each somewhere between the ends that there are targets for."""
    descents, age, sex = random.dirichlet([0.7, 0.7, 0.7]), random.uniform(), random.beta(0.5, 0.5)
    shape = {}
    for gender, by_sex in (("male", sex), ("female", 1 - sex)):
        for years, by_age in (("old", age), ("young", 1 - age)):
            for descent, share in zip(("caucasian", "african", "asian"), descents, strict=True):
                shape[f"macrodetails/{descent}-{gender}-{years}"] = float(share * by_sex * by_age)
            shape[f"macrodetails/universal-{gender}-{years}-averagemuscle-averageweight"] = float(by_sex * by_age)
    return shape


def _features(random: np.random.Generator, targets: Path) -> dict[str, float]:
    """Some targets of each group; what lies left and right is changed on both sides alike."""
    shape: dict[str, float] = {}
    for group, (count, most) in CHANGES.items():
        names = sorted(path.stem for path in (targets / group).glob("*.target") if not path.stem.startswith("r-"))
        names = [name for name in names if not any(part in name for part in LEFT_ALONE)]
        for name in random.choice(names, count, replace=False):
            weight = float(most * random.uniform(0.2, 1))
            sides = [f"r-{name[2:]}"] if name.startswith("l-") else []
            shape |= {f"{group}/{each}": weight for each in (str(name), *sides)}
    return shape


def main() -> None:
    """Describe the performers, render them and encode them, all by the renderer's own code."""
    asked = _parser().parse_args()
    sys.path.insert(0, str(asked.renderer))
    modules: list[Any] = [
        importlib.import_module(name) for name in ("identities", "performance", "render_clips", "encode", "stage", "model")
    ]
    identities, performance, render_clips, encode, stage, model = modules
    whole = stage.occlusion
    stage.occlusion = lambda points, normals, mesh, rays=64, seed=0: whole(points, normals, mesh, min(rays, NUM_RAYS), seed)
    asked.out.mkdir(parents=True, exist_ok=True)
    for number in range(asked.first, asked.first + asked.performers):
        name = f"p{number:03d}"
        frames = asked.out / "frames"
        if (asked.out / f"{name}.mp4").is_file() and not (frames / name).is_dir():
            continue
        shutil.rmtree(frames / name, ignore_errors=True)  # of a run that was killed
        random = np.random.default_rng([7, number])
        identities.ACTORS[name] = performer(number, Path(model.ASSETS) / "mh" / "targets")
        shirt = tuple(float(each) for each in random.uniform(0.03, 0.2, 3))
        performance.CLIPS[name] = (name, lambda number=number: performance.train(1000 + number, FRAMES), number, shirt)
        sys.argv = ["render_clips", str(frames), name, "--step", str(STEP), "--size", str(SIZE_PX)]
        render_clips.main()
        for place, path in enumerate(sorted((frames / name).glob("*.png"))):
            path.rename(path.with_name(f"{place:04d}.png"))
        encode.CRF = {name: 12}
        sys.argv = ["encode", str(frames), str(asked.out)]
        encode.main()
        (asked.out / f"{name}_mask.mp4").unlink()  # the JSON stays: it says what is played
        for left in (frames / f"{name}_mask", frames / name):  # the frames last: as long as they lie there the clip is not done
            shutil.rmtree(left)


def _parser() -> argparse.ArgumentParser:
    parser = entry.parser(__doc__)
    parser.add_argument("renderer", type=Path, help="the folder with render_clips.py")
    parser.add_argument("out", type=Path, help="gets a clip for each performer")
    parser.add_argument("--performers", type=int, default=48)
    parser.add_argument("--first", type=int, default=0, help="the first performer's number")
    return parser


if __name__ == "__main__":
    entry.run(main)
