import pytest


@pytest.mark.parametrize(
    ("arguments", "rows"),
    [
        (
            (),
            [
                "4 58144 99% 0.001 0.01 0.weight, 3.weight, 7.weight, ...",
                "7 330 1% 0.001 0 1.weight, 1.bias, 4.weight, ...",
            ],
        ),
        (("--decay-all", "--lr", "0.1"), ["11 58474 100% 0.1 0.01 0.weight, 1.weight, 1.bias, ..."]),
        (("--layer-decay", "0.5"), ["1 288 0% 0.000125 0.01 0.weight", "2 128 0% 0.0005 0 8.weight, 8.bias"]),
        (
            ("--frozen", "13.*"),
            ["3 55584 95% 0.001 0.01 0.weight, 3.weight, 7.weight", "1 10 0% 0.001 0 yes 13.bias"],
        ),
    ],
)
def test_groups_shows_a_row_for_each(surefoot, monkeypatch, arguments, rows):
    monkeypatch.setenv("COLUMNS", "120")
    code, said = surefoot("groups", "digits", *arguments)
    assert code == 0
    assert [row for row in rows if row not in said] == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("digit",), "task 'digit' is not known. Did you mean 'digits'?"),
        (("digits", "--frozen", "head.*"), "'head.*' means no parameter: their names begin with 0.weight"),
        (("digits", "--layer-decay", "1.5"), "rate=1.5 must be in (0, 1]"),
        (("digits", "--lr", "-1"), "lr=-1.0 must be at least 0"),
    ],
)
def test_mistakes_about_groups_are_named(surefoot, arguments, message):
    code, said = surefoot("groups", *arguments)
    assert code == 2
    assert message in " ".join(said.split())
