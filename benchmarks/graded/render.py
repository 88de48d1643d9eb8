"""Renders morphs between two performers giving the test performance; runs in the renderer's environment, not in ours.

python -m benchmarks.graded.render RENDERER OUT [--between A B] [--percent 25 50 75] [--frames 40]

RENDERER: the folder with render_clips.py (see docs/virtual-performers.md). OUT gets test_A_to_B_25.mp4, .json and _mask/ for
each morph, the form of the truth benchmark. Only the standard library is imported here; the rest is the renderer's own.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

COLOURS = ("skin_gain", "brow_rgb", "eye_tint")
NUMBERS = ("pore", "gloss", "brow_alpha")
DEFAULTS: Mapping[str, Any] = {"eye_tint": (1.0, 1.0, 1.0), "gloss": 0.52}
"""What the renderer takes where a performer does not say (stage.py)."""


def morph(first: Mapping[str, Any], second: Mapping[str, Any], share: float) -> dict[str, Any]:
    """A description `share` (0 to 1) of the way from `first` to `second`.

    Whatever is a weight, a colour or a number is mixed linearly: head shape, skins, colours of skin, brows and irises. Meshes
    cannot be: hair, brows and lashes, and the picture of the eye, stay the first's, as a plate's hair stays in any swap.
    """

    def mixed(one: float, other: float) -> float:
        return (1 - share) * one + share * other

    names = {*first["shape"], *second["shape"]}
    skins = {name for each in (first, second) for name, _ in each["skin"]}
    weights = [dict(each["skin"]) for each in (first, second)]
    return {
        **first,
        "shape": {name: mixed(first["shape"].get(name, 0.0), second["shape"].get(name, 0.0)) for name in sorted(names)},
        "skin": [(name, mixed(*(each.get(name, 0.0) for each in weights))) for name in sorted(skins)],
        **{key: tuple(map(mixed, *(each.get(key, DEFAULTS.get(key)) for each in (first, second)))) for key in COLOURS},
        **{key: mixed(*(each.get(key, DEFAULTS.get(key)) for each in (first, second))) for key in NUMBERS},
    }


def main() -> None:
    """Describe the morphs, render them and encode them, all by the renderer's own code."""
    asked = _parser().parse_args()
    sys.path.insert(0, str(asked.renderer))
    modules: list[Any] = [importlib.import_module(name) for name in ("identities", "performance", "render_clips", "encode")]
    identities, performance, render_clips, encode = modules
    first, second = asked.between
    _, make, background, shirt = performance.CLIPS[f"test_{first}"]
    clips = []
    for percent in asked.percent:
        name = f"{first}_to_{second}_{percent}"
        identities.ACTORS[name] = morph(identities.ACTORS[first], identities.ACTORS[second], percent / 100)
        performance.CLIPS[f"test_{name}"] = (name, lambda: [each[: asked.frames] for each in make()], background, shirt)
        clips.append(f"test_{name}")
    asked.out.mkdir(parents=True, exist_ok=True)
    frames = asked.out / "frames"
    sys.argv = ["render_clips", str(frames), *clips]
    render_clips.main()
    encode.CRF = dict.fromkeys(clips, encode.CRF[f"test_{first}"])
    sys.argv = ["encode", str(frames), str(asked.out)]
    encode.main()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Render morphs between two performers giving the test performance.")
    parser.add_argument("renderer", type=Path, help="the folder with render_clips.py")
    parser.add_argument("out", type=Path, help="gets the clips, their landmarks and masks, and the frames they were made of")
    parser.add_argument("--between", nargs=2, default=("A", "B"), metavar="NAME", help="two performers of identities.py")
    parser.add_argument("--percent", nargs="+", type=int, default=(25, 50, 75), help="how far towards the second")
    parser.add_argument("--frames", type=int, default=40, help="how much of the performance, from its beginning")
    return parser


if __name__ == "__main__":
    main()
