"""What the benchmark runs on: a folder of rendered performers, and the code that decides a result.

The folder has, for each performer NAME, `NAME_train.mp4` and `NAME_test.mp4` (or `train_NAME.mp4` and `test_NAME.mp4`), and
beside each test clip its true landmarks (`.json`) and masks (`_mask`). All test clips show the same performance.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import understudy
from understudy.store.hashing import sha256_of_footage
from understudy.types import BadInput

SAMPLE = Path(understudy.__file__).parent / "sample"

_PACKAGE = Path(understudy.__file__).parent
_NAME = re.compile(r"(?P<a>.+)_(?:train|test)|(?:train|test)_(?P<b>.+)")
_LAYERS_THAT_COUNT = ("imaging", "media", "model", "perception", "stages")
"""Where a change can change a figure. Presets count by their fields, which are part of a result's key anyway."""


@dataclass(frozen=True)
class Footage:
    """Training footage and test clip of the two performers of a swap; `with_` gives the plate of `replace` a new face."""

    name: str
    replace: str
    with_: str
    train: Mapping[str, Path]
    test: Mapping[str, Path]

    @property
    def plate(self) -> Path:
        return self.test[self.replace]

    @property
    def truth(self) -> Path:
        return self.test[self.with_]

    def sha256(self) -> dict[str, str]:
        """The contents of every clip, by file name."""
        clips = [*self.train.values(), *self.test.values()]
        return {clip.name: _digest(clip) for clip in clips} | {
            known.name: _digest(known) for clip in self.test.values() for known in _known_beside(clip)
        }


def find_footage(folder: Path, replace: str | None = None, with_: str | None = None) -> Footage:
    """The performers' clips in `folder`; the first two by name where none are named. Raises BadInput for what is missing."""
    clips: dict[str, dict[str, Path]] = {}
    for clip in sorted(folder.glob("*.mp4")):
        if (found := _NAME.fullmatch(clip.stem)) and not clip.stem.endswith("_mask"):
            kind = "train" if "train" in clip.stem.removeprefix(name := found["a"] or found["b"]).removesuffix(name) else "test"
            clips.setdefault(found["a"] or found["b"], {})[kind] = clip
    whole = {name: each for name, each in clips.items() if len(each) == 2}
    names = [replace or next(iter(whole), ""), with_ or next((name for name in whole if name != replace), "")]
    if with_ is None and names[0] == names[1]:
        names[1] = next((name for name in whole if name != names[0]), "")
    for name in names:
        if name not in whole:
            raise BadInput(
                f"{folder}: expected NAME_train.mp4 and NAME_test.mp4 of two performers, found {', '.join(whole) or 'none'}"
            )
    if names[0] == names[1]:
        raise BadInput(f"--replace and --with are both {names[0]}; name two performers out of {', '.join(whole)}")
    for name in names:
        if not _known_beside(whole[name]["test"]):
            raise BadInput(f"{whole[name]['test']} has no true landmarks beside it; the benchmark is for rendered performers")
    train, test = ({name: whole[name][kind] for name in names} for kind in ("train", "test"))
    return Footage(folder.resolve().name, names[0], names[1], train, test)


def _known_beside(clip: Path) -> list[Path]:
    """The true landmarks and the masks of a clip, as far as they are there; nothing without landmarks."""
    landmarks, mask = clip.with_suffix(".json"), clip.with_name(f"{clip.stem}_mask")
    return [landmarks, *([mask] if mask.is_dir() else [])] if landmarks.is_file() else []


@cache
def _digest(path: Path) -> str:
    return sha256_of_footage(path)


# ---- which code counts ----------------------------------------------------------------------------------------------------


@cache
def code_sha256(*modules: str) -> str:
    """One sha256 of the sources of `modules` and of all that they import, of the layers that can change a figure."""
    todo, files = list(modules), set()
    while todo:
        file = _source_of(todo.pop())
        if file is not None and file not in files:
            files.add(file)
            todo += _imports(file)
    digest = hashlib.sha256()
    for file in sorted([*files, *(_PACKAGE / "imaging").glob("*.json")]):
        digest.update(file.relative_to(_PACKAGE).as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def _source_of(module: str) -> Path | None:
    parts = module.split(".")[1:]
    if not parts or parts[0] not in _LAYERS_THAT_COUNT:
        return None
    path = _PACKAGE.joinpath(*parts)
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


def _imports(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
