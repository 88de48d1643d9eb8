"""A content gate as a program of its own: pictures in, scores out, one JSON object a line. Run by `trust/gate.py`.

    python -m understudy.trust.gate_nudenet 320n.onnx

First it prints {"gate": NAME, "sha256": HEX}. Then for each line {"id": N, "width": W, "height": H, "rgb": BASE64} on its input
it prints {"id": N, "score": 0..1, "label": WORD}. Another detector can take its place by doing the same. It shares no memory
with Understudy; the weights it loads are NudeNet's, under AGPL-3.0 (see NOTICE.md).
"""

from __future__ import annotations

import base64
import hashlib
import json
import sys
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
from numpy.typing import NDArray

INPUT_PX = 320
EXPOSED = {2: "buttocks", 3: "breast", 4: "genitalia", 6: "anus", 14: "genitalia"}
"""The classes of the network that count, by number."""


def main(weights: Path) -> None:
    """Answers until its input ends."""
    data = weights.read_bytes()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    print(json.dumps({"gate": "nudenet 3.4.2 320n", "sha256": hashlib.sha256(data).hexdigest()}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        picture = np.frombuffer(base64.b64decode(request["rgb"]), np.uint8)
        picture = picture.reshape(request["height"], request["width"], 3)
        scores = session.run(None, {session.get_inputs()[0].name: network_input(picture)})[0][0, 4:]
        score, label = exposure(scores)
        print(json.dumps({"id": request["id"], "score": score, "label": label}), flush=True)


def network_input(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(1, 3, 320, 320) float32 0..1: the picture at the top left of a black square, scaled."""
    height, width = picture.shape[:2]
    square = np.zeros((max(height, width),) * 2 + (3,), np.uint8)
    square[:height, :width] = picture
    scaled = cv2.resize(square, (INPUT_PX, INPUT_PX), interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(scaled.transpose(2, 0, 1)[None], dtype=np.float32) / np.float32(255)


def exposure(scores: NDArray[np.floating]) -> tuple[float, str]:
    """The highest score among the classes that count, of (classes, places), and its word."""
    highest = {number: float(scores[number].max()) for number in EXPOSED}
    number = max(highest, key=lambda each: highest[each])
    return round(highest[number], 4), EXPOSED[number]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
