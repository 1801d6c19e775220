import pytest


def test_the_start_trains_as_it_is_to_a_good_result(surefoot, tmp_path):
    code, said = surefoot("new", "moons.py")
    assert (code, said.endswith("surefoot train moons.py")) == (0, True)
    code, said = surefoot("train", "moons.py", "--lr", "0.01", "--epochs", "5")
    assert code == 0, said
    accuracy = float(said.split("Validation accuracy ")[1].split("%")[0])
    assert accuracy > 95


@pytest.mark.parametrize(
    ("path", "code", "message"),
    [
        ("mine.py", 1, "there is something at mine.py: name another file"),
        ("mine", 2, "PATH is 'mine': name a .py file in a folder that exists"),
        ("nowhere/task.py", 2, "PATH is 'nowhere/task.py'"),
    ],
)
def test_nothing_is_overwritten(surefoot, tmp_path, path, code, message):
    (tmp_path / "mine.py").write_text("mine")
    ended, said = surefoot("new", path)
    assert (ended, message in said) == (code, True)
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [("mine.py", "mine")]
