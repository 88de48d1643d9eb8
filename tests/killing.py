"""Processes that the tests start and kill at some moment within their work."""

import multiprocessing
import os
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.process import BaseProcess
from pathlib import Path

NUM_KILLS = 10


def start(function: Callable[..., None], *arguments: object) -> BaseProcess:
    """A process of its own that runs `function`; it is forked from a server that has imported torch already."""
    context = multiprocessing.get_context("forkserver")
    libraries = ["pytest", "hypothesis.strategies", "safetensors.torch"]
    context.set_forkserver_preload([*libraries, "understudy.store.checkpoints", "understudy.store.faceset"])
    process = context.Process(target=function, args=arguments, daemon=True)
    process.start()
    return process


def free_port() -> int:
    """A port at which processes that share a run can meet."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def kill(process: BaseProcess) -> None:
    assert process.is_alive(), "the process ended by itself"
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL


def wait_for_changes(folder: Path, num_changes: int, process: BaseProcess) -> None:
    """Return when the names and sizes in `folder` have changed so often: a moment within the work."""
    last = names_and_sizes(folder)
    while num_changes > 0 and process.is_alive():
        now = names_and_sizes(folder)
        num_changes -= now != last
        last = now


def names_and_sizes(folder: Path) -> set[tuple[str, int]]:
    found = set()
    for entry in os.scandir(folder):
        with suppress(FileNotFoundError):
            found.add((entry.name, entry.stat().st_size))
    return found
