import pytest
import tiny


def test_the_report_is_written_again_from_what_is_in_the_folder(surefoot, tmp_path):
    surefoot("train", tiny.PATH)
    page = tmp_path / "runs" / "tiny-1" / "report.html"
    before = page.read_text()
    page.unlink()
    code, said = surefoot("report", "tiny-1", "runs/tiny-1")
    assert (code, said) == (0, "Written to runs/tiny-1/report.html")
    assert page.read_text() == before


def test_a_folder_that_is_no_run_is_one_sentence(surefoot, tmp_path):
    code, said = surefoot("report", "nothing")
    assert (code, said) == (1, "Error: there is no checkpoint at runs/nothing/checkpoint.safetensors")


def test_several_runs_are_compared_on_a_page(surefoot, tmp_path):
    for lr in ("0.01", "0.1"):
        surefoot("train", tiny.PATH, "--lr", lr)
    code, said = surefoot("report", "tiny-1", "tiny-2")
    assert (code, said.count("Written to")) == (0, 3)
    page = (tmp_path / "comparison.html").read_text()
    assert "2 runs" in page
    assert "Side by side" in page
    assert all(name in page for name in ("<b>tiny-1</b>", "<b>tiny-2</b>"))
    surefoot("train", tiny.PATH, "--out", "other")
    assert surefoot("report", "tiny-1", "other/tiny-1", "--out", "both.html")[0] == 0
    page = (tmp_path / "both.html").read_text()
    assert all(name in page for name in ("<b>runs/tiny-1</b>", "<b>other/tiny-1</b>"))


@pytest.mark.parametrize("out", ["runs", "nowhere/page.html"])
def test_a_page_that_cannot_be_written_is_said_before_the_others_are(surefoot, tmp_path, out):
    (tmp_path / "runs").mkdir()
    code, said = surefoot("report", "a", "b", "--out", out)
    assert (code, said) == (2, f"Error: --out is {out!r}: name a file in a folder that exists")
