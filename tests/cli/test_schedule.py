import os
import subprocess
import sys

import pytest

from surefoot import cli

WARM = "warmup(500) >> cosine(10_000, to=0.1)"


@pytest.fixture
def drawn(monkeypatch, capsys):
    """Run ``surefoot schedule``; returns its exit code and the lines that it printed, to stdout and stderr."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["surefoot", "schedule", *arguments])
        cli.console.file = None  # the stdout of now
        with pytest.raises(SystemExit) as stop:
            cli.main()
        captured = capsys.readouterr()
        return stop.value.code or 0, captured.out.splitlines(), captured.err.splitlines()

    return run


@pytest.mark.parametrize(
    ("arguments", "rows"),
    [
        (
            [WARM, "--base", "3e-4"],
            ["0 5.988e-7 start", "500 3e-4 peak, part 2 begins", "10,500 3e-5 end"],
        ),
        (
            ["warmup(500)\n >> cosine(10_000)", "--steps", "251"],  # of more than one line
            ["0 0.001996 start", "250 0.501 peak, last drawn"],
        ),
        (
            ["2 * wsd(1000, 100, 200)"],
            ["0 0.019802 start", "100 2 peak, part 2 begins", "800 2 part 3 begins", "1,000 0 end"],
        ),
        (["exponential(0.5)"], ["0 1 start, peak", "999 1.867e-301 last drawn"]),
        (
            ["warmup(2000) >> inverse_sqrt(2000)"],  # never ends, but all parts are seen
            ["0 4.998e-4 start", "2,000 1 peak, part 2 begins", "3,999 0.7072 last drawn"],
        ),
        (
            ["warmup(1e9) >> cosine(1e10)"],  # not every step is drawn, but those where it turns are found
            ["0 1e-9 start", "1,000,000,000 1 peak, part 2 begins", "11,000,000,000 0 end"],
        ),
        (["linear(4)", "--base", "-1"], ["0 -1 start", "4 0 peak, end"]),
        (["constant(0)"], ["0 1 start, peak, end"]),
        (["constant(1e300)"], ["0 1 start, peak", "999 1 last drawn"]),
    ],
)
def test_schedule_says_where_something_happens(drawn, arguments, rows):
    code, out, err = drawn(*arguments)
    assert (code, err) == (0, [])
    table = [" ".join(line.split()) for line in out]
    assert table[table.index("step value") + 1 :] == rows


@pytest.mark.parametrize(("columns", "width"), [("30", 30), ("80", 80), ("250", 100)])
def test_schedule_draws_as_wide_as_there_is_room(drawn, monkeypatch, columns, width):
    monkeypatch.setenv("COLUMNS", columns)
    _, out, _ = drawn(WARM, "--base", "3e-4")
    axis = next(line for line in out if "└" in line)
    assert len(axis) == width
    assert out[0] == "value"
    assert any(line.startswith("2e-4┤") for line in out)
    assert max(map(len, out)) <= width


def test_schedule_can_be_read_where_only_ascii_can_be_written(tmp_path):
    command = [sys.executable, "-c", "from surefoot.cli import main; main()", "schedule"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    for arguments in (
        ["warmup(2000) >> inverse_sqrt(2000)"],
        ["cosine(5)", "--out", "\N{LATIN SMALL LETTER E WITH ACUTE}.png"],
    ):
        done = subprocess.run([*command, *arguments], cwd=tmp_path, env=environment, capture_output=True)
        assert (done.returncode, done.stderr) == (0, b"")
        said = done.stdout.decode("ascii")
        assert "start" in said
        assert ("\\u" in said, "*****" in said) == (False, len(arguments) == 1)


@pytest.mark.parametrize(("name", "begins"), [("lr.png", b"\x89PNG"), ("LR.SVG", b"<?xml")])
def test_schedule_writes_a_picture(drawn, tmp_path, name, begins):
    code, out, _ = drawn(WARM, "--out", str(tmp_path / name))
    assert code == 0
    assert out[0] == f"Written to {tmp_path / name}"
    assert "peak, part 2 begins" in out[4]
    assert (tmp_path / name).read_bytes().startswith(begins)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("arguments", "lines"),
    [
        (
            [f"{WARM} >> cosin(5)"],
            ["Error: column 42: 'cosin' is no curve: did you mean 'cosine'?", f"  {WARM} >> cosin(5)", 43 * " " + "^"],
        ),
        (["  cosine"], ["Error: column 1: 'cosine' is not called: write cosine(...)", "  cosine", "  ^"]),
        (["3"], ["Error: column 1: this is 3, not a curve", "  3", "  ^"]),
        (["cosine([/])"], ["Error: column 9: invalid syntax", "  cosine([/])", 10 * " " + "^"]),
        (["__import__('os')"], ["Error: column 1: '__import__' is no curve: it is one of "]),
        (["cosine(5)", "--base", "nan"], ["Error: base=nan must be finite"]),
        (["cosine(5)", "--steps", "0"], ["Error: steps=0 must be at least 1"]),
        (["cosine(5)", "--steps", "9" * 30], [f"Error: steps={'9' * 30} must be at most 2"]),
        (["exponential(1e200)"], ["Error: the schedule has no finite value at step 2: draw fewer"]),
        (["constant(0.5) >> exponential(-0.5)"], ["Error: the schedule has no finite value at step 1"]),
        (["constant(factor=1e308) * 10"], ["Error: the schedule has no finite value at step 0"]),
    ],
)  # fmt: skip
def test_a_mistake_in_a_schedule_is_shown_where_it_is(drawn, monkeypatch, arguments, lines):
    monkeypatch.setenv("COLUMNS", "40")  # a line that is wrapped would leave its caret behind
    code, out, err = drawn(*arguments)
    assert (code, out) == (2, [])
    assert err[0].startswith(lines[0])
    assert err[1 : len(lines)] == lines[1:]


@pytest.mark.parametrize("out", ["lr.gif", "lr", "nowhere/lr.png", "folder.png"])
def test_a_picture_that_cannot_be_is_said_before_anything_is_written(surefoot, tmp_path, out):
    (tmp_path / "folder.png").mkdir()
    code, said = surefoot("schedule", WARM, "--out", out)
    assert code == 2
    assert f"--out is '{out}': name a .png or .svg file in a folder that exists." in said
    assert [path.name for path in tmp_path.iterdir()] == ["folder.png"]


def test_schedule_without_plotext_says_what_to_install(drawn, monkeypatch):
    monkeypatch.setitem(sys.modules, "plotext", None)
    code, out, err = drawn(WARM)
    assert (code, out) == (1, [])
    assert err == ["Error: drawing in a terminal needs plotext: pip install 'surefoot[demo]'"]
