"""The user's own list of finished outputs: finds the lineage of a file whose credentials were stripped, by its watermark."""

from __future__ import annotations

import datetime
import json
import os
from pathlib import Path

from understudy.store.atomic import make_folder, writing_to
from understudy.trust.credentials import Lineage
from understudy.trust.keys import keys_folder
from understudy.types import Json

RENDERS_FILE = "renders.jsonl"


def remember_render(lineage: Lineage, name: str, sha256: str, folder: Path | None = None) -> None:
    """Appends one line; readable by the user only."""
    path = (folder or keys_folder()) / RENDERS_FILE
    make_folder(path.parent, 0o700)
    entry = {
        "watermark_id": lineage.watermark_id,
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "name": name,
        "sha256": sha256,
        "lineage": lineage.as_json(),
    }
    with writing_to(path):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            start = b"" if _ends_with_a_line(path) else b"\n"  # what a power cut tore must not take this line with it
            file.write(start + json.dumps(entry).encode() + b"\n")


def _ends_with_a_line(path: Path) -> bool:
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return True
        file.seek(-1, os.SEEK_END)
        return file.read() == b"\n"


def find_render(watermark_id: str, sha256: str = "", folder: Path | None = None) -> Json | None:
    """The newest line with this watermark, or the one with these bytes; None if there is none. Torn lines are passed over."""
    path = (folder or keys_folder()) / RENDERS_FILE
    if not path.is_file():
        return None
    found: Json | None = None
    with path.open("rb") as file:
        for line in file:
            try:
                entry = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(entry, dict) and entry.get("watermark_id") == watermark_id:
                found = entry
                if entry.get("sha256") == sha256:
                    break
    return found
