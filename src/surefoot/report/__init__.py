"""One self-contained page about a run, or several: no network, charts drawn in the page itself.

Example:
    >>> from surefoot import report
    >>> story = report.Story("digits-1", "97 % are right.", step=[1, 2, 3], loss=[2.3, 1.2, 0.9])
    >>> html = report.page(story)
    >>> html.startswith("<!doctype html>"), "97 % are right." in html
    (True, True)
"""

from surefoot.report.pages import compare, page
from surefoot.report.story import Finding, Story

__all__ = ["Finding", "Story", "compare", "page"]
