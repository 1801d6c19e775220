import os

import torch

from surefoot.param_groups import no_decay, param_groups


def test_convert_goes_to_torch_and_back(surefoot, saved, tmp_path):
    run, _ = saved
    code, said = surefoot("convert", "run.safetensors", "run.pt")
    assert (code, said) == (0, "Written to run.pt")
    content = torch.load(tmp_path / "run.pt", weights_only=True)
    assert [*content] == ["model", "ema", "optimizer", "scheduler", "scaler", "extra"]
    theirs = torch.optim.AdamW(param_groups(type(run.model)(), no_decay(), lr=1.0, weight_decay=0.2))
    theirs.load_state_dict(content["optimizer"])

    (tmp_path / "again.safetensors").write_text("mine")
    code, said = surefoot("convert", "run.pt", "again.safetensors")
    assert (code, (tmp_path / "again.safetensors").read_text()) == (1, "mine")
    assert said == (
        "Error: there is something at again.safetensors: name another file, or pass --force to replace it"
    )
    code, said = surefoot("convert", "run.pt", "again.safetensors", "--force")
    assert code == 0
    assert said.startswith("Written to again.safetensors part class tensors size model ? 7 5.2 kB ema ? 8")
    old = run.model.state_dict()
    for param in run.model.parameters():
        param.data.zero_()
    assert run.resume(tmp_path / "again.safetensors") == {"note": "a", "best": 0.5}
    assert all(torch.equal(old[name], value) for name, value in run.model.state_dict().items())


def test_convert_says_what_it_cannot_do(surefoot, tmp_path):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, ("boom",)

    torch.save({"epoch": Bomb()}, tmp_path / "bomb.pt")
    (tmp_path / "text").write_text("hello")
    for arguments, code, message in (
        (("bomb.pt", "new"), 1, "Error: bomb.pt holds more than tensors and plain values: posix.mkdir, with"),
        (("text", "new"), 1, "Error: text is not a checkpoint: surefoot convert takes what torch.save or"),
        (("nothing", "new"), 1, "Error: there is no file at nothing"),
        (("text", "nowhere/new"), 2, "Error: TARGET is 'nowhere/new': name a file in a folder that exists"),
        (("text", "."), 2, "Error: TARGET is '.': name a file in a folder that exists"),
    ):
        assert surefoot("convert", *arguments)[0] == code
        assert message in surefoot("convert", *arguments)[1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bomb.pt", "text"]
