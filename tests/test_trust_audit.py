"""The audit of `make check`: the installed packages pass, and each kind of fault is told."""

from __future__ import annotations

import runpy
import subprocess
from pathlib import Path

import pytest

AUDIT = runpy.run_path(str(Path(__file__).parents[1] / "tools" / "audit.py"))


def test_the_packages_that_understudy_runs_on_are_found_with_those_behind_them() -> None:
    installed = AUDIT["installed_packages"]()
    behind = AUDIT["running_on"]("understudy", installed)
    assert {"torch", "numpy", "av", "cffi", "markupsafe"} <= behind
    assert not {"pytest", "ruff", "understudy"} & behind


def test_each_kind_of_fault_is_told() -> None:
    pins = AUDIT["pinned"]("# a comment\nTyping_Extensions==4.16.0\ntorch==2.13.0  # why\n")
    assert pins == {"typing-extensions": "4.16.0", "torch": "2.13.0"}
    told = list(AUDIT["unpinned"]({"typing-extensions": "4.15.0", "torch": "2.13.0+cpu", "stray": "1.0", "pip": "23"}, pins))
    assert [words.split(" ")[0] for words in told] == ["stray", "typing-extensions"]
    assert "constraints.txt says 4.16.0" in told[1]
    assert list(AUDIT["unnamed"]({"torch", "stray"}, "| torch | BSD |")) == [
        "stray is not named in NOTICE.md; add it with its licence"
    ]


def test_a_pip_that_is_not_there_does_not_pass_for_packages_that_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_pip(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 1, "", "No module named pip\n")

    monkeypatch.setattr(subprocess, "run", without_pip)
    assert list(AUDIT["unfitting"]()) == ["pip cannot be asked whether all fits together: No module named pip"]
