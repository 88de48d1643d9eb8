"""Says of any file what shows that a computer changed it: credentials, watermark, tags; in words and as plain values.

A foreign file is read in a process of its own that may not write files and has limited memory and time.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal, cast

from understudy.media.footage import FootageInfo, probe
from understudy.media.images import IMAGE_SUFFIXES, footage_images, picture_kind, read_image
from understudy.media.keyframes import read_key_frames
from understudy.media.reader import read_frames
from understudy.media.tags import container_tags
from understudy.store.hashing import sha256_of_footage
from understudy.store.manifest import MANIFEST_FILE, Manifest, read_manifest
from understudy.trust.credentials import Credentials, read_credentials
from understudy.trust.limited import answer_limited, run_limited
from understudy.trust.lineage import trace
from understudy.trust.renders import find_render
from understudy.trust.watermark_detector import FALSE_POSITIVE_RATE, Detection, detect, gather
from understudy.trust.xmp import read_xmp
from understudy.types import BadInput, Image, Json

NUM_KEY_FRAMES = 48
NUM_FRAMES = 250
_LABELS = ("AI-manipulated", "trainedAlgorithmicMedia", "compositeWithTrainedAlgorithmicMedia")


@dataclass(frozen=True)
class Verdict:
    """What was found in one file.

    labels: where it says in plain tags that a computer changed it ("xmp", "comment"). render: its line in the user's own list
    of renders; is_byte_identical: whether the file is still the one in that list, None where it is in no list.
    made_from: for a conversion in its folder, each input behind it and whether it is unchanged.
    """

    file: str
    credentials: Literal["valid", "untrusted", "broken", "absent"]
    watermark: Literal["present", "absent"]
    made_by_understudy: Literal["true", "false", "unknown"]
    signer: str = ""
    problem: str = ""
    watermark_id: str = ""
    watermark_z: float = 0.0
    watermark_false_positive_rate: float = FALSE_POSITIVE_RATE
    num_pictures_searched: int = 0
    labels: tuple[str, ...] = ()
    lineage: Json = field(default_factory=dict)
    render: Json = field(default_factory=dict)
    is_byte_identical: bool | None = None
    made_from: tuple[Json, ...] = ()
    words: tuple[str, ...] = ()

    def as_json(self) -> Json:
        """All fields, flat."""
        return asdict(self)


def verify(path: Path) -> Verdict:
    """What shows in a file, a folder of frames or a folder that `convert` made; for the last, its whole lineage too.

    Raises BadInput where it is no picture, video or folder.
    """
    _check_place(path)
    conversion = _conversion_of(path)
    if conversion is None:
        return _inspect_in_limited_process(path)
    manifest, swap = conversion
    verdict = _inspect_in_limited_process(swap)
    links = trace(manifest, verdict.lineage, swap.parent)
    words = (*verdict.words, "Made from: " + ", ".join(f"{link.role} ({link.state})" for link in links) + ".")
    return replace(verdict, made_from=tuple(asdict(link) for link in links), words=words)


def _check_place(path: Path) -> None:
    """Raises BadInput for what is no file or folder: a pipe, for instance, would be waited for without end."""
    try:
        kind = path.stat().st_mode
    except (OSError, ValueError) as error:
        raise BadInput(f"{path}: no such file or folder; check the path") from error
    if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
        raise BadInput(f"{path}: is neither a file nor a folder; give a video, a picture or a folder of frames")


def _conversion_of(path: Path) -> tuple[Manifest, Path] | None:
    """The manifest of the conversion whose folder or output this is, and the output; None for anything else."""
    folder = path if path.is_dir() and (path / MANIFEST_FILE).is_file() else path.parent
    try:
        manifest = read_manifest(folder)
    except BadInput:
        if folder == path:
            raise
        return None
    swap = folder / manifest.outputs["swap"] if manifest and "swap" in manifest.outputs else None
    if manifest is None or swap is None or path.resolve() not in (folder.resolve(), swap.resolve()):
        return None
    return (manifest, swap) if swap.resolve().parent == folder.resolve() and swap.exists() else None


def _inspect_in_limited_process(path: Path) -> Verdict:
    answer = cast(dict[str, Any], run_limited(__name__, path))
    tuples = {name: tuple(answer[name]) for name in ("labels", "words", "made_from")}
    return Verdict(**{**answer, **tuples, "file": str(path)})


def inspect(path: Path) -> Verdict:
    """The same in this process, for files of one's own making."""
    credentials = read_credentials(path)
    try:
        mark = find_mark(path)
    except BadInput:
        if not credentials.signer:
            raise
        mark = None
    labels = _labels(path)
    mark_id = f"{mark.identity:012x}" if mark and mark.identity is not None else ""
    sha256 = sha256_of_footage(path) if mark_id else ""
    render = (find_render(mark_id, sha256) if mark_id else None) or {}
    is_unchanged = render["sha256"] == sha256 if "sha256" in render else None
    made = _made_by_us(credentials, mark, labels)
    return Verdict(
        file=str(path),
        credentials=credentials.state,
        watermark="present" if mark and mark.is_present else "absent",
        made_by_understudy=made,
        signer=credentials.signer,
        problem=credentials.problem,
        watermark_id=mark_id,
        watermark_z=round(mark.z, 2) if mark else 0.0,
        num_pictures_searched=mark.num_pictures if mark else 0,
        labels=labels,
        lineage=credentials.lineage,
        render=render,
        is_byte_identical=is_unchanged,
        words=tuple(_words(credentials, mark, labels, mark_id, render, is_unchanged)),
    )


def find_mark(path: Path) -> Detection | None:
    """Searches the best kept pictures first, then more of them."""
    best: Detection | None = None
    for pictures in _picture_sets(path):
        evidence = gather(pictures)
        found = detect(evidence) if evidence else None
        if found and (best is None or (found.identity is not None, -found.p) > (best.identity is not None, -best.p)):
            best = found
        if best and best.identity is not None:
            break
    return best


def _picture_sets(path: Path) -> Iterator[Iterator[Image]]:
    if path.is_dir():
        images = footage_images(path)
        yield (read_image(image) for image in images[:: max(1, len(images) // NUM_KEY_FRAMES)])
    elif _is_picture(path):
        yield iter([read_image(path)])
    else:
        info = probe(path)
        yield read_key_frames(path, NUM_KEY_FRAMES)
        yield (frame.eight_bit for frame in islice(read_frames(path, _middle(info)), NUM_FRAMES))


def _middle(info: FootageInfo) -> int:
    return max(0, (info.num_frames_estimate - NUM_FRAMES) // 2)


def _is_picture(path: Path) -> bool:
    with path.open("rb") as file:
        return picture_kind(file.read(64)) is not None


def _labels(path: Path) -> tuple[str, ...]:
    if path.is_dir():
        pictures = sorted(each for each in path.iterdir() if each.is_file() and each.suffix.lower() in IMAGE_SUFFIXES)
        return _labels(pictures[0]) if pictures else ()
    texts = {"xmp": read_xmp(path) or ""}
    if not _is_picture(path):
        try:
            texts["comment"] = container_tags(path).get("comment", "")
        except BadInput:
            texts["comment"] = ""
    return tuple(place for place, text in texts.items() if any(label in text for label in _LABELS))


def _made_by_us(
    credentials: Credentials, mark: Detection | None, labels: tuple[str, ...]
) -> Literal["true", "false", "unknown"]:
    """Our signature by a known key or our mark is proof; our name alone, which anyone can write, is not."""
    if mark and mark.is_present:
        return "true"
    if credentials.names_us:
        return "true" if credentials.state == "valid" else "unknown"
    return "unknown" if labels else "false"


def _words(
    credentials: Credentials,
    mark: Detection | None,
    labels: tuple[str, ...],
    mark_id: str,
    render: Json,
    is_unchanged: bool | None,
) -> Iterator[str]:
    signer, problem = credentials.signer, credentials.problem
    yield {
        "valid": f"Content credentials: valid. Signed by {signer}, which this machine trusts; nothing was changed since.",
        "untrusted": f"Content credentials: valid, nothing was changed since; but the signer ({signer}) is not known here.",
        "broken": f"Content credentials: broken: {problem}.",
        "absent": "Content credentials: none. They may have been stripped; most messengers do that.",
    }[credentials.state]
    if mark and mark.is_present:
        identity = f"with identity {mark_id}" if mark_id else "too faint to read its identity"
        yield (
            f"Watermark: the file carries Understudy's mark, {identity} (strength {mark.z:.1f}; fewer than one in "
            f"{1 / FALSE_POSITIVE_RATE:,.0f} unmarked files would pass). The pattern is public, so it could be copied."
        )
    else:
        yield "Watermark: none found. That is no proof that the file is untouched."
    if render:
        same = "byte for byte the same" if is_unchanged else "not byte for byte the same"
        name, time = render.get("name"), render.get("time")
        yield f"This identity is in your list of renders: {name}, finished {time}; this file is {same}."
    if labels:
        yield f"Tags: the file says by itself that a computer changed it ({', '.join(labels)})."


if __name__ == "__main__":
    answer_limited(lambda path: inspect(path).as_json())
