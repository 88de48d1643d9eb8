"""Reads the text tags of a video container."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from understudy.media.footage import open_footage


def container_tags(path: Path) -> Mapping[str, str]:
    """The container's tags (`comment`, `title`, ...), names in lower case. Raises BadInput where the file is no video."""
    with open_footage(path) as container:
        return {name.lower(): value for name, value in container.metadata.items()}
