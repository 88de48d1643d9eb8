"""The user's secret key: readable by its owner only, never shown, never replaced."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from understudy.trust import keys


def test_the_secret_key_is_readable_by_its_owner_only_and_never_shown(tmp_path: Path) -> None:
    key = keys.signing_key(tmp_path)
    path = tmp_path / keys.SECRET_FILE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text().splitlines()[1] not in repr(key)
    assert keys.signing_key(tmp_path).public == key.public


def test_a_key_is_kept_where_files_cannot_be_linked_and_never_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("os.link", no_links)
    made = keys.signing_key(tmp_path).public
    assert stat.S_IMODE((tmp_path / keys.SECRET_FILE).stat().st_mode) == 0o600
    keys.write_secret(tmp_path / keys.SECRET_FILE, b"another")
    assert keys.signing_key(tmp_path).public == made
    assert not list(tmp_path.glob(".tmp*"))
