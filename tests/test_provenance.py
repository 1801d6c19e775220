import subprocess

from surefoot import provenance


def test_the_commit_and_whether_something_differs(tmp_path):
    assert provenance.git(tmp_path) == {}
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run([*git, "init", "-q"], check=True)
    assert provenance.git(tmp_path) == {}  # no commit yet
    (tmp_path / "code.py").write_text("1")
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-qm", "a"], check=True)
    found = provenance.git(tmp_path)
    assert (len(found["commit"]), found["dirty"]) == (40, False)
    (tmp_path / "notes").write_text("untracked files are no change")
    assert provenance.git(tmp_path) == found
    (tmp_path / "code.py").write_text("2")
    assert provenance.git(tmp_path)["dirty"]


def test_without_git_there_is_nothing_to_tell(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert provenance.git(tmp_path) == {}


def test_versions_are_text():
    assert all(isinstance(version, str) and version for version in provenance.versions().values())
