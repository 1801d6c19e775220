import tiny


def test_the_report_is_written_again_from_what_is_in_the_folder(surefoot, tmp_path):
    surefoot("train", tiny.PATH)
    page = tmp_path / "runs" / "tiny-1" / "report.html"
    before = page.read_text()
    page.unlink()
    code, said = surefoot("report", "tiny-1", "runs/tiny-1")
    assert (code, said) == (0, " ".join(["Written to runs/tiny-1/report.html"] * 2))
    assert page.read_text() == before


def test_a_folder_that_is_no_run_is_one_sentence(surefoot, tmp_path):
    code, said = surefoot("report", "nothing")
    assert (code, said) == (1, "Error: there is no checkpoint at runs/nothing/checkpoint.safetensors")
