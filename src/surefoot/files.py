"""Small files, written whole or not at all."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

__all__ = ["write"]


def write(path: Path, content: str | bytes) -> None:
    """Write beside ``path`` and rename: a reader finds the old content or the new, never a part.

    Raises:
        OSError: It cannot be written; what was at ``path`` is still there.
    """
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")  # this writer's alone
    try:
        beside.write_bytes(content.encode() if isinstance(content, str) else content)
        os.replace(beside, path)
    finally:
        with suppress(OSError):  # it is gone, or cannot be removed for the reason that is raised
            beside.unlink()
