"""What can be trained by name, and what a user's file defines."""

from surefoot.tasks.base import Task, TaskError
from surefoot.tasks.digits import task as digits
from surefoot.tasks.load import TASKS
from surefoot.tasks.pycode import task as pycode

__all__ = ["TASKS", "Task", "TaskError", "digits", "pycode"]
