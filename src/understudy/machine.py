"""What this machine can do, and which of the weights are there."""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, cast

from understudy.types import BadInput, Event, Json, Refused, Reporter, StageResult, silent
from understudy.version import __version__

if TYPE_CHECKING:
    from understudy.perception.weights import WeightStatus

ENCODERS = ("libx264", "libx265", "prores_ks", "ffv1", "h264_nvenc")


def doctor(*, fetch: bool = False, report: Reporter = silent) -> StageResult:
    """Look at Python, torch, processor, memory, disk, encoders and weights; with `fetch`, obtain the weights that are missing.

    Raises BadInput where weights cannot be obtained.
    """
    from understudy.perception import weights
    from understudy.store.packages import weights_folder
    from understudy.trust.keys import keys_folder

    if fetch:
        _fetch_gate(report)
        weights.fetch_all(report)
    present = [*(_weight(each) for each in weights.status()), _gate()]
    figures: Json = {
        "understudy": __version__,
        "python": platform.python_version(),
        **_compute(),
        "memory_gb": _memory_gb(),
        "disk_free_gb": round(shutil.disk_usage(Path.cwd()).free / 1e9, 1),
        "encoders": _encoders(),
        "weights": present,
        "num_missing_weights": sum(not (weight["is_present"] or weight["is_optional"]) for weight in present),
    }
    return StageResult("doctor", figures, {"weights_folder": weights_folder(), "keys_folder": keys_folder()})


def doctor_text(result: StageResult) -> str:
    """The findings as a page of text."""
    figures = result.figures
    names = ("understudy", "python", "torch", "device", "num_cpu_threads", "memory_gb", "disk_free_gb")
    lines = [f"{name.replace('_', ' '):<16} {figures[name]}" for name in names]
    lines.append(f"{'encoders':<16} {', '.join(cast(list[str], figures['encoders']))}")
    lines.append(f"{'keys':<16} {result.outputs['keys_folder']}")
    lines.append(f"{'weights':<16} {result.outputs['weights_folder']}")
    for weight in cast(list[Json], figures["weights"]):
        presence = "here" if weight["is_present"] else "optional" if weight["is_optional"] else "MISSING"
        commercial = "commercial use ok" if weight["is_commercial_use_ok"] else "NOT for commercial use"
        lines.append(f"  {weight['name']:<20} {presence:<8} {weight['licence']}, {commercial}: {weight['use']}")
        lines += [f"  {'':<29} ({weight['remark']})"] if weight["remark"] else []
    if figures["num_missing_weights"]:
        lines.append("`understudy doctor --fetch` obtains the missing weights (needs a network once).")
    return "\n".join(lines)


def _compute() -> Json:
    import torch

    from understudy.model.swapper import best_device

    device = best_device()
    name = torch.cuda.get_device_name() if device == "cuda" else platform.processor() or platform.machine()
    return {"torch": torch.__version__, "device": f"{device} ({name})", "num_cpu_threads": torch.get_num_threads()}


def _memory_gb() -> float | None:
    """The machine's memory; None where the system does not say."""
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return None
    return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9, 1)


def _encoders() -> list[str]:
    from understudy.media.encoders import available_encoders

    return available_encoders(ENCODERS)


def _fetch_gate(report: Reporter) -> None:
    from understudy.trust.gate import NUDENET, ensure_weights, weights_path

    if not weights_path().is_file():
        report(Event("weights", "progress", message=f"obtaining {NUDENET.package.name} {NUDENET.package.version}"))
    try:
        ensure_weights()
    except Refused as error:  # nothing was asked for that could be refused
        raise BadInput(str(error)) from error


def _gate() -> Json:
    """The content gate's entry: weights that are no part of `perception`, because another program runs them."""
    from understudy.trust.gate import NUDENET, weights_path

    return {
        "name": "content_gate",
        "package": f"{NUDENET.package.name} {NUDENET.package.version}",
        "licence": "AGPL-3.0",
        "is_commercial_use_ok": True,
        "use": "refuses nude material (NudeNet 320n)",
        "remark": "under the AGPL's terms; weights of another program, kept as they are and run in a process of its own",
        "is_optional": False,
        "is_present": weights_path().is_file(),
    }


def _weight(status: WeightStatus) -> Json:
    entry = status.weight
    return {
        "name": entry.name,
        "package": f"{entry.package.name} {entry.package.version}",
        "licence": entry.licence,
        "is_commercial_use_ok": entry.is_commercial_use_ok,
        "use": entry.use,
        "remark": entry.remark,
        "is_optional": entry.is_optional,
        "is_present": status.is_present,
    }
