"""Composites a long film, killed three times on the way, and says whether memory stays flat and nothing is lost.

    python tools/measure_long_film.py WORK_FOLDER [NUM_FRAMES [--compare]]

The film is abel's test clip to and fro on a 1280x720 canvas; its faces are found once and repeated, the model is the one that
returns its input. Each run is a process of its own, killed by signal 9; the last one finishes. With --compare the film is
composited once more without a kill, in one process, and both files must be the same to the byte. Prints memory (in use, and
its peak) by progress, of the run without a kill where there is one. No passes are written. A film of less than 2,500 frames
is written in segments of a twentieth of it, so that there is something to go on from.
"""

from __future__ import annotations

import json
import multiprocessing
import resource
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import av
import entry
import numpy as np

import understudy
from understudy.media.footage import probe
from understudy.media.reader import read_frames
from understudy.media.segments import FRAMES_PER_SEGMENT, SegmentedWriter
from understudy.model.identity import IdentitySwapper
from understudy.settings import ConvertRecipe
from understudy.stages import _marked_output
from understudy.stages._plate_survey import PlateSurvey, survey_plate
from understudy.stages._swap_plan import Replacement
from understudy.stages.convert import make_plan, measure_looks, swap_footage
from understudy.store.hashing import sha256_of_file
from understudy.trust.credentials import Lineage
from understudy.types import Event, Face, silent

CLIP = Path(understudy.__file__).parent / "sample/abel_test.mp4"
WIDTH, HEIGHT = 1280, 720
LEFT, TOP = 384, 104
RECIPE = ConvertRecipe(crf=23, passes="none")
KILLED_AT = (0.2, 0.5, 0.8)


def main(work: Path, num_frames: int, is_compared: bool) -> None:
    """Make the film, composite it with three kills, and report."""
    every = min(FRAMES_PER_SEGMENT, max(1, num_frames // 20))
    _marked_output.SegmentedWriter = partial(SegmentedWriter, every=every)
    film = make_film(work, num_frames)
    faces = found_faces(work)
    for share in (*KILLED_AT, None):
        run(film, faces, num_frames, work / "swap", share)
    if not is_compared:
        report(work / "swap", num_frames)
    else:
        run(film, faces, num_frames, work / "whole", None)
        report(work / "whole", num_frames)
        same = sha256_of_file(work / "whole/unsigned.mp4") == sha256_of_file(work / "swap/unsigned.mp4")
        print("the same to the byte as without a kill:", same)


def run(film: Path, faces: list[Face], num_frames: int, out: Path, killed_at: float | None) -> None:
    """One process, killed when that share of the film is composited."""
    process = multiprocessing.get_context("fork").Process(target=composite, args=(film, faces, num_frames, out))
    process.start()
    if killed_at is not None:
        wait_for(out / "memory.jsonl", killed_at * num_frames)
        process.kill()
    process.join()
    print(f"killed at {killed_at:.0%}" if killed_at else f"ended with {process.exitcode}", flush=True)


def make_film(work: Path, num_frames: int) -> Path:
    """The film, encoded once."""
    path = work / f"film_{num_frames}.mp4"
    if path.exists():
        return path
    work.mkdir(parents=True, exist_ok=True)
    pictures = [record.image for record in read_frames(CLIP)]
    canvas = np.full((HEIGHT, WIDTH, 3), 70, np.uint8)
    with av.open(str(path.with_suffix(".partial.mp4")), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast", "crf": "20"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for frame in range(num_frames):
            canvas[TOP : TOP + 512, LEFT : LEFT + 512] = pictures[place(frame, len(pictures))]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(canvas, format="rgb24")))
        container.mux(stream.encode(None))
    path.with_suffix(".partial.mp4").rename(path)
    return path


def place(frame: int, length: int) -> int:
    """To and fro, so that nothing jumps."""
    step = frame % (2 * length - 2)
    return step if step < length else 2 * length - 2 - step


def found_faces(work: Path) -> list[Face]:
    """The faces of the short clip, at their places on the canvas."""
    shift = np.array([LEFT, TOP])
    faces = []
    for face in survey_plate(probe(CLIP), work / "short", silent).faces:
        matrix = face.face_from_frame.copy()
        matrix[:, 2] -= matrix[:, :2] @ shift
        landmarks, irises = face.landmarks + shift, face.irises + shift
        faces.append(replace(face, landmarks=landmarks, irises=irises, face_from_frame=matrix, raw_face_from_frame=matrix))
    return faces


def composite(film: Path, faces: list[Face], num_frames: int, out: Path) -> None:
    """One run, which goes on where the last one was killed; writes how much memory it used."""
    entry.end_quietly()
    out.mkdir(parents=True, exist_ok=True)
    by_frame = {face.frame: face for face in faces}
    repeated = [
        replace(by_frame[place(frame, 120)], frame=frame, track=0, shot=0, time_seconds=frame / 25)
        for frame in range(num_frames)
        if place(frame, 120) in by_frame
    ]
    survey = PlateSurvey(repeated, dict.fromkeys(range(num_frames), 0))
    embedding = np.nanmean([face.embedding for face in faces], axis=0)
    swapper = IdentitySwapper({"abel": embedding[None], "bea": -embedding[None]}, resolution_px=128)
    info, log = probe(film), (out / "memory.jsonl").open("a")

    def tell(event: Event) -> None:
        if event.kind == "progress":
            usage = resource.getrusage(resource.RUSAGE_SELF)
            memory = {"now_mb": in_use_mb(), "peak_mb": usage.ru_maxrss / 1024, "cpu_seconds": usage.ru_utime + usage.ru_stime}
            log.write(json.dumps({"at": event.message, "frame": event.done, **memory, "time": time.time()}) + "\n")
            log.flush()

    plan = make_plan(info, survey, swapper, (Replacement("abel", "bea"),), RECIPE)
    plan = measure_looks(info, plan, out / "plate", tell)
    figures, outputs = swap_footage(info, survey, plan, out, Lineage({}, ()), tell)
    print({name: figures[name] for name in ("num_frames", "num_swapped", "num_failed")}, flush=True)
    without_credentials(outputs["swap"], out / "unsigned.mp4")


def without_credentials(signed: Path, path: Path) -> None:
    """The picture's packets alone: signatures carry the time of signing."""
    with av.open(str(signed)) as container, path.open("wb") as file:
        for packet in container.demux(container.streams.video[0]):
            if packet.size:
                file.write(f"{packet.pts} {packet.dts} ".encode() + bytes(packet))


def wait_for(log: Path, frame: float) -> None:
    """Return when so many frames are composited."""
    while True:
        time.sleep(0.2)
        lines = log.read_text().splitlines() if log.exists() else []
        if any(line["at"] == "swapping" and line["frame"] >= frame for line in map(json.loads, lines[-3:])):
            return


def report(out: Path, num_frames: int) -> None:
    """Memory of the last run, by progress."""
    lines = [json.loads(line) for line in (out / "memory.jsonl").read_text().splitlines()]
    for share in (0.02, 0.05, 0.1, 0.25, 0.5, 0.75, 0.82, 0.9, 1.0):
        near = min(lines, key=lambda line: (abs(line["frame"] - share * num_frames), line["at"] != "swapping", -line["time"]))
        print(f"frame {near['frame']}: {near['now_mb']:.0f} MB, peak {near['peak_mb']:.0f} MB, {near['cpu_seconds']:.0f} CPU s")


def in_use_mb() -> float:
    """Memory of this process that is in use now (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


if __name__ == "__main__":
    asked = entry.parser(__doc__)
    asked.add_argument("work", type=Path, metavar="WORK_FOLDER")
    asked.add_argument("num_frames", type=int, metavar="NUM_FRAMES", nargs="?", default=10_000)
    asked.add_argument("--compare", dest="is_compared", action="store_true")
    entry.run(main, asked)
