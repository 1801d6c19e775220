"""The benchmark: what Surefoot and torch take for the same work, measured alternately in one run."""

from surefoot.bench.results import Result, machine, write_csv
from surefoot.bench.rows import Work, alternate, select, works

__all__ = ["Result", "Work", "alternate", "machine", "select", "works", "write_csv"]
