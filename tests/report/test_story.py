import dataclasses

import pytest

from surefoot.report import Finding, Story


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"step": [1, 2], "loss": [1.0]}, r"loss has 1 values, step has 2: they must be equally many"),
        ({"step": [1], "epoch": [1, 1]}, r"epoch has 2 values, step has 1"),
        ({"step": [1], "lr": {"head": []}}, r"lr\['head'\] has 0 values, step has 1"),
        ({"step": [1, 1]}, r"step goes from 1 to 1: it must rise"),
        ({"metrics": {"val_loss": [(2, 1.0), (1, 1.0)]}}, r"metrics\['val_loss'\] goes from 2 to 1"),
        ({"ratios": {"fc": [(5, 1.0), (5, 1.0)]}}, r"ratios\['fc'\] goes from 5 to 5"),
    ],
)
def test_what_does_not_belong_together_is_refused(parts, message):
    with pytest.raises(ValueError, match=message):
        Story("run", **parts)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"lr": [0.1], "loss": []}, r"loss has 0 values, lr has 1"),
        ({"lr": [0.1], "loss": [1.0], "fitted": [1.0, 2.0]}, r"fitted has 2 values, lr has 1"),
        ({"lr": [0.2, 0.1], "loss": [1.0, 1.0]}, r"lr goes from 0\.2 to 0\.1"),
        ({"lr": [0.0, 0.1], "loss": [1.0, 1.0]}, r"lr begins with 0\.0: every rate must be greater than 0"),
        ({"lr": [], "loss": [], "interval": (2.0, 1.0)}, r"interval=\(2\.0, 1\.0\) must be two rates"),
    ],
)
def test_a_finding_that_cannot_be_is_refused(parts, message):
    with pytest.raises(ValueError, match=message):
        Finding(**parts)


def test_a_story_may_be_of_a_title_alone_and_stays_as_it_is():
    story = Story("run")
    assert story.last_step == 0
    with pytest.raises(dataclasses.FrozenInstanceError):
        story.title = "other"
