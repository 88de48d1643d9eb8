"""Asks an age model, where the user has installed one, whether a performer looks of full age; in doubt the training is refused.

No age model comes with Understudy: none tells 17 from 19. One is installed by `age_model.json` in the user's key folder:
{"command": ["/path/to/program", "argument"]}. The program first prints {"age_model": NAME, "sha256": HEX}; then, for each
line {"id": N, "width": W, "height": H, "rgb": BASE64} on its input, {"id": N, "years": 0..120, "deviation_years": 0..60},
and ends with its input. Whatever goes wrong with it, the work is refused.

The rule: who looks younger than 18 even at the upper end of what the model takes for likely is refused. Who looks younger than
25, within which a model's error can hide a minor, is doubtful: a person must see a document and sign that into the record
(`understudy consent new NAME`, answer `unsure`). Limits after NIST's evaluation of age estimation (FATE AEV 2024).
"""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from understudy.store.json_files import read_json
from understudy.trust.keys import keys_folder
from understudy.trust.records import Review
from understudy.types import BadInput, Image, Refused

AGE_MODEL_FILE = "age_model.json"
FULL_AGE_YEARS, CLEARLY_ADULT_YEARS = 18.0, 25.0
MOST_PICTURES = 16
ANSWER_SECONDS = 300.0


@dataclass(frozen=True)
class AgeJudgement:
    """What the model said: which model, the median of its answers and of its own deviations, and of how many pictures."""

    model: str
    years: float
    deviation_years: float
    num_pictures: int


def installed_age_model(folder: Path | None = None) -> list[str] | None:
    """The command of the age model, None where none is installed; raises Refused where its file cannot be used."""
    path = (folder or keys_folder()) / AGE_MODEL_FILE
    if not path.exists():
        return None
    try:
        command = read_json(path).get("command")
    except (BadInput, OSError) as error:
        raise Refused(f"the age model cannot be asked, and nothing is trained without its answer: {error}") from error
    if not isinstance(command, list) or not command or not all(isinstance(word, str) and "\0" not in word for word in command):
        raise Refused(
            f'{path}: expected {{"command": ["program", "argument"]}}; mend it, or take it away to do without a model'
        )
    return [str(word) for word in command]


def check_age(performer: str, pictures: Sequence[Image], review: Review, command: Sequence[str]) -> AgeJudgement:
    """Raises Refused where the model does not take the performer for an adult and no person has seen a document.

    pictures: (height, width, 3) uint8 each, of the performer's face.
    """
    judged = _ask(performer, pictures, command)
    looks = (
        f"{performer}: the age model {judged.model} sees {judged.years:.0f} years (give or take {judged.deviation_years:.0f})"
    )
    if judged.years + judged.deviation_years < FULL_AGE_YEARS:
        raise Refused(f"{looks}, which is under age; minors are never trained on or converted")
    if judged.years < CLEARLY_ADULT_YEARS and not review.is_complete:
        raise Refused(
            f"{looks}, which leaves a doubt about full age; have a person see a document, then make the record anew: "
            f"`understudy consent revoke {performer}`, `understudy consent new {performer} --kind KIND`, and answer `unsure`"
        )
    return judged


def _ask(performer: str, pictures: Sequence[Image], command: Sequence[str]) -> AgeJudgement:
    if not pictures:
        raise _failure("was shown no picture")
    requests = "".join(_request(number, picture) for number, picture in enumerate(pictures))
    try:
        done = subprocess.run(list(command), input=requests.encode(), capture_output=True, timeout=ANSWER_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise _failure(f"gave no answer for {ANSWER_SECONDS:g} seconds") from error
    except (OSError, ValueError) as error:
        raise _failure(f"does not start ({error})") from error
    lines = done.stdout.splitlines()
    if done.returncode or len(lines) != len(pictures) + 1:
        raise _failure(f"stopped after {max(0, len(lines) - 1)} of {len(pictures)} answers")
    greeting, *answers = (_parsed(line) for line in lines)
    years, deviations = [], []
    for number, answer in enumerate(answers):
        if answer.get("id") != number:
            raise _failure("gave an answer that is not of its protocol")
        years.append(_number(answer.get("years"), 120.0))
        deviations.append(_number(answer.get("deviation_years"), 60.0))
    return AgeJudgement(str(greeting.get("age_model"))[:100], median(years), median(deviations), len(pictures))


def _request(number: int, picture: Image) -> str:
    height, width = picture.shape[:2]
    rgb = base64.b64encode(picture.tobytes()).decode()
    return json.dumps({"id": number, "width": width, "height": height, "rgb": rgb}) + "\n"


def _parsed(line: bytes) -> dict[str, object]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise _failure("gave an answer that is not JSON") from error
    return value if isinstance(value, dict) else {}


def _number(value: object, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 <= value <= most:
        raise _failure("gave an answer that is not of its protocol")
    return float(value)


def _failure(what: str) -> Refused:
    return Refused(f"the age model {what}, and nothing is trained without its answer; mend it, or take {AGE_MODEL_FILE} away")
