"""Writes docs/experiments.md and its pictures from the results: tables are generated, never typed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from experiments import results
from experiments.claims import CLAIMS
from experiments.claims.model import Arm, Claim
from experiments.figures import FIGURES
from experiments.systems import systems_table
from experiments.training import FULL, SMALL, Scale
from experiments.verdicts import Judged, Tested, judge
from understudy.media import encode_jpeg, read_image
from understudy.store.atomic import atomic_write_bytes, atomic_write_text
from understudy.trust.label import labelled_picture
from understudy.trust.notice import with_notice_below
from understudy.types import Image, Json

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "experiments.md"
PICTURES = Path("pictures") / "experiments"
LABEL_PX = 20


def write_page(page: Path = PAGE, folder: Path = results.FOLDER) -> None:
    """The page and the picture of every claim that has one."""
    atomic_write_text(page, page_text(folder))
    for claim in CLAIMS:
        if (picture := picture_of(claim, SMALL, folder)) is not None:
            path = page.parent / PICTURES / f"{claim.name}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            atomic_write_bytes(path, labelled_picture(encode_jpeg(with_notice_below(picture), quality=82)))


def page_text(folder: Path = results.FOLDER) -> str:
    """The whole page, from what lies in `folder`."""
    judged = [judge(claim, SMALL, folder) for claim in CLAIMS]
    num = {
        verdict: sum(each.verdict == verdict for each in judged)
        for verdict in ("confirmed", "refuted", "partly", "not settled")
    }
    decided = sum(num.values()) - num["not settled"]
    head = HEAD.format(
        decided=decided, **{key.replace(" ", "_"): value for key, value in num.items()}, scale=_scale_words(SMALL)
    )
    parts = [head, _overview(judged), "## The article's systems, and what runs them here", systems_table()]
    parts += ["## Claim by claim", *(_section(each, folder) for each in judged)]
    return "\n\n".join(parts) + "\n"


def _scale_words(scale: Scale) -> str:
    return ", ".join(f"`{key}={value}`" for key, value in scale.settings.items())


# ---- the overview ---------------------------------------------------------------------------------------------------------


def _overview(judged: Sequence[Judged]) -> str:
    rows = [["claim", "the article says", "verdict", "what decides", "command"], ["---"] * 5]
    for each in judged:
        claim = each.claim
        deciding = "; ".join(f"{tested.test.words}: {_interval_words(tested)}, {tested.outcome}" for tested in each.tested)
        why = claim.open_because or _missing_words(each)
        command = f"`{command_of(claim)}`" if claim.arms else "–"
        rows.append([f"[{claim.name}](#{_anchor(claim)})", claim.says, f"**{each.verdict}**", deciding or why, command])
    return _table(rows)


def _missing_words(judged: Judged) -> str:
    """How much is left to run before a claim is decided."""
    left = [
        arm
        for arm in judged.claim.arms
        if arm.name in judged.deciding
        for _ in range(judged.claim.num_seeds - len(judged.by_arm[arm.name]))
    ]
    minutes = sum(expected_seconds(arm, judged.by_arm[arm.name]) for arm in left) / 60
    return f"{len(left)} of its runs have not been made here: about {minutes:.0f} minutes of one core" if left else ""


def expected_seconds(arm: Arm, found: Sequence[Json] = ()) -> float:
    """Processor time of one seed of an arm: as its other seeds took, or by what its terms have been seen to cost."""
    if found:
        return float(np.mean([float(each["cpu_seconds"]) for each in found]))  # type: ignore[arg-type]
    if arm.training is None:
        return 10.0
    recipe = arm.training.recipe(SMALL, 0)
    terms = 1.4 * (recipe.adversarial_weight > 0) + 1.0 * (recipe.adversarial_swap_weight > 0) + 0.5 * (recipe.cycle_weight > 0)
    work = (recipe.width / 0.125) ** 1.5 * (recipe.resolution_px / 48) ** 2
    return 7 + 17 * arm.training.budget * work * (1 + terms + 0.5 * (recipe.perceptual_weight > 0))


def command_of(claim: Claim, scale: Scale = SMALL) -> str:
    """What repeats a claim's runs."""
    morphs = " --morphs FOLDER" if any(arm.measure == "on morph" for arm in claim.arms) else ""
    return f"python -m experiments run {claim.name}{morphs}{' --scale full' if scale is FULL else ''}"


def _anchor(claim: Claim) -> str:
    kept = "".join(letter for letter in f"{claim.name} {claim.title}".lower() if letter.isalnum() or letter in " -")
    return kept.replace(" ", "-")


def _interval_words(tested: Tested) -> str:
    digits = FIGURES[tested.test.figure][1]
    digits = max(digits, 2) if abs(tested.found.value) < 1 else max(digits, 1)
    found = tested.found
    sign = "+" if tested.test.against or tested.test.minus else ""
    if math.isnan(found.low):
        return f"{found.value:{sign}.{digits}f}"
    return f"{found.value:{sign}.{digits}f} ({found.low:{sign}.{digits}f} to {found.high:{sign}.{digits}f})"


# ---- one claim ------------------------------------------------------------------------------------------------------------


def _section(judged: Judged, folder: Path) -> str:
    claim = judged.claim
    lines = [f"### {claim.name} {claim.title}", f"*{claim.says}*"]
    if claim.open_because:
        return "\n\n".join([*lines, f"**{judged.verdict}**: {claim.open_because[0].upper()}{claim.open_because[1:]}"])
    lines.append(claim.setup)
    if any(judged.by_arm.values()):
        lines.append(_figures_table(judged))
        lines.append("\n".join(f"- {_sentence(each)}" for each in judged.tested))
    missing = "" if judged.is_whole else f" {_missing_words(judged)[0].upper()}{_missing_words(judged)[1:]}."
    minutes = judged.cpu_seconds / 60
    lines.append(
        f"**{judged.verdict[0].upper()}{judged.verdict[1:]}.**{missing} {claim.reading}".rstrip()
        + (f" {minutes:.1f} minutes of one core: `{command_of(claim)}`" if minutes else "")
        + f"; on a GPU: `{command_of(claim, FULL)}`."
    )
    if picture_of(claim, SMALL, folder) is not None:
        there = [arm for arm in map(claim.arm, claim.shown) if results.strip_of(arm, SMALL, folder).is_file()]
        shown = ", ".join(arm.words for arm in there)
        lines.append(f"![{claim.title}: {shown}]({PICTURES.as_posix()}/{claim.name}.jpg)")
    return "\n\n".join(lines)


def _figures_table(judged: Judged) -> str:
    claim = judged.claim
    rows = [["", *(FIGURES[figure][0] for figure in claim.figures)], ["---"] * (1 + len(claim.figures))]
    for arm in claim.arms:
        if not (found := judged.by_arm[arm.name]):
            continue
        rows.append([arm.words, *(_cell(found, figure) for figure in claim.figures)])
    return _table(rows)


def _cell(found: Sequence[Json], figure: str) -> str:
    """The mean over the seeds, and how far they lie apart."""
    values = np.array([results.value_of(each, figure) for each in found])
    values = values[np.isfinite(values)]
    if not len(values):
        return "–"
    digits = FIGURES[figure][1]
    spread = f" ± {(values.max() - values.min()) / 2:.{digits}f}" if len(values) > 1 else ""
    return f"{values.mean():z.{digits}f}{spread}"


def _sentence(tested: Tested) -> str:
    seeds = "" if tested.num_seeds > 1 else ", one seed"
    return f"{tested.test.words[0].upper()}{tested.test.words[1:]}: {_interval_words(tested)}{seeds}: **{tested.outcome}**."


def _table(rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


# ---- pictures -------------------------------------------------------------------------------------------------------------


def picture_of(claim: Claim, scale: Scale, folder: Path) -> Image | None:
    """The strips of the claim's shown arms below each other, each with its words; None where none is there."""
    strips = {
        claim.arm(name).words: path
        for name in claim.shown
        if (path := results.strip_of(claim.arm(name), scale, folder)).is_file()
    }
    is_drawn = any(claim.arm(name).training is not None for name in claim.shown)
    if strips and is_drawn and (truth := results.truth_strip(scale, folder)).is_file():
        strips = {"what would be right": truth} | strips
    rows = []
    for words, path in strips.items():
        strip = read_image(path)
        label = np.full((LABEL_PX, strip.shape[1], 3), 255, np.uint8)
        cv2.putText(label, words, (4, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (30, 30, 30), 1, cv2.LINE_AA)
        rows += [label, strip]
    if not rows:
        return None
    width = max(row.shape[1] for row in rows)
    return np.vstack([np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0)), constant_values=255) for row in rows])


HEAD = """# The root article's claims, put to the test

This page is generated: `python -m experiments page`. What it rests on lies in `experiments/results`, a file for each arm and
seed; `python -m experiments run C9` makes what is missing, `python -m experiments all --minutes 30` as much as fits, and a
killed run goes on where it was. Of 41 claims {decided} are decided here: {confirmed} confirmed, {refuted} refuted, {partly}
partly so; {not_settled} are not settled.

**How to read it.** A claim is taken apart into statements about figures. One *holds* where its whole 95 % interval lies on its
side of the border, *fails* where all of it lies on the other, and is *open* else. Differences are paired by frame and seed
(block bootstrap over frames and seeds, `imaging/metrics_statistics.py`). All hold: confirmed; all fail: refuted; some of each,
or some open: partly; all open: not settled. In the tables stands the mean over three seeds and half of how far they lie apart.

**Small scale.** Two cores: the 2017 network, its losses and warp, with {scale}, 9,600 faces (600 steps of 16), his face
becoming hers on the bundled pair, scored in face space before compositing on every second test frame
(`experiments/scoring.py`; figures as in [conventions](conventions.md#measures); *follows* is what of a wrong crop the drawing
follows, *motion* how much of the truth's motion its pixels show). It is a small, short training of one pair: read a verdict as
"at this scale". `--scale full` asks the same of the recipes as they are, for 50,000 steps of 128 faces, by the same code;
nothing of it has been run yet.

Pictures: frames 10, 28, 42, 74, 98 and 112 of the plate's performance, first seed, as the network draws them on the plate."""
