import base64
import re
from html.parser import HTMLParser

import pytest

from surefoot.report import page

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


class Balanced(HTMLParser):
    """Fails on a tag that is closed without having been opened, or never."""

    void = ("meta", "img")

    def __init__(self, html):
        super().__init__()
        self.open = []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture
def html(tmp_path):
    picture = tmp_path / "loss.png"
    picture.write_bytes(PIXEL)
    return page("A <run>", "97 % & more", {"lr": 0.1, "note": "<script>"}, [picture])


def test_it_is_whole_and_well_formed(html):
    Balanced(html)
    assert "$" not in html.split("</style>")[1]


def test_it_needs_no_network_and_runs_nothing(html):
    assert not re.search(r"https?://|<script|<link", html)
    assert base64.b64encode(PIXEL).decode() in html


def test_what_it_is_given_is_text_not_markup(html):
    assert "A &lt;run&gt;" in html
    assert "97 % &amp; more" in html
    assert "&lt;script&gt;" in html


def test_every_picture_says_in_words_what_it_shows(html):
    (alt,) = re.findall(r'<img alt="([^"]+)"', html)
    assert "held-out" in alt
