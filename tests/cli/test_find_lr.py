import re

import pytest
import tiny


def test_it_says_a_rate_and_leaves_nothing_but_the_picture(surefoot, tmp_path):
    code, said = surefoot(
        "find-lr", tiny.PATH, "--optimizer", "sgd", "--momentum", "0.5", "--out", "range.png"
    )
    assert code == 0
    assert re.search(
        r"surefoot train \S*tiny\.py --optimizer sgd --momentum 0\.5 --lr [\d.e-]+ Written to range.png", said
    )
    assert [path.name for path in tmp_path.iterdir()] == ["range.png"]
    assert (tmp_path / "range.png").read_bytes().startswith(b"\x89PNG")


def test_the_picture_has_a_name_of_its_own(surefoot, tmp_path):
    code, said = surefoot("find-lr", tiny.PATH, "--effort", "sweep")
    assert (code, said.endswith("Written to lr-tiny.png")) == (0, True)
    assert [path.name for path in tmp_path.iterdir()] == ["lr-tiny.png"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Name what to train"),
        (["digit"], "Did you mean 'digits'?"),
        ([tiny.PATH, "--out", "range.gif"], "--out is 'range.gif': name a .png or .svg"),
        ([tiny.PATH, "--momentum", "0.5"], "momentum is not of adamw: it goes with rmsprop, sgd."),
    ],
)
def test_bad_usage_is_said(surefoot, tmp_path, arguments, message):
    code, said = surefoot("find-lr", *arguments)
    assert (code, message in said) == (2, True), said
    assert list(tmp_path.iterdir()) == []
