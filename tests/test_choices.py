import pytest
import torch

from surefoot.choices import OPTIMIZERS, RISING, SCHEDULES, arguments, known, scheduler


def rates(schedule, steps, warmup=0, lr=0.5):
    optimizer = torch.optim.SGD([torch.ones(1, requires_grad=True)], lr=lr, momentum=0.9)
    driver, seen = scheduler(optimizer, schedule, lr, steps, warmup), []
    for _ in range(steps):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if schedule != "plateau":
            driver.step()
    return seen


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_stays_between_nothing_and_the_rate(name):
    seen = rates(name, 24)
    assert min(seen) >= 0
    assert max(seen) == pytest.approx(0.5, rel=0.01)


@pytest.mark.parametrize("name", RISING)
def test_a_warmup_rises_to_where_the_schedule_begins(name):
    warm = rates(name, 12, warmup=4)
    assert warm[:4] == sorted(set(warm[:4]))
    assert warm[4:] == pytest.approx(rates(name, 8))


def test_a_warmup_may_be_longer_than_the_training():
    seen = rates("cosine", 4, warmup=9)
    assert seen == sorted(set(seen))


def test_an_expression_is_a_schedule():
    assert rates("warmup(2) >> linear(2)", 4) == pytest.approx([1 / 6, 1 / 3, 0.5, 0.25])


def test_the_classics_are_torchs():
    ours = rates("cosine", 12)
    optimizer = torch.optim.SGD([torch.ones(1, requires_grad=True)], lr=0.5)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=12)
    for rate in ours:
        assert optimizer.param_groups[0]["lr"] == pytest.approx(rate, rel=1e-12)
        optimizer.step()
        theirs.step()


def test_what_optimizers_take():
    assert all("weight_decay" in arguments(name) for name in OPTIMIZERS)
    assert "momentum" in arguments("sgd")


def test_nothing_is_near_what_is_far():
    with pytest.raises(ValueError, match=r"^thing 'zzz' is not known\. Choose from: a, b\.$"):
        known("thing", "zzz", ["b", "a"])
