"""Small real training tasks, each a module with a function ``task``."""

from surefoot.tasks.base import Task
from surefoot.tasks.digits import task as digits

__all__ = ["TASKS", "Task", "digits"]

TASKS = {"digits": digits}
"""What ``surefoot train`` knows by name."""
