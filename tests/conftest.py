"""What several test files share: one thread a process, and the bundled sample."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Tests run in one process a core; before torch is imported, so that its pools stay small.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import understudy


@pytest.fixture(scope="session")
def sample() -> Path:
    """The folder of the bundled virtual actors."""
    return Path(understudy.__file__).parent / "sample"
