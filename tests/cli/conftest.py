import os
import re
import sys

import pytest
import torch
from torch import nn

import surefoot as optim
from surefoot import cli
from surefoot.param_groups import no_decay, param_groups


@pytest.fixture
def surefoot(tmp_path, monkeypatch, capsys):
    """Run the command in an empty folder; returns its exit code and all it printed, without frames and breaks."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        os, "fsync", lambda file: None
    )  # many runs; what a loss of power leaves is tested elsewhere
    path = list(sys.path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["surefoot", *arguments])
        cli.console.file = None  # the stdout of now
        with pytest.raises(SystemExit) as stop:
            cli.main()
        captured = capsys.readouterr()
        said = re.sub(r"[│╭╮╰╯─]+", " ", captured.out + captured.err)
        return stop.value.code or 0, " ".join(said.split())

    yield run
    sys.path[:] = path  # of the folders of tasks


class Net(nn.Module):
    """With long names, and one that would style the terminal and move its cursor."""

    def __init__(self):
        super().__init__()
        self.encoder_of_what_was_read = nn.Sequential(nn.Linear(30, 20), nn.LayerNorm(20), nn.Linear(20, 30))
        self.register_parameter("[red]\r\x1b[2J", nn.Parameter(torch.ones(3)))


@pytest.fixture
def saved(tmp_path):
    """A file of a run that has every part, after two steps."""
    model = Net()
    optimizer = optim.AdamW(param_groups(model, no_decay(), lr=1e-3, weight_decay=0.1))
    loader = torch.utils.data.DataLoader(torch.ones(12, 30), batch_size=2, generator=torch.Generator())
    run = optim.Run(
        model,
        optimizer,
        loader,
        lambda model, batch: model.encoder_of_what_was_read(batch).pow(2).mean(),
        scheduler=optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=9),
        scaler=torch.amp.GradScaler("cpu"),
        ema=optim.swa_utils.AveragedModel(model),
    )
    training = optim.train(run, epochs=1)
    next(training), next(training)
    run.save(tmp_path / "run.safetensors", note="a", best=0.5)
    return run, tmp_path / "run.safetensors"
