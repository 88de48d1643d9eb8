"""The content gate: pictures of footage, plates and results are sampled and looked at; nude material stops the run.

The detector runs in a process of its own (`gate_nudenet.py` states the protocol). Whatever goes wrong with it, the work is
refused: no answer is never taken for a good one. No option switches it off.
"""

from __future__ import annotations

import base64
import contextlib
import json
import queue
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np
from numpy.typing import NDArray

from understudy.media.footage import FrameRecord
from understudy.store.atomic import atomic_write_bytes
from understudy.store.hashing import sha256_of_file
from understudy.store.packages import Package, PackagedFile, fetch_files, weights_folder
from understudy.types import BadInput, Box, Image, Json, Refused

NUDENET = PackagedFile(
    Package("nudenet", "3.4.2", ("--only-binary=:all:",)),
    member="nudenet/320n.onnx",
    sha256="c15d8273adad2d0a92f014cc69ab2d6c311a06777a55545f2c4eb46f51911f0f",
)
LICENCE = "AGPL-3.0 (weights of another program, run as a process of its own)"
HIT_SCORE = 0.4
STRONG_SCORE = 0.6
HITS_IN_A_SHOT = 2
SECONDS_BETWEEN_SAMPLES = 0.5
MOST_FRAMES_PASSED_OVER = 30
"""A half second of 60 frames a second."""

UNLIKE = 0.1
"""A frame whose colours differ by more from those of the frame last looked at is looked at too. Measured: film within half a
second up to 0.07 and 0.12 (handheld), but at cuts; a folder of portraits of one person before one wall 0.18 on average."""
ANSWER_SECONDS = 120.0
SENT_PX = 640


class NudeMaterial(Refused):
    """The gate has seen nude material; every other Refused of this module says that the gate itself did not work."""


@dataclass(frozen=True)
class Sample:
    """One answer of the detector: where the picture is from, and how sure it is of bare skin that counts."""

    where: str
    shot: Hashable
    score: float
    label: str = ""


@dataclass(frozen=True)
class GateResult:
    """What the gate saw, for the manifest: which gate, by which rule, how many pictures, the highest score."""

    gate: str
    weights_sha256: str
    num_samples: int
    highest_score: float
    hit_score: float = HIT_SCORE
    strong_score: float = STRONG_SCORE
    hits_in_a_shot: int = HITS_IN_A_SHOT

    def as_json(self) -> Json:
        """A flat object."""
        return dict(vars(self))


def judge(samples: Iterable[Sample], num_hits: Counter[Hashable]) -> None:
    """Raises NudeMaterial at one strong hit, or at two hits in one shot; `num_hits` of each shot is counted on."""
    for sample in samples:
        num_hits[sample.shot] += sample.score >= HIT_SCORE
        if sample.score >= STRONG_SCORE or num_hits[sample.shot] >= HITS_IN_A_SHOT:
            raise NudeMaterial(
                f"{sample.where}: refused by the content gate: it sees nude material here (score {sample.score:.2f}); "
                "take this footage out, no option lets it through"
            )


def weights_path() -> Path:
    """Where the detector's weights are or will be."""
    return weights_folder() / f"nudenet-320n-{NUDENET.sha256[:8]}.onnx"


def ensure_weights() -> Path:
    """The detector's weights, fetched by pip when they are missing; raises Refused where they cannot be had or were changed."""
    path = weights_path()
    if not path.is_file():
        try:
            atomic_write_bytes(path, fetch_files([NUDENET])[0])
        except BadInput as error:
            raise Refused(f"the content gate is missing, and nothing is trained or converted without it: {error}") from error
    if sha256_of_file(path) != NUDENET.sha256:
        raise Refused(f"{path}: is not the content gate's weights (sha256 differs); delete it, it is fetched again")
    return path


def default_command() -> list[str]:
    """The program that is the gate; another one that keeps its protocol can stand here."""
    return [sys.executable, "-P", "-m", "understudy.trust.gate_nudenet", str(ensure_weights())]


class ContentGate:
    """Looks at sampled pictures while the work goes on; use it in a `with` block and take `result()` at the end.

    Answers are judged as they arrive, so that a refusal comes at one of the next calls, at the latest at `result()`.
    """

    def __init__(self, command: Sequence[str] | None = None, answer_seconds: float = ANSWER_SECONDS) -> None:
        """Raises Refused where the detector does not start."""
        self._answer_seconds = answer_seconds
        self._answers: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._asked: list[tuple[str, Hashable, int]] = []
        self._num_answered = 0
        self._highest_score = 0.0
        self._num_hits: Counter[Hashable] = Counter()
        self._last: tuple[Hashable, int] | None = None
        self._num_passed_over = 0
        self._last_colours = np.zeros(0, np.float32)
        try:
            self._process = subprocess.Popen(
                list(command or default_command()), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
        except OSError as error:
            raise Refused(f"the content gate does not start ({error.strerror}); nothing is done without it") from error
        threading.Thread(target=self._collect, daemon=True).start()
        try:
            self._greeting = self._next_answer()
        except Refused:
            self.close()
            raise

    def __enter__(self) -> ContentGate:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Ends the detector's process; unanswered pictures are dropped."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                with contextlib.suppress(OSError):
                    pipe.close()

    def consider(self, image: Image, where: str, time_seconds: float, shot: Hashable = 0, faces: Sequence[Box] = ()) -> bool:
        """Looks at this frame if it is the first of its shot or of a half second: whole, and round each face.

        So it does at one that is unlike the last it looked at, as photographs in a folder are, and at one in
        `MOST_FRAMES_PASSED_OVER` at least, so that frames timed close together hide nothing. Returns whether it was looked at.
        """
        due, colours = (shot, int(time_seconds / SECONDS_BETWEEN_SAMPLES)), _colours(image)
        self._num_passed_over += 1
        is_near = due == self._last and self._num_passed_over <= MOST_FRAMES_PASSED_OVER
        if is_near and float(np.abs(colours - self._last_colours).mean()) <= UNLIKE:
            return False
        self._last, self._num_passed_over, self._last_colours = due, 0, colours
        closer = [_round_face(image, face) for face in faces]
        parts = [part for part in closer if part.shape != image.shape]
        self.look(image, where, shot, times=1 + len(closer) - len(parts))
        for part in parts:
            self.look(part, where, shot)
        return True

    def look(self, image: Image, where: str, shot: Hashable = 0, times: int = 1) -> None:
        """Sends one picture, (height, width, 3) uint8, and judges what has been answered so far; raises Refused.

        times: how often the answer counts, where the same picture would have to be sent again.
        """
        sent = _reduced(image)
        height, width = sent.shape[:2]
        request = {"id": len(self._asked), "width": width, "height": height, "rgb": base64.b64encode(sent.tobytes()).decode()}
        self._asked.append((where, shot, times))
        try:
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        except OSError as error:
            raise self._failure("stopped") from error
        while not self._answers.empty():
            self._take_answer()

    def result(self) -> GateResult:
        """Waits for every answer; raises Refused. Never looked at anything = refused too."""
        while self._num_answered < len(self._asked):
            self._take_answer()
        if not self._num_answered:
            raise self._failure("saw no picture")
        return GateResult(
            gate=str(self._greeting.get("gate")),
            weights_sha256=str(self._greeting.get("sha256")),
            num_samples=self._num_answered,
            highest_score=self._highest_score,
        )

    def _collect(self) -> None:
        assert self._process.stdout is not None
        with contextlib.suppress(ValueError, OSError):  # closed under our hands by __exit__
            for line in self._process.stdout:
                self._answers.put(line.decode(errors="replace"))
        self._answers.put(None)

    def _take_answer(self) -> None:
        answer = self._next_answer()
        where, shot, times = self._asked[self._num_answered] if self._num_answered < len(self._asked) else ("", 0, 0)
        score, label = answer.get("score"), answer.get("label", "")
        is_number = isinstance(score, int | float) and 0.0 <= score <= 1.0
        if not where or answer.get("id") != self._num_answered or not is_number:
            raise self._failure("gave an answer that is not of its protocol")
        assert isinstance(score, int | float)
        self._num_answered += 1
        self._highest_score = max(self._highest_score, float(score))
        judge([Sample(where, shot, float(score), str(label))] * times, self._num_hits)

    def _next_answer(self) -> Json:
        try:
            line = self._answers.get(timeout=self._answer_seconds)
        except queue.Empty as error:
            raise self._failure(f"gave no answer for {self._answer_seconds:g} seconds") from error
        if line is None:
            raise self._failure("stopped")
        try:
            answer = json.loads(line)
        except ValueError as error:
            raise self._failure("gave an answer that is not JSON") from error
        return answer if isinstance(answer, dict) else {}

    def _failure(self, what: str) -> Refused:
        return Refused(
            f"the content gate {what}, and nothing is done without it; run `understudy doctor` to see what is missing"
        )


def gate_footage(
    frames: Iterable[FrameRecord],
    name: str,
    gate: ContentGate,
    shots: Sequence[int] = (),
    faces: dict[int, list[Box]] | None = None,
) -> None:
    """Considers every frame of footage; `shots` and `faces`: the shot of each frame and its faces, by frame number."""
    for frame in frames:
        shot = (name, shots[frame.index] if frame.index < len(shots) else 0)
        gate.consider(
            frame.eight_bit, f"{name}, frame {frame.index}", frame.time_seconds, shot, (faces or {}).get(frame.index, [])
        )


def _colours(image: Image) -> NDArray[np.float32]:
    """(16, 16, 3) in 0..1: what of a picture remains in a postage stamp."""
    return cv2.resize(image, (16, 16), interpolation=cv2.INTER_AREA).astype(np.float32) / np.float32(255)


def _round_face(image: Image, face: Box) -> Image:
    """The part of a picture where the body of this face is: two faces to each side, one above, five below."""
    height, width = image.shape[:2]
    left, right = max(0, int(face.left - 2 * face.width)), min(width, int(face.right + 2 * face.width))
    top, bottom = max(0, int(face.top - face.height)), min(height, int(face.bottom + 5 * face.height))
    return image[top:bottom, left:right] if right - left > 8 and bottom - top > 8 else image


def _reduced(image: Image) -> Image:
    longest = max(image.shape[:2])
    if longest <= SENT_PX:
        return np.ascontiguousarray(image)
    size = (max(1, image.shape[1] * SENT_PX // longest), max(1, image.shape[0] * SENT_PX // longest))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
