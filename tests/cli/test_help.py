import re

import pytest
from typer.testing import CliRunner

from surefoot import cli

COMMANDS = {
    "train": "surefoot train digits --optimizer radam",
    "find-lr": "surefoot find-lr digits --optimizer sgd --out range.png",
    "runs": "surefoot runs --sort loss",
    "report": "surefoot report runs/digits-1",
    "new": "surefoot new task.py",
    "schedule": 'surefoot schedule "warmup(500) >> cosine(10_000, to=0.1)"',
    "groups": 'surefoot groups digits --layer-decay 0.7 --frozen "0.*"',
    "inspect": "surefoot inspect runs/digits-1/checkpoint.safetensors",
    "convert": "surefoot convert run.pt run.safetensors",
    "bench": 'surefoot bench --only "1000 x 256"',
}


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example(command):
    assert COMMANDS[command] in CliRunner().invoke(cli.app, [command, "--help"]).output


def test_every_command_is_in_the_help_in_this_order_and_the_exit_codes():
    output = CliRunner().invoke(cli.app, ["--help"]).output
    assert re.findall(r"^│ ([a-z][a-z-]*) ", output, re.M) == list(COMMANDS)
    assert "130" in output
