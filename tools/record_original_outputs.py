"""Records what the original runtimes answer, for the tests: `python tools/record_original_outputs.py ACTORS PACKAGES`.

Runs in an environment of its own: `pip install ai-edge-litert==2.3.0 dlib-bin==20.0.1.post1 opencv-python-headless numpy`.
ACTORS holds `test_A.mp4` and `test_A.json`; PACKAGES holds the unpacked `mediapipe` and `face_recognition_models` (versions in
perception/weights.py). Writes tests/golden/actor.png, a near-frontal picture of the virtual actor, and
tests/golden/original_outputs.npz: each network's answer to that picture or a cut of it, every eighth row for the detectors.
"""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import dlib
import entry
import numpy as np
from ai_edge_litert.interpreter import Interpreter

GOLDEN = Path(__file__).resolve().parents[1] / "tests" / "golden"
REGION = (64, 40, 384)  # left, top and side in the clip's frame; halved for the picture
ROW_STEP = 8


def main(actors: Path, packages: Path) -> None:
    """Write the picture and the numbers."""
    left, top, side = REGION
    _, frame = cv2.VideoCapture(str(actors / "test_A.mp4")).read()
    region = frame[top : top + side, left : left + side]
    picture = cv2.resize(region, (side // 2, side // 2), interpolation=cv2.INTER_AREA)[:, :, ::-1]
    cv2.imwrite(str(GOLDEN / "actor.png"), picture[:, :, ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 9])
    truth = json.loads((actors / "test_A.json").read_text())["frames"][0]
    modules = packages / "mediapipe" / "modules"
    signed = picture.astype(np.float32) / 127.5 - 1
    short = run(modules / "face_detection" / "face_detection_short_range.tflite", signed[32:160, 32:160])
    full = run(modules / "face_detection" / "face_detection_full_range_sparse.tflite", signed)
    mesh = run(modules / "face_landmark" / "face_landmark.tflite", picture.astype(np.float32) / 255)
    model = packages / "face_recognition_models" / "models" / "dlib_face_recognition_resnet_model_v1.dat"
    identity = dlib.face_recognition_model_v1(str(model)).compute_face_descriptor(np.ascontiguousarray(picture[21:171, 21:171]))
    np.savez_compressed(
        GOLDEN / "original_outputs.npz",
        face_detector_short=np.concatenate(short, axis=-1)[0, ::ROW_STEP],
        face_detector_full=np.concatenate(full, axis=-1)[0, ::ROW_STEP],
        face_mesh=mesh[0].ravel(),
        face_mesh_presence=mesh[1].ravel(),
        face_identity=np.array(identity, np.float32),
        true_points=(np.array(truth["landmarks"]) - (left, top)) / 2,
        true_pose=np.array(truth["head_yaw_pitch_roll"]),
    )


def run(model: Path, picture: np.ndarray) -> list[np.ndarray]:
    """The outputs of a .tflite file for one picture (height, width, 3), in the file's order."""
    interpreter = Interpreter(str(model))
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], np.ascontiguousarray(picture[None]))
    interpreter.invoke()
    return [interpreter.get_tensor(output["index"]) for output in interpreter.get_output_details()]


if __name__ == "__main__":
    asked = entry.parser(__doc__)
    asked.add_argument("actors", type=Path, metavar="ACTORS")
    asked.add_argument("packages", type=Path, metavar="PACKAGES")
    entry.run(main, asked)
