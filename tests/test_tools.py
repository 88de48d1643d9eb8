"""Every tool starts: what it takes from the package is still there."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

TOOLS = sorted((Path(__file__).parents[1] / "tools").glob("*.py"))


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.stem)
def test_a_tool_finds_all_that_it_imports(tool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if tool.stem == "record_original_outputs":
        pytest.skip("it runs in an environment of its own, with ai-edge-litert")
    monkeypatch.syspath_prepend(str(tool.parent))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # which one of them sets, and which is as it was afterwards
    runpy.run_path(str(tool))
