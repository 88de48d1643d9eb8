"""Measures a swap against its plate and, where it is known, the truth; says in words what the figures mean."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

import cv2
import numpy as np
import torch

from understudy.imaging import metrics, metrics_statistics
from understudy.imaging.framing import FULL
from understudy.media import probe
from understudy.media.footage import with_a_name
from understudy.perception.survey import DETECTORS, Detector, Networks, load_networks
from understudy.perception.weights import licences
from understudy.stages._evaluation_clips import (
    ChangeMeter,
    Clip,
    check_size,
    open_clip,
    surveyed_whereabouts,
    true_whereabouts,
)
from understudy.stages._evaluation_figures import HEADLINE, Scores, num_compared, summarise
from understudy.stages._evaluation_kept import NOT_YET_REPORTED, progress_folder, remove_progress
from understudy.stages._evaluation_measure import Measurements, Scene, measure
from understudy.stages._evaluation_report import Findings, find, write_report
from understudy.stages._evaluation_short import in_short
from understudy.store.atomic import atomic_write_text
from understudy.store.events import combine, event_log
from understudy.store.faceset import FaceSet
from understudy.store.hashing import code_sha256, sha256_of_json
from understudy.store.json_files import json_text, read_json
from understudy.store.manifest import MANIFEST_FILE, InputFile, Manifest, describe_input, read_manifest
from understudy.store.runs import RECIPE_FILE, Run, open_run
from understudy.trust.limited import check_footage
from understudy.types import BadInput, Event, FloatArray, Json, Reporter, StageResult, silent

STAGE = "evaluate"
SEED = 0
PER_FRAME_FILE, SERIES_FILE, REPORT_FILE = "per_frame.jsonl", "series.json", "report.html"
_RECIPE: Json = {
    "face_space_px": metrics.FACE_SPACE_PX,
    "framing": FULL.name,
    "block_frames": metrics_statistics.BLOCK_FRAMES,
    "num_resamples": metrics_statistics.NUM_RESAMPLES,
}


def evaluate(
    swap: Path,
    plate: Path,
    out: Path,
    *,
    truth: Path | None = None,
    mask: Path | None = None,
    performer: Path | None = None,
    report: Reporter = silent,
) -> StageResult:
    """Score `swap`, made from `plate`, into the folder `out`: manifest.json, per_frame.jsonl, series.json and report.html.

    truth: the other performer giving the same performance; without it, the swap is only compared with its plate and with
    the face set `performer`. mask: where the truth's face is visible, white; by default CLIP_mask beside it. True landmarks
    (CLIP.json) are used where both plate and truth have them, else faces are found by the networks.
    swap may also be the folder that `convert` left; where it shows some frames alone, they are compared with the plate's, the
    truth's and the masks' of the same numbers, and `frame` counts as there. Raises BadInput for footage that cannot be read, or
    whose sizes do not fit, and for another plate than the one that a conversion's manifest names. The same call goes on after
    a kill: every frame is kept as it is measured.
    """
    swap = with_a_name(swap)
    conversion = _conversion(swap)
    clips = _open_clips(swap, plate, truth, mask, conversion)
    inputs = _inputs(clips, performer)
    _check_plate(swap, inputs["plate"], conversion)
    with open_run(out, STAGE, _recipe(clips["plate"]), inputs, preliminary=NOT_YET_REPORTED) as run:
        if run.state != "finished":
            report = combine(report, event_log(out))
            report(Event(STAGE, "started"))
            networks = load_networks()
            detectors = _detectors(networks, truth is not None)
            folder = progress_folder(out, _key(run, detectors))
            scene = _find_faces(clips, networks, detectors, folder, report)
            measured = _measure(scene, folder, report)
            report(Event(STAGE, "progress", len(measured.rows), len(measured.rows), "frames", "writing the report"))
            scores = summarise(measured, _performer_mean(performer), truth is not None)
            compared = [index for index, row in enumerate(measured.rows) if row]
            warnings = _warnings(scene, len(measured.rows))
            findings = find(scores, len(measured.rows), len(compared), warnings, scene.plate.start)
            atomic_write_text(out / PER_FRAME_FILE, _per_frame(measured, scores, scene.plate.start))
            atomic_write_text(out / SERIES_FILE, _series(scores))
            write_report(out / REPORT_FILE, scene, scores, findings, len(measured.rows), compared)
            figures = _figures(measured, scores, findings, "truth" if truth else "plate")
            run.finish(
                figures,
                {"report": out / REPORT_FILE, "per_frame": out / PER_FRAME_FILE, "series": out / SERIES_FILE},
                seed=SEED,
                licences=licences(),
            )
            for warning in findings.untold():
                report(Event(STAGE, "warning", message=warning))
            report(Event(STAGE, "finished", message=in_short(figures).answer))
        remove_progress(out)  # here, for a run that was killed between its manifest and this
        return run.result()


def check_asked(swap: Path, plate: Path, truth: Path | None, mask: Path | None) -> None:
    """Raises BadInput as `evaluate` would for its clips; a swap that is not there may still be made."""
    swap = with_a_name(swap)
    conversion = _conversion(swap)
    if swap.exists():
        _check_plate(swap, _inputs(_open_clips(swap, plate, truth, mask, conversion), None)["plate"], conversion)


# ---- what is compared -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Conversion:
    """What `convert` left: its folder and manifest."""

    folder: Path
    manifest: Manifest


def _open_clips(
    swap: Path, plate: Path, truth: Path | None, mask: Path | None, conversion: _Conversion | None
) -> dict[str, Clip]:
    if mask is not None and truth is None:
        raise BadInput("--mask was given without --truth; it says where the truth counts")
    file = conversion.folder / conversion.manifest.outputs["swap"] if conversion else swap
    shown = _frames_shown(conversion.folder) if conversion else None
    clips = {"swap": Clip(file), "plate": open_clip(plate)}
    if truth is not None:
        clips["truth"] = open_clip(truth, mask)
    check_footage(*(path for clip in clips.values() for path in (clip.path, clip.mask)))
    sizes = {name: _size(clip.path) for name, clip in clips.items()}
    check_size(file, sizes["swap"], plate, sizes["plate"])
    for name, clip in clips.items():
        if clip.mask is not None:
            check_size(clip.mask, _size(clip.mask), clip.path, sizes[name])
    return clips if shown is None else {name: _cut(clip, shown, name) for name, clip in clips.items()}


def _size(footage: Path) -> tuple[int, int]:
    info = probe(footage)
    return info.width, info.height


def _check_plate(swap: Path, plate: InputFile, conversion: _Conversion | None) -> None:
    """Raises BadInput where a conversion left the swap and made it from another plate: no figure would mean anything."""
    made_from = conversion.manifest.inputs.get("plate") if conversion else None
    if made_from and made_from.sha256 != plate.sha256:
        raise BadInput(
            f"{plate.path}: is not the plate that {swap} was made from; give {made_from.path}, which its {MANIFEST_FILE} names"
        )


def _conversion(swap: Path) -> _Conversion | None:
    """The conversion whose folder or output `swap` is; None for any other clip.

    Raises BadInput for one that is not finished.
    """
    for folder in (swap, swap.parent):
        is_run = (folder / RECIPE_FILE).is_file()
        manifest = read_manifest(folder) if is_run else None
        if manifest and manifest.stage == "convert" and swap in (folder, folder / manifest.outputs["swap"]):
            return _Conversion(folder, manifest)
        is_lacking = manifest is None and (swap == folder or not swap.exists())
        if is_run and is_lacking and read_json(folder / RECIPE_FILE).get("stage") == "convert":
            raise BadInput(f"{folder}: its conversion is not finished; give the same convert command again, then evaluate it")
    return None


def _frames_shown(folder: Path) -> range | None:
    match read_json(folder / RECIPE_FILE):
        case {"recipe": {"frames": [int(first), int(last)]}}:
            return range(first, last + 1)
    return None


def _cut(clip: Clip, shown: range, name: str) -> Clip:
    """The frames of a clip that the swap shows. Raises BadInput where it has none of them."""
    if name == "swap":
        return clip
    cut = clip.cut(shown.start, shown.stop)
    if next(cut.read(), None) is None:
        raise BadInput(
            f"{clip.path}: has no frame {shown.start}, with which the swap begins (its {RECIPE_FILE} says so); "
            f"give the whole {name} that belongs to it"
        )
    return cut


def _recipe(plate: Clip) -> Json:
    return _RECIPE if plate.stop is None else {**_RECIPE, "frames": [plate.start, plate.stop - 1]}


def _inputs(clips: Mapping[str, Clip], performer: Path | None) -> dict[str, InputFile]:
    """Everything that the result depends on, by role."""
    inputs = {name: describe_input(clip.path) for name, clip in clips.items()}
    for name, clip in clips.items():
        if clip.landmarks is not None:
            inputs[f"{name}_landmarks"] = describe_input(clip.landmarks)
        if clip.mask is not None:
            inputs[f"{name}_mask"] = describe_input(clip.mask)
    if performer is not None:
        with FaceSet.open(performer) as faces:
            inputs["performer"] = InputFile(performer.as_posix(), faces.sha256())
    return inputs


def _performer_mean(performer: Path | None) -> FloatArray | None:
    if performer is None:
        return None
    with FaceSet.open(performer) as faces:
        return faces.gallery().mean


def _key(run: Run, detectors: Iterable[str]) -> str:
    """Follows from all that decides what is measured of a frame."""
    inputs = {role: each.sha256 for role, each in run.inputs.items()}
    libraries = [version("av"), cv2.__version__, np.__version__, torch.__version__]  # others differ in the last bits
    return sha256_of_json([run.recipe, inputs, code_sha256(), libraries, sorted(detectors)])


def _find_faces(
    clips: Mapping[str, Clip], networks: Networks, detectors: Mapping[str, Detector], folder: Path, report: Reporter
) -> Scene:
    """Where each face is: by the true landmarks if all clips have them, so that both sides are aligned alike."""
    plate, truth = clips["plate"], clips.get("truth")
    if plate.true_points is not None and (truth is None or truth.true_points is not None):
        plate_faces = true_whereabouts(plate.true_points)
        truth_faces = true_whereabouts(truth.true_points) if truth and truth.true_points is not None else None
    else:
        tell = _teller(plate, "finding the plate's face", report)
        changes = partial(_changes, clips, _teller(plate, "finding what the swap changed", report))
        plate_faces = surveyed_whereabouts(plate, networks, folder / "plate", changes, tell)
        tell = _teller(truth or plate, "finding the truth's face", report)
        truth_faces = surveyed_whereabouts(truth, networks, folder / "truth", tell=tell) if truth else None
    return Scene(clips["swap"], plate, truth, plate_faces, truth_faces, networks, detectors)


def _detectors(networks: Networks, has_truth: bool) -> dict[str, Detector]:
    """Who must find a face in the swap: two that learned from other pictures in another way, since one may be fooled."""
    if has_truth:
        return {}
    with suppress(BadInput):  # its weights cannot be had: the report says that only one was asked
        return {"mediapipe": networks.detect, "mtcnn": DETECTORS["mtcnn"]()}
    return {"mediapipe": networks.detect}


def _teller(clip: Clip, message: str, report: Reporter) -> Callable[[int], None]:
    total = _num_frames_estimate(clip)
    return lambda done: report(Event(STAGE, "progress", done, total, "frames", message))


def _num_frames_estimate(clip: Clip) -> int:
    num_frames = probe(clip.path).num_frames_estimate
    return max(0, (num_frames if clip.stop is None else min(num_frames, clip.stop)) - clip.start)


def _changes(clips: Mapping[str, Clip], tell: Callable[[int], None] = lambda done: None) -> ChangeMeter:
    meter = ChangeMeter()
    for num_done, (swap, plate) in enumerate(zip(clips["swap"].read(), clips["plate"].read(), strict=False), start=1):
        meter.add(swap.eight_bit, plate.eight_bit)
        tell(num_done)
    return meter


def _measure(scene: Scene, folder: Path, report: Reporter) -> Measurements:
    tell_coding = _teller(scene.truth or scene.plate, "coding the truth like the swap", report)
    measured = measure(scene, folder, _teller(scene.plate, "comparing", report), tell_coding)
    if not any(measured.rows):
        remove_progress(folder.parent)  # nothing to go on with: the folder is free again
        raise BadInput(
            f"{scene.plate.path}: no frame of it could be compared; the face was not found in "
            f"{'plate and truth together' if scene.truth else 'the plate'}"
        )
    return measured


def _warnings(scene: Scene, num_frames: int) -> list[str]:
    """What a reader must know beyond the figures."""
    warnings = []
    for name, clip in (("plate", scene.plate), ("truth", scene.truth), ("swap", scene.swap)):
        if clip is None or _num_frames_estimate(clip) == num_frames:
            continue
        if (num_there := sum(1 for _ in clip.read())) > num_frames:
            warnings.append(f"The {name} has {num_there} frames, of which only the first {num_frames} have a counterpart.")
    return warnings


# ---- what is written ------------------------------------------------------------------------------------------------------


def _figures(measured: Measurements, scores: Scores, findings: Findings, reference: str) -> dict[str, object]:
    return {
        **dict.fromkeys((*HEADLINE, "plate_psnr_db")),
        **scores.values,
        "num_frames": len(measured.rows),
        "num_compared": num_compared(measured),
        "reference": reference,
        "verdict": findings.verdict,
        "warnings": list(findings.warnings),
        "frames_to_look_at": [asdict(suspect) for suspect in findings.suspects],
        "intervals": {name: [found.low, found.high] for name, found in scores.swap.items()},
        "floors": scores.floors,
        "left_out": scores.left_out,
    }


def _series(scores: Scores) -> str:
    """The rows behind each of the swap's figures and the statistic that makes it of them, so that two swaps can be compared."""
    plain = {name: {"statistic": each.statistic, "rows": np.round(each.rows, 6)} for name, each in scores.series.items()}
    return json_text(plain, is_compact=True) + "\n"


def _per_frame(measured: Measurements, scores: Scores, first_frame: int) -> str:
    """One JSON object a line: the swap's figures of the frame, and the plate's under `plate`; null where there is none."""
    lines = []
    for index, row in enumerate(measured.rows):
        figures = {name: float(column[index]) for name, column in scores.columns.items() if np.isfinite(column[index])}
        line = {"frame": first_frame + index, "is_compared": bool(row), **figures, "plate": row.get("plate")}
        lines.append(json_text(line, is_compact=True))
    return "".join(f"{line}\n" for line in lines)
