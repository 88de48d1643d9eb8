"""What several test files share: one thread a process, and the bundled sample."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# Tests run in one process a core; before torch is imported, so that its pools stay small.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# Tests sign with keys of their own, never with the user's.
os.environ["UNDERSTUDY_KEYS"] = tempfile.mkdtemp(prefix="understudy_test_keys_")

import understudy
from understudy.trust.consent import create_record

# The same examples in every run: a failure is then the change's, and can be repeated. How long one takes says nothing, for
# other work may go on beside it.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


def pytest_unconfigure() -> None:
    """Leave nothing behind; each process has its own."""
    shutil.rmtree(os.environ["UNDERSTUDY_KEYS"], ignore_errors=True)


@pytest.fixture(scope="session")
def sample() -> Path:
    """The folder of the bundled virtual actors."""
    return Path(understudy.__file__).parent / "sample"


@pytest.fixture(scope="module")
def consented(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with consent records of abel, bea and few, which is where records are looked for while the module runs."""
    folder = tmp_path_factory.mktemp("consent")
    for name in ("abel", "bea", "few"):
        create_record(folder, name, "synthetic")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNDERSTUDY_CONSENT", str(folder))
        yield folder


@pytest.fixture(scope="module")
def face_sets(consented: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Face sets of two drawn performers, abel and bea, who have consented."""
    from drawn_faces import draw_face_set
    from tiny_training import DARK_SKIN, LIGHT_SKIN

    folder = tmp_path_factory.mktemp("faces")
    return [draw_face_set(folder / "abel", "abel", LIGHT_SKIN), draw_face_set(folder / "bea", "bea", DARK_SKIN)]
