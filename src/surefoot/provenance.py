"""Where a result came from: versions and the git commit."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path

import torch

import surefoot

__all__ = ["git", "versions"]


def versions() -> dict[str, str]:
    """Of what a result depends on.

    Example:
        >>> list(versions())
        ['surefoot', 'torch', 'python', 'platform']
    """
    return {
        "surefoot": surefoot.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
    }


def git(folder: Path) -> dict[str, str | bool]:
    """The commit that is checked out in ``folder`` and whether something differs from it; empty where there is none.

    Example:
        >>> git(Path("/"))
        {}
    """
    try:
        commit = _said(folder, "rev-parse", "HEAD")
        changes = _said(folder, "status", "--porcelain", "--untracked-files=no")
    except (
        OSError,
        subprocess.SubprocessError,
    ):  # no git, no repository, no commit, or one that takes too long
        return {}
    return {"commit": commit, "dirty": bool(changes)}


def _said(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    return done.stdout.strip()
