"""What goes wrong in a training, in words: what was seen, with its numbers, and what to try."""

from surefoot.diagnosis.base import Diagnosis
from surefoot.diagnosis.cause import Finding
from surefoot.diagnosis.history import Watched

__all__ = ["Diagnosis", "Finding", "Watched"]
