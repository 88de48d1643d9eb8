"""Fuzzes what reads foreign files, for as long as it is told, and keeps what it finds.

    python tools/fuzz.py consent|manifest|project|checkpoint|media|all [--minutes 10] [--seed 1] [--out FOLDER]

Each case is read in a folder of its own. A finding is an error that is no single line for the user, a case that takes more than
ten seconds of processor time, a crash of the process, or a write outside the case's folder; its input is kept as
FOLDER/TARGET-N.bin. Where atheris is installed (`pip install atheris`, Linux, Python 3.11 to 3.13) and the reader is Python,
half of the time goes to its coverage-guided search. Exit status 1 with findings.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import entry

MOST_SECONDS, MOST_WAITING_SECONDS = 10, 120
MOST_MEMORY_BYTES = 6 * 2**30
MOST_FINDINGS = 50
ALL = ("consent", "manifest", "project", "checkpoint", "media")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Hang(BaseException):
    """A case took too long; no `except Exception` may catch it."""


class WriteOutside(BaseException):
    """A case wrote where it may not."""


def main() -> None:
    """Fuzzes one target, or all one after the other."""
    parser = entry.parser(__doc__)
    parser.add_argument("target", choices=(*ALL, "all"))
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("fuzz-findings"))
    parser.add_argument("--worker", choices=("random", "guided"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options.target, options.worker, options.minutes, options.seed, options.out)
        return
    num_findings = sum(
        supervise(target, options.minutes, options.seed, options.out)
        for target in (ALL if options.target == "all" else [options.target])
    )
    sys.exit(1 if num_findings else 0)


def supervise(target: str, minutes: float, seed: int, out: Path) -> int:
    """Starts workers until the time is over; one that dies is a finding too. Returns the number of findings."""
    out.mkdir(parents=True, exist_ok=True)
    from fuzz_targets import TARGETS

    is_guided = importlib.util.find_spec("atheris") is not None and not TARGETS[target].is_native
    shares = (("guided", 0.5), ("random", 0.5)) if is_guided else (("random", 1.0),)
    before = len(list(out.glob(f"{target}-*.bin")))
    for engine, share in shares:
        end = time.monotonic() + 60 * minutes * share
        while (left := end - time.monotonic()) > 1 and len(list(out.glob(f"{target}-*.bin"))) < MOST_FINDINGS:
            seed += 1
            _run_worker(target, engine, left / 60, seed, out)
    num_findings = len(list(out.glob(f"{target}-*.bin"))) - before
    print(f"{target}: {minutes:g} minutes, {num_findings} findings", flush=True)
    return num_findings


def _run_worker(target: str, engine: str, minutes: float, seed: int, out: Path) -> None:
    command = [sys.executable, __file__, target, "--worker", engine, "--minutes", f"{minutes:.3f}", "--seed", str(seed)]
    current = out / f".current-{target}"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run([*command, "--out", str(out)], timeout=60 * minutes + 600, env=environment, check=False)
        died = f"exit {done.returncode}" if done.returncode else ""
    except subprocess.TimeoutExpired:
        died = "hang"
    if died and current.is_file():
        keep(out, target, current.read_bytes(), died)
    current.unlink(missing_ok=True)


def work(target: str, engine: str, minutes: float, seed: int, out: Path) -> None:
    """One process full of cases."""
    if engine == "guided":
        import atheris

        with atheris.instrument_imports(include=["understudy"]):
            from fuzz_targets import TARGETS
    else:
        from fuzz_targets import TARGETS
    from fuzz_mutations import mutated

    chosen = TARGETS[target]
    with tempfile.TemporaryDirectory(prefix="understudy-fuzz-") as name:
        os.environ["UNDERSTUDY_KEYS"] = f"{name}/keys"
        seeds = list(chosen.seeds())
        is_running: list[bool] = []
        _limit(Path(name), out, is_running)
        case = _case(chosen.run, Path(name) / "case", target, out, is_running)
        if engine == "guided":
            _search_guided(case, seeds, Path(name) / "corpus", minutes, seed)
        else:
            _search_at_random(case, lambda draw: mutated(seeds, draw), minutes, seed, target)


def _case(
    run: Callable[[bytes, Path], None], folder: Path, target: str, out: Path, is_running: list[bool]
) -> Callable[[bytes], None]:
    from fuzz_answers import check_one_line

    from understudy.types import UnderstudyError

    current = out / f".current-{target}"

    def case(data: bytes) -> None:
        current.write_bytes(data)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        signal.setitimer(signal.ITIMER_PROF, MOST_SECONDS)
        signal.setitimer(signal.ITIMER_REAL, MOST_WAITING_SECONDS)
        is_running.append(True)
        try:
            run(data, folder)
        except UnderstudyError as error:
            try:
                check_one_line(error)
            except AssertionError:
                keep(out, target, data, traceback.format_exc())
        except (Exception, Hang, WriteOutside):
            keep(out, target, data, traceback.format_exc())
        finally:
            is_running.clear()
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.setitimer(signal.ITIMER_REAL, 0)

    return case


def _search_at_random(
    case: Callable[[bytes], None], make: Callable[[random.Random], bytes], minutes: float, seed: int, target: str
) -> None:
    draw, end, num_cases = random.Random(seed), time.monotonic() + 60 * minutes, 0
    while time.monotonic() < end:
        case(make(draw))
        num_cases += 1
    print(f"{target}: {num_cases} random cases", flush=True)


def _search_guided(case: Callable[[bytes], None], seeds: list[bytes], corpus: Path, minutes: float, seed: int) -> None:
    import atheris

    corpus.mkdir()
    for number, data in enumerate(seeds):
        (corpus / f"seed{number}").write_bytes(data)
    words = (
        f"-max_total_time={max(1, round(60 * minutes))}",
        f"-seed={seed}",
        "-max_len=20000",
        "-timeout=60",
        "-print_final_stats=1",
    )
    atheris.Setup([sys.argv[0], str(corpus), *words, "-verbosity=0"], case)
    atheris.Fuzz()


def _limit(folder: Path, out: Path, is_running: list[bool]) -> None:
    """Bounds memory, makes the alarm a `Hang`, and while a case is running refuses what changes files outside its folder."""
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY_BYTES, MOST_MEMORY_BYTES))

    def hang(number: int, frame: object) -> None:
        raise Hang(f"more than {MOST_SECONDS} seconds of processor time, or {MOST_WAITING_SECONDS} of waiting")

    signal.signal(signal.SIGALRM, hang)
    signal.signal(signal.SIGPROF, hang)
    allowed = (folder.resolve(), out.resolve(), Path("/dev").resolve())

    def audit(event: str, arguments: tuple[object, ...]) -> None:
        if not is_running:
            return
        for place in _written(event, arguments):
            if (
                not any(place.is_relative_to(each) for each in allowed)
                and place.suffix != ".pyc"
                and place.name != "__pycache__"
            ):
                raise WriteOutside(f"{event} {place}")

    sys.addaudithook(audit)


def _written(event: str, arguments: tuple[object, ...]) -> list[Path]:
    """What an audit event (docs.python.org/3/library/audit_events.html) is about to change, as absolute paths."""
    if event == "open":
        path, mode, flags = arguments
        by_mode = isinstance(mode, str) and any(sign in mode for sign in "wax+")
        changed = [(path, -1)] if by_mode or (isinstance(flags, int) and flags & _WRITING) else []
    elif event in ("os.rename", "os.link"):
        changed = list(zip(arguments[:2], arguments[2:4], strict=True))
    elif event in ("os.remove", "os.rmdir", "os.mkdir", "os.chmod", "os.symlink"):
        changed = [(arguments[1] if event == "os.symlink" else arguments[0], arguments[-1])]
    elif event == "os.truncate":
        changed = [(arguments[0], -1)]
    else:
        changed = []
    return [_absolute(path, folder) for path, folder in changed if isinstance(path, str | bytes | os.PathLike)]


def _absolute(path: str | bytes | os.PathLike[str], folder: object) -> Path:
    base = os.readlink(f"/proc/self/fd/{folder}") if isinstance(folder, int) and folder >= 0 else ""
    return Path(os.path.abspath(os.path.join(base, os.fsdecode(path))))


def keep(out: Path, target: str, data: bytes, why: str) -> None:
    """Keeps an input once for each kind of failure: what was raised, and the last place of ours in the traceback."""
    lines = [line.strip() for line in why.strip().splitlines()]
    places = [line for line in lines if line.startswith("File ") and "understudy" in line] or [""]
    kind = f"{lines[-1].split(':')[0][:60]} {places[-1]}"
    known = out / f"{target}-kinds.txt"
    if known.is_file() and kind in known.read_text().splitlines():
        return
    with known.open("a", errors="replace") as file:
        file.write(kind + "\n")
    number = len(list(out.glob(f"{target}-*.bin")))
    (out / f"{target}-{number}.bin").write_bytes(data)
    (out / f"{target}-{number}.txt").write_text(why, errors="replace")
    print(f"{target}: finding {number}: {lines[-1][:200]}", flush=True)


if __name__ == "__main__":
    entry.run(main)
