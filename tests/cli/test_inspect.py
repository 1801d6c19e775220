import re
import sys

import pytest
import torch
from torch import nn

import surefoot as optim
from surefoot import archive, checkpoint, cli, terminal


def test_inspect_shows_what_a_run_has_saved(surefoot, saved):
    run, path = saved
    code, said = surefoot("inspect", "run.safetensors")
    assert code == 0
    weight = "encoder_of_what_was_read.0.weight"
    state = run.optimizer.state[run.model.get_parameter(weight)]
    lr = run.optimizer.param_groups[0]["lr"]
    norms = [
        float(f"{tensor.double().norm():.3g}")
        for tensor in (run.model.get_parameter(weight), state["exp_avg"], state["exp_avg_sq"])
    ]
    size = f"{path.stat().st_size / 1000:.1f} kB, saved by surefoot 0.1.0 with torch {torch.__version__}"
    for row in (
        f"run.safetensors: {size}",
        "model Net 7 5.2 kB ema AveragedModel 8 5.2 kB",
        "optimizer AdamW 18 10.3 kB step 2 scheduler OneCycleLR last_epoch 2 scaler GradScaler scale 65536.0",
        "run epoch 0, batch 2, step 2 random 4",
        "python, torch, loaders (1), numpy extra note, best",
        f"lr=0.001 weight_decay=0.1 2 1,200 {lr:.3g} 0.1 2 encoder_of_what_was_read.0.weight",
        f"{weight} 7.2 kB {' '.join(map(terminal.number, norms))} 20 x 30, float32",
        "and 5 smaller: --all shows them",
    ):
        assert row in said
    assert "ema/module.encoder_of_what_was_read.1.bias" not in said
    code, said = surefoot("inspect", "run.safetensors", "--all")
    assert "ema/module.encoder_of_what_was_read.1.bias" in said
    assert "smaller" not in said


@pytest.mark.parametrize("columns", [60, 80])
def test_inspect_is_as_wide_as_the_terminal_and_shows_names_whole(capsys, saved, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(sys, "argv", ["surefoot", "inspect", "--all", str(saved[1])])
    cli.console.file = None
    with pytest.raises(SystemExit):
        cli.main()
    first, *lines = capsys.readouterr().out.splitlines()
    assert first.startswith(str(saved[1]))
    assert max(map(len, lines)) <= columns
    names = "".join(re.split(" {2,}", line)[0] for line in lines)
    for name in ("encoder_of_what_was_read.2.weight", "ema/module.encoder_of_what_was_read.2.weight"):
        assert f"{name}30 x 20, float32" in names
    assert r"'[red]\r\x1b[2J'3, float32" in names


def test_inspect_of_a_state_that_is_not_finite_or_has_no_numbers(surefoot, tmp_path):
    model = nn.Linear(2, 1)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    checkpoint.save(tmp_path / "new.safetensors", optimizer=optimizer, extra=[1])
    code, said = surefoot("inspect", "new.safetensors")
    assert (code, "tensor size" in said) == (0, False)
    assert "optimizer SGD parameters without names extra list" in said
    assert said.endswith("0 2 ? 0.1 0 0, 1")  # how many parameters is not known

    model.weight.data.fill_(float("nan"))
    checkpoint.save(tmp_path / "nan.safetensors", model=model)
    code, said = surefoot("inspect", "nan.safetensors")
    assert (code, "weight 8 bytes nan 1 x 2, float32" in said) == (0, True)


def test_inspect_says_what_is_wrong_with_a_file(surefoot, saved, tmp_path):
    whole = saved[1].read_bytes()
    (tmp_path / "short").write_bytes(whole[:-1])
    (tmp_path / "flipped").write_bytes(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
    (tmp_path / "text").write_text("hello")
    archive.save(tmp_path / "tree", {"weight": torch.ones(2)})
    odd = {"class": "SGD", "state": {}, "named": True}
    archive.save(
        tmp_path / "odd", {"versions": {"surefoot": "1", "torch": "2"}, "extra": None, "optimizer": odd}
    )
    torch.save({"epoch": 3}, tmp_path / "a run.pt")
    torch.save({"epoch": 3}, tmp_path / "legacy.pt", _use_new_zipfile_serialization=False)
    for name, message in (
        ("short", "is damaged, or not a checkpoint: "),
        ("flipped", "is not what was saved. Go back to another one."),
        ("text", "is damaged, or not a checkpoint: "),
        ("tree", "is no checkpoint of a training: pass a file that checkpoint.save wrote"),
        ("odd", "is no checkpoint of a training: KeyError('param_groups')"),
        ("nothing", "there is no file at nothing"),
        ("a run.pt", "is a torch file: run surefoot convert 'a run.pt' 'a run.safetensors' and inspect that"),
        ("legacy.pt", "is a torch file: run surefoot convert legacy.pt legacy.safetensors and inspect that"),
    ):
        code, said = surefoot("inspect", name)
        assert code == 1
        assert message in said
        assert name in said
        assert said.count("Error:") == 1
        assert "Traceback" not in said
