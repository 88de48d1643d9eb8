"""Benchmarks that are stopped say whether the same command continues, and show how far they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import benchmarks.graded.__main__ as graded
import benchmarks.truth.__main__ as truth
import experiments.__main__ as claims
from benchmarks import speed
from understudy.types import Event

CONTINUING: list[tuple[object, str, Callable[[list[str]], int], list[str]]] = [
    (truth, "run", truth.main, ["run"]),
    (truth, "ladder", truth.main, ["ladder"]),
    (graded, "figures_of", graded.main, ["m", "t.mp4", "p.mp4", "--replace", "abel", "--with", "bea"]),
    (claims, "run_claims", claims.main, ["all"]),
]


def stop(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(("module", "work", "main", "arguments"), CONTINUING)
def test_a_stopped_benchmark_says_that_the_same_command_continues(
    module: object,
    work: str,
    main: Callable[[list[str]], int],
    arguments: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(module, work, stop)
    assert main(arguments) == 130
    assert capsys.readouterr().err == "Stopped. The same command continues.\n"


def test_the_benchmark_of_speed_shows_how_far_it_is_and_says_that_it_begins_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    events: list[Event] = []
    speed.measure({"bare loop": lambda: 1.0, "matrix product": lambda: 1.0}, num_rounds=2, report=events.append)
    assert [(event.done, event.total, event.message) for event in events[:3]] == [
        (0, 6, "bare loop"),
        (1, 6, "matrix product"),
        (2, 6, "bare loop"),
    ]
    monkeypatch.setattr("sys.argv", ["speed.py", str(tmp_path / "bench.json"), "--only"])
    monkeypatch.setattr(speed, "measure", stop)
    with pytest.raises(SystemExit) as left:
        speed.main()
    assert left.value.code == 130
    assert capsys.readouterr().err == "Stopped. The same command begins anew.\n"
