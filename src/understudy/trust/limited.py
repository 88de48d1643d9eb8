"""Reads foreign files in a process of its own that may not write files and has limits on memory and time.

`check_footage` is the trial that every stage makes before it opens footage itself: what crashes, hangs or bursts at its header,
its first pictures or its key frames does so there, and the user gets one line.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path

from understudy.media.footage import probe
from understudy.media.images import footage_images, read_image
from understudy.media.keyframes import read_key_frames
from understudy.media.reader import read_frames
from understudy.media.tags import container_tags
from understudy.types import BadInput, Json

MAX_MEMORY_BYTES = 8 * 2**30
MAX_SECONDS = 600
NUM_TRIED_FRAMES = 8
_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
"""Thread pools and memory arenas would take address space, which is what is limited."""


def check_footage(*footage: Path | None) -> None:
    """Tries each file or folder of pictures in a limited process. Raises BadInput where that fails in any way; skips None."""
    for path in footage:
        if path is not None:
            run_limited(__name__, path)


def run_limited(module: str, path: Path) -> Json:
    """What `python -m MODULE PATH` prints as JSON, where that module ends in `answer_limited`.

    Raises BadInput with what the module says, or where it crashes, takes too long or needs too much memory.
    """
    command = [sys.executable, "-B", "-P", "-m", module, str(path.absolute())]
    try:
        done = subprocess.run(
            command, capture_output=True, timeout=MAX_SECONDS, env={**os.environ, **_ENVIRONMENT}, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise BadInput(f"{path}: could not be read within {MAX_SECONDS} seconds; cut out the part in question") from error
    try:
        answer = json.loads(done.stdout)
    except ValueError as error:
        raise BadInput(f"{path}: reading it failed ({_ending(done.returncode)}); the file may be damaged on purpose") from error
    if "bad_input" in answer:
        # the file was named in full to that process; the user hears the name they gave
        raise BadInput(str(answer["bad_input"]).replace(str(path.absolute()), str(path)))
    return dict(answer)


def answer_limited(read: Callable[[Path], Json]) -> None:
    """The end of a module that `run_limited` starts: sets the limits, reads what the command line names, prints the answer."""
    _limit_this_process()
    try:
        answer = read(Path(sys.argv[1]))
    except BadInput as error:
        answer = {"bad_input": str(error)}
    except MemoryError:
        answer = {
            "bad_input": f"{sys.argv[1]}: needs more than {MAX_MEMORY_BYTES // 2**30} GB of memory to read; scale it down"
        }
    print(json.dumps(answer))


def _try_footage(path: Path) -> Json:
    """Decodes the first frames, some key frames and the tags, or some pictures of a folder."""
    if path.is_dir():
        images = footage_images(path)
        _decode(read_image(image) for image in images[:: max(1, len(images) // NUM_TRIED_FRAMES)])
        return {}
    probe(path)
    container_tags(path)
    _decode(read_frames(path, stop=NUM_TRIED_FRAMES))
    _decode(read_key_frames(path, NUM_TRIED_FRAMES))
    return {}


def _decode(pictures: Iterable[object]) -> None:
    for _ in islice(pictures, NUM_TRIED_FRAMES):
        pass


def _ending(returncode: int) -> str:
    return signal.Signals(-returncode).name if returncode < 0 else f"exit {returncode}"


def _limit_this_process() -> None:
    """No file may be written, memory and processor time are bounded; where the system has no such limits, none are set."""
    try:
        import resource
    except ImportError:
        return
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (MAX_SECONDS, MAX_SECONDS))


if __name__ == "__main__":
    answer_limited(_try_footage)
