from surefoot.cli import shared


def test_a_shell_is_told_tasks_and_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").touch()
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "other.py").touch()
    (tmp_path / ".git").mkdir()
    assert shared.complete_tasks("") == ["digits", "pycode", "mine.py", "tasks/"]
    assert shared.complete_tasks("di") == ["digits"]
    assert shared.complete_tasks("tasks/") == ["tasks/other.py"]


def test_a_shell_is_told_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("runs/digits-1", "runs/other", "tiny-2"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("runs/digits-1", "tiny-2"):
        (tmp_path / name / "settings.toml").touch()
    assert shared.complete_runs("") == ["runs/digits-1", "tiny-2"]
    assert shared.complete_runs("ru") == ["runs/digits-1"]
