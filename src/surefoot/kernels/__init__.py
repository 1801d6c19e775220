"""What runs a rule over tensors.

An executor is a function ``(rule, table)``; a table is a list of rows, one for each tensor to
update, of all groups together. :func:`choose` is the one place that says who serves what.
"""

from surefoot.kernels.choose import choose
from surefoot.kernels.table import Row

__all__ = ["Row", "choose"]
