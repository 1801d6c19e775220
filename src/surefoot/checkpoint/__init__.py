"""Checkpoints: the parts of a training by name, in one file that is whole or not there.

checkpoint.save("run.safetensors", model=model, optimizer=optimizer, scheduler=scheduler, extra={"epoch": 3})
report = checkpoint.load("run.safetensors", model=model, optimizer=optimizer, scheduler=scheduler)
"""

from surefoot.archive import CheckpointError
from surefoot.checkpoint.base import PARTS, Report, Saved, load, opened, save, write
from surefoot.checkpoint.manager import CheckpointManager
from surefoot.checkpoint.parts import names_in, optimizer_part

__all__ = [
    "PARTS",
    "CheckpointError",
    "CheckpointManager",
    "Report",
    "Saved",
    "load",
    "names_in",
    "opened",
    "optimizer_part",
    "save",
    "write",
]
