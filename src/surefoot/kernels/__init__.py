"""What runs a rule over tensors.

:func:`choose` names the executor; :func:`layout` says of each parameter what kernel it needs, or why it
has none, and :func:`lacking` whether that can run. A :class:`Table` runs kernels over all parameters that have one, ``eager`` runs the rule on the others.
"""

from surefoot.kernels import eager
from surefoot.kernels.choose import choose, lacking, layout, overlapping
from surefoot.kernels.cpu import CURRENT, STALE, Table
from surefoot.kernels.groups import OTHER, SAME, Groups
from surefoot.kernels.source import Layout
from surefoot.kernels.table import Member, Row

__all__ = [
    "CURRENT",
    "OTHER",
    "SAME",
    "STALE",
    "Groups",
    "Layout",
    "Member",
    "Row",
    "Table",
    "choose",
    "eager",
    "lacking",
    "layout",
    "overlapping",
]
