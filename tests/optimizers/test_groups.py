"""Groups changed while the optimizer is in use: what is frozen, and what goes on."""

from __future__ import annotations

import copy
import json
import re
import weakref

import pytest
import torch
from cases import every_class
from walk import assert_same, gradients, parameters

import surefoot
from surefoot.curves import linear
from surefoot.param_groups import frozen, param_groups

SHAPES = ((5, 3), (7,), (), (4, 2))
executors = pytest.mark.parametrize("executor", ["cpu", "eager"])


def named(case, executor, **extras):
    params = parameters(shapes=SHAPES)
    return case.ours(
        [(f"layer{i}.weight", param) for i, param in enumerate(params)], executor=executor, **extras
    ), params


def step(optimizer, params, grads):
    """A step with these gradients, whatever order the groups are in."""
    for param, grad in zip(params, grads, strict=True):
        param.grad = grad
    optimizer.step()


def everything(optimizer, params):
    return [[param.detach(), *optimizer.state[param].values()] for param in params]


@executors
@every_class
@pytest.mark.parametrize("grad", ["real", "zero", "none", "nan"])
def test_9_what_is_frozen_is_constant_to_the_bit(case, executor, grad):
    """Row 9: whatever momentum, decay and counts there are, and whatever gradient it gets."""
    optimizer, params = named(case, executor)
    for grads in gradients(3, shapes=SHAPES):
        step(optimizer, params, grads)
    optimizer.freeze("layer[12].*")
    before = copy.deepcopy(everything(optimizer, params))
    for grads in gradients(3, shapes=SHAPES, seed=5):
        for i in (1, 2):
            grads[i] = {"real": grads[i], "zero": 0 * grads[i], "none": None, "nan": torch.nan * grads[i]}[
                grad
            ]
        step(optimizer, params, grads)
    after = everything(optimizer, params)
    for i in (1, 2):
        for old, new in zip(before[i], after[i], strict=True):
            assert_same(new, old)
    assert all(not torch.equal(before[i][0], after[i][0]) for i in (0, 3))
    assert "frozen: 2 tensors" in repr(optimizer)


@executors
@every_class
def test_the_others_go_on_as_if_they_were_alone_and_the_thawed_from_where_they_were(case, executor):
    optimizer, params = named(case, executor)
    others = parameters(shapes=SHAPES)
    alone = case.ours(others, executor=executor)
    for n, grads in enumerate(gradients(9, shapes=SHAPES)):
        if n == 3:
            optimizer.freeze([params[1], params[2]])
        if n == 6:
            optimizer.unfreeze(lambda name, param: param.ndim <= 1)
        step(optimizer, params, grads)
        if 3 <= n < 6:
            grads[1] = grads[2] = None  # to torch, too, a parameter without a gradient is not there
        step(alone, others, grads)
    for mine, other in zip(params, others, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-6, atol=1e-7)
        torch.testing.assert_close(optimizer.state[mine], alone.state[other], rtol=1e-6, atol=1e-7)


def test_who_is_frozen_is_an_answer_for_each_parameter_of_its_group():
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 1))
    optimizer = surefoot.AdamW(model.named_parameters())
    (group,) = optimizer.param_groups
    for _ in range(2):  # what is frozen already stays so
        optimizer.freeze("*.weight")
        assert group["frozen"] == (True, False, True, False)
    optimizer.freeze(model[0])
    optimizer.unfreeze([model[1].weight, re.compile(r"0\.b.*")])
    assert group["frozen"] == (True, False, False, False)
    optimizer.freeze(model.named_parameters())
    assert group["frozen"] is True
    optimizer.unfreeze()
    assert group["frozen"] is False
    assert optimizer.param_groups == [group]


def test_a_group_is_split_where_a_part_is_set():
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 1))
    optimizer = surefoot.AdamW(model.named_parameters(), lr=torch.tensor(0.1), weight_decay=0.3)
    optimizer.freeze("0.weight")
    for _ in range(2):
        optimizer.set("*.weight", lr=0.2)
    biases, weights = optimizer.param_groups
    assert (biases["param_names"], weights["param_names"]) == (["0.bias", "1.bias"], ["0.weight", "1.weight"])
    assert [id(param) for param in weights["params"]] == [id(model[0].weight), id(model[1].weight)]
    assert (biases["frozen"], weights["frozen"]) == (False, (True, False))
    assert (biases["lr"], weights["lr"]) == (torch.tensor(0.1), torch.tensor(0.2))  # each has its own tensor
    assert weights["weight_decay"] == 0.3
    optimizer.set(["1.*"], lr=0.5)  # what was set last counts
    assert {name: group["lr"].item() for name, _, group in optimizer.labelled()} == pytest.approx(
        {"0.bias": 0.1, "0.weight": 0.2, "1.bias": 0.5, "1.weight": 0.5}
    )


def test_a_parameter_without_a_name_is_meant_by_itself():
    model = torch.nn.Linear(2, 1)
    optimizer = surefoot.SGD(model.named_parameters())
    other = torch.zeros(2, requires_grad=True)
    optimizer.param_groups[0]["params"].append(other)  # by hand, as some do
    optimizer.freeze([model.weight, other])
    assert optimizer.param_groups[0]["frozen"] == (True, False, True)
    optimizer.set("bias", lr=0.5)
    assert [group["param_names"] for group in optimizer.param_groups] == [["weight"], ["bias"]]
    optimizer.remove("weight")
    assert [len(group["params"]) for group in optimizer.param_groups] == [1, 1]


NAMED = [{"name": "body"}, {"name": "head"}]


def scheduled(curves, patterns=None, named=True):
    params = parameters(shapes=SHAPES)
    pairs = [(f"layer{i}", param) for i, param in enumerate(params)] if named else params
    groups = [{"params": pairs[:2], **NAMED[0]}, {"params": pairs[2:], **NAMED[1]}]
    optimizer = surefoot.SGD(groups, lr=1.0, weight_decay=0.5)
    return surefoot.Scheduler(optimizer, lr=curves, weight_decay=linear(10), groups=patterns), params


def rates(scheduler):
    return {name: (group["lr"], group["weight_decay"]) for name, _, group in scheduler.optimizer.labelled()}


CURVES = [
    (linear(10), None, (10, 10)),
    ([linear(10), linear(20)], None, (10, 20)),
    (linear(10), {"1": linear(20)}, (10, 20)),
    (linear(10), {"head": linear(20)}, (10, 20)),
    (linear(10), {"layer[23]": linear(20)}, (10, 20)),
]


@pytest.mark.parametrize("changed", range(4))
@pytest.mark.parametrize(("curves", "patterns", "lengths"), CURVES)
def test_26_a_schedule_goes_on_through_every_change(curves, patterns, lengths, changed):
    """Also where groups are known by their place: parts follow the curve of what they are part of."""
    scheduler, params = scheduled(curves, patterns)
    optimizer, names = scheduler.optimizer, [f"layer{i}" for i in range(4)]
    expected = dict(zip(names, [lengths[0]] * 2 + [lengths[1]] * 2, strict=True))
    for n, grads in enumerate(gradients(6, shapes=SHAPES), 1):
        if n == changed:
            optimizer.freeze(params[3])
        if n == changed + 1:
            optimizer.set("layer3", momentum=0.5)
        if n == changed + 2:
            optimizer.remove("layer2")
            optimizer.unfreeze()
            del expected["layer2"]
        if n == changed + 3:
            optimizer.replace("layer0", torch.zeros_like(params[0]).requires_grad_())
        step(optimizer, params, grads)
        scheduler.step()
        rates = {name: (group["lr"], group["weight_decay"]) for name, _, group in optimizer.labelled()}
        assert rates == {
            name: (pytest.approx(1 - n / length), pytest.approx(0.5 - n / 20))
            for name, length in expected.items()
        }


def unscheduled(lr=1.0, **settings):
    params = parameters(shapes=SHAPES)
    return surefoot.AdamW([(f"layer{i}", param) for i, param in enumerate(params)], lr=lr, **settings)


SCHEDULES = {
    "cosine with a floor": lambda o: surefoot.lr_scheduler.CosineAnnealingLR(o, 10, eta_min=0.1),
    "plateau with a floor": lambda o: surefoot.Scheduler(
        o,
        lr=linear(10),
        per="epoch",
        plateau=surefoot.lr_scheduler.Plateau(factor=0.5, patience=0, min_lr=0.1),
    ),
    "momentum": lambda o: surefoot.Scheduler(o, momentum=linear(10, to=0.5), lr=linear(10)),
    "a sequence": lambda o: surefoot.lr_scheduler.SequentialLR(
        o,
        [
            surefoot.lr_scheduler.LinearLR(o, 0.1, total_iters=3),
            surefoot.lr_scheduler.CosineAnnealingLR(o, 10),
        ],
        [3],
    ),
}


@pytest.mark.parametrize("copied", [False, True])
@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("at", [1, 5, 7])
def test_set_gives_what_the_schedule_has_there(name, at, copied):
    """At once, without a warning, and it stays so."""

    def values(optimizer):
        return [(group["lr"], group["betas"]) for group in optimizer.param_groups]

    optimizer = unscheduled()
    scheduler = SCHEDULES[name](optimizer)
    for _ in range(at):
        optimizer.step()
        scheduler.step()
    if scheduler.plateau is not None:
        scheduler.observe(1.0)
        scheduler.observe(2.0)
    if copied:
        optimizer, scheduler = copy.deepcopy((optimizer, scheduler))
    optimizer.set("layer[01]", lr=2.0, betas=(0.8, 0.9))
    now = values(optimizer)
    assert scheduler.state_dict().get("_sets_lr", True)
    scheduler._write()
    assert values(optimizer) == now
    fresh = unscheduled(lr=2.0, betas=(0.8, 0.9))
    other = SCHEDULES[name](fresh)
    other.load_state_dict(
        {**scheduler.state_dict(), "base_lrs": [2.0], "bases": [{"momentum": 0.8, "lr": 2.0}]}
    )
    assert now[1] == values(fresh)[0]
    optimizer.step()
    scheduler.step()


@pytest.mark.parametrize(
    "build",
    [
        lambda o: surefoot.lr_scheduler.OneCycleLR(o, 0.5, total_steps=10),
        lambda o: surefoot.lr_scheduler.CyclicLR(o, 0.1, 0.5, cycle_momentum=False),
    ],
)
def test_values_of_a_schedules_own_cannot_be_set_elsewhere(build):
    optimizer = unscheduled()
    scheduler = build(optimizer)
    before = copy.deepcopy(optimizer.state_dict())
    with pytest.raises(
        ValueError, match=r"lr follows .*, whose values are its own: set them there, or delete it first"
    ):
        optimizer.set("layer1", lr=0.3)
    assert optimizer.state_dict() == before
    optimizer.set("layer1", weight_decay=0.3)
    del scheduler
    optimizer.set("layer1", lr=0.3)
    assert sorted(group["lr"] for group in optimizer.param_groups)[-1] == 0.3


def test_flags_and_tensors_can_be_set_and_entries_of_ones_own_are_left_alone():
    optimizer = unscheduled()
    optimizer.param_groups[0]["mask"] = torch.ones(5)
    scheduler = surefoot.Scheduler(optimizer, lr=linear(10), betas=(None, linear(10, to=0.5)))
    optimizer.set(
        "layer1", foreach=False, maximize=True, betas=torch.tensor([0.5, 0.75]), lr=torch.tensor([2.0])
    )
    assert [group["foreach"] for group in optimizer.param_groups] == [None, False]
    scheduler.set(5)
    optimizer.add([("new", torch.ones(1, requires_grad=True))], lr=4.0)
    assert [float(group["lr"]) for group in optimizer.param_groups] == [0.5, 1.0, 2.0]
    optimizer.step()


def test_after_a_schedule_is_gone_what_is_set_is_what_is_there():
    optimizer = unscheduled()
    scheduler = surefoot.lr_scheduler.CosineAnnealingLR(optimizer, 10)
    scheduler.set(10)
    with pytest.warns(
        UserWarning, match="lr stays 0: its schedule is at a value that does not depend on the base"
    ):
        optimizer.set("*", lr=1e-3)
    del scheduler
    optimizer.set("*", lr=1e-3)
    assert optimizer.param_groups[0]["lr"] == 1e-3
    again = unscheduled()
    again.load_state_dict(optimizer.state_dict())
    again.set("*", lr=0.25)
    assert again.param_groups[0]["lr"] == 0.25


def test_a_part_keeps_its_curve_also_where_a_pattern_means_it_now():
    a, b, c = parameters(shapes=SHAPES[:3])
    optimizer = surefoot.SGD(
        [{"params": [("0.weight", a), ("0.bias", b)]}, {"params": [("1.bias", c)]}], lr=1.0
    )
    scheduler = surefoot.Scheduler(optimizer, lr=linear(10), groups={"*.bias": linear(20)})
    scheduler.set(5)
    optimizer.set("0.bias", momentum=0.5)
    optimizer.remove("0.weight")
    scheduler.set(5)
    assert {n: g["lr"] for n, _, g in optimizer.labelled()} == {"1.bias": 0.75, "0.bias": 0.5}


def test_a_schedule_holds_no_parameter_that_is_gone():
    a, b = parameters(shapes=SHAPES[:2])
    optimizer = surefoot.SGD([{"params": [("a", a)]}, {"params": [("b", b)]}], lr=1.0)
    scheduler = surefoot.Scheduler(optimizer, lr=[linear(10), linear(20)])
    old = weakref.ref(b)
    optimizer.replace("b", torch.ones(7, requires_grad=True))
    del b
    assert old() is None
    optimizer.load_state_dict(optimizer.state_dict())
    scheduler.set(5)
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.75]


def test_a_tensor_is_each_groups_own():
    optimizer = surefoot.SGD(
        [(f"layer{i}", p) for i, p in enumerate(parameters(shapes=SHAPES))], lr=torch.tensor(1.0)
    )
    scheduler = surefoot.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=0)
    optimizer.set("layer1", momentum=0.5)
    mine = torch.tensor(1.0)
    optimizer.set("*", lr=mine)
    for metric in (1.0, 1.0):
        scheduler.step(metric)
    assert [group["lr"].item() for group in optimizer.param_groups] == [0.5, 0.5]
    assert mine == 1.0


def test_answers_may_be_a_list_and_must_be_as_many_as_parameters():
    optimizer = unscheduled()
    optimizer.freeze("layer1")
    groups = json.loads(json.dumps(optimizer.state_dict()["param_groups"]))
    again = unscheduled()
    again.load_state_dict({"state": {}, "param_groups": groups})
    assert again.param_groups[0]["frozen"] == (False, True, False, False)
    again.step()
    again.load_state_dict(unscheduled().state_dict())  # which does not speak of it
    assert again.param_groups[0]["frozen"] == (False, True, False, False)
    again.param_groups[0]["params"].pop(0)
    with pytest.raises(
        ValueError, match="frozen has 4 answers for the 3 parameters of a group: take parameters out with"
    ):
        again.step()
    with pytest.raises(TypeError, match="frozen='yes' of a group: pass True, False"):
        optimizer.add([("new", torch.ones(1, requires_grad=True))], frozen="yes")


def test_26_a_group_that_is_added_follows_by_its_name_or_the_curve_of_all():
    scheduler, params = scheduled(linear(10))
    optimizer = scheduler.optimizer
    for n, grads in enumerate(gradients(4, shapes=SHAPES), 1):
        if n == 2:
            optimizer.add([("new", torch.zeros(2, requires_grad=True))], lr=3.0)
        step(optimizer, params, grads)
        scheduler.step()
    assert scheduler.get_last_lr() == pytest.approx([0.6, 0.6, 1.8])
    assert scheduler.optimizer.param_groups[2]["initial_lr"] == 3.0
    listed, _ = scheduled([linear(10), linear(20)], {"layer[23]*": linear(5)})
    listed.set(2)
    listed.optimizer.add([("layer2b", torch.zeros(2, requires_grad=True))], lr=3.0)
    assert listed.optimizer.param_groups[2]["lr"] == pytest.approx(3.0 * 0.6)  # at once, not a step later
    listed.state_dict()
    with pytest.raises(
        RuntimeError, match="lr has curves for 2 groups and none for other: build the scheduler"
    ):
        listed.optimizer.add([("other", torch.zeros(2, requires_grad=True))], lr=3.0)
    assert len(listed.optimizer.param_groups) == 3


@pytest.mark.parametrize("order", ["optimizer first", "scheduler last", "scheduler first", "copied"])
@pytest.mark.parametrize(("curves", "patterns", "lengths"), CURVES)
def test_a_split_is_in_a_checkpoint(curves, patterns, lengths, order):
    def go(scheduler, params, steps, seed):
        for grads in gradients(steps, shapes=SHAPES, seed=seed):
            step(scheduler.optimizer, params, grads)
            scheduler.step()

    scheduler, params = scheduled(curves, patterns)
    go(scheduler, params, 3, seed=1)
    scheduler.optimizer.set("layer[12]", lr=2.0, momentum=0.9)
    scheduler.optimizer.freeze("layer2")
    go(scheduler, params, 2, seed=2)
    states = copy.deepcopy((scheduler.optimizer.state_dict(), scheduler.state_dict()))
    if order == "copied":
        again, others = copy.deepcopy((scheduler, params))
    else:
        again, others = scheduled(curves, patterns)
        with torch.no_grad():
            for mine, other in zip(others, params, strict=True):
                mine.copy_(other)
        if order == "scheduler first":
            with pytest.raises(ValueError, match=r"had 4 groups, this optimizer has 2: .* or load it first"):
                again.load_state_dict(states[1])
        again.optimizer.load_state_dict(states[0])
        if order != "optimizer first":
            again.load_state_dict(states[1])
        else:
            again.set(5)
    for one in ((scheduler, params), (again, others)):
        one[0].optimizer.set("layer1", weight_decay=0.25)
        go(*one, 3, seed=3)
    assert_same(others, params)
    assert rates(again) == rates(scheduler)
    assert {n: len(g["params"]) for n, _, g in again.optimizer.labelled()} == {
        f"layer{i}": 1 for i in range(4)
    }


def test_groups_that_share_a_rate_go_their_own_ways_once_they_must():
    shared = torch.tensor(1.0)
    groups = [{"params": [param], "name": str(i)} for i, param in enumerate(parameters(shapes=SHAPES[:3]))]
    optimizer = surefoot.SGD(groups, lr=shared)
    scheduler = surefoot.Scheduler(optimizer, lr=linear(10), groups={"2": linear(20)})
    scheduler.set(5)
    assert [group["lr"].item() for group in optimizer.param_groups] == [0.5, 0.5, 0.75]
    assert optimizer.param_groups[0]["lr"] is optimizer.param_groups[1]["lr"] is shared


def test_set_is_no_edit_to_a_schedule_and_goes_on_where_it_is():
    params = parameters(shapes=SHAPES)
    optimizer = surefoot.SGD(params, lr=1.0)
    scheduler = surefoot.Scheduler(optimizer, lr=linear(10))
    for grads in gradients(5, shapes=SHAPES):
        step(optimizer, params, grads)
        scheduler.step()
    optimizer.set((param for param in params), lr=2.0)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(1.0)
    step(optimizer, params, gradients(1, shapes=SHAPES)[0])
    scheduler.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.8)


def test_a_replacement_that_is_refused_changes_nothing():
    params = parameters(shapes=SHAPES)
    optimizer = surefoot.AdamW(params)
    step(optimizer, params, gradients(1, shapes=SHAPES)[0])
    before = copy.deepcopy(dict(optimizer.state[params[0]]))
    with pytest.raises(ValueError, match="exp_avg has 2 dimensions, the new parameter 1: pass state='reset'"):
        optimizer.replace(params[0], torch.zeros(2, requires_grad=True), state="resize")
    assert_same(list(optimizer.state[params[0]].values()), list(before.values()))
    assert optimizer.param_groups[0]["params"][0] is params[0]


def test_a_frozen_gradient_has_no_part_in_the_norm():
    params = parameters(shapes=((2,), (2,)))
    optimizer = surefoot.SGD(params, clip_norm=1.0)
    optimizer.freeze(params[0])
    step(optimizer, params, [torch.full((2,), 100.0), torch.tensor([3.0, 4.0])])
    assert optimizer.last_step.grad_norm == pytest.approx(5.0)


def test_frozen_from_the_start():
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 1))
    optimizer = surefoot.AdamW(param_groups(model, frozen("0.*"), lr=1e-3))
    before = copy.deepcopy(model[0].state_dict())
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    torch.testing.assert_close(model[0].state_dict(), before, rtol=0, atol=0)
    assert set(optimizer.state) == {model[1].weight, model[1].bias}
    optimizer.unfreeze("0.*")
    optimizer.step()
    assert not torch.equal(model[0].weight, before["weight"])


@executors
def test_17_parameters_come_and_go_and_the_others_keep_their_state(executor):
    params = parameters(shapes=SHAPES)
    optimizer = surefoot.AdamW([("a.weight", params[0]), ("a.bias", params[1])], lr=0.1, executor=executor)
    step(optimizer, params[:2], gradients(1, shapes=SHAPES[:2])[0])
    optimizer.add([("b.weight", params[2]), ("b.bias", params[3])], lr=0.01)
    step(optimizer, params, gradients(1, shapes=SHAPES)[0])
    assert [optimizer.state[param]["step"].item() for param in params] == [2, 2, 1, 1]
    optimizer.remove("*.bias")
    before = [param.detach().clone() for param in params]
    step(optimizer, params, gradients(1, shapes=SHAPES)[0])
    assert [torch.equal(param, old) for param, old in zip(params, before, strict=True)] == [
        False,
        True,
        False,
        True,
    ]
    assert set(optimizer.state) == {params[0], params[2]}
    assert [group["param_names"] for group in optimizer.param_groups] == [["a.weight"], ["b.weight"]]
    optimizer.reset_state("a.*")
    step(optimizer, params, gradients(1, shapes=SHAPES)[0])
    assert [optimizer.state[param]["step"].item() for param in (params[0], params[2])] == [1, 3]
    with pytest.raises(ValueError, match="all parameters are meant: an optimizer needs one"):
        optimizer.remove("*")
    with pytest.raises(ValueError, match="is in group 0 already"):
        optimizer.add([("c", params[0])])
    with pytest.raises(ValueError, match=r"'a\.weight' is the name of another parameter"):
        optimizer.add([("a.weight", params[1])])
    with pytest.raises(ValueError, match=r"lr=-1\.0 must be at least 0"):
        optimizer.add([("c", params[1])], lr=-1)


def test_set_is_the_new_base_of_a_schedule():
    params = parameters(shapes=SHAPES)
    optimizer = surefoot.AdamW(
        [(f"layer{i}", param) for i, param in enumerate(params)], lr=1.0, weight_decay=0.1
    )
    scheduler = surefoot.Scheduler(
        optimizer, lr=linear(10), weight_decay=linear(10), betas=(None, linear(10, to=0.5)), per="epoch"
    )
    for n, grads in enumerate(gradients(5, shapes=SHAPES)):
        if n == 2:
            optimizer.set("layer0", lr=2.0)
            optimizer.set("layer[01]", weight_decay=0.2, betas=(0.8, 0.9))
        step(optimizer, params, grads)
        scheduler.step()
    found = {group["param_names"][0]: group for group in optimizer.param_groups}
    assert {name: group["lr"] for name, group in found.items()} == pytest.approx(
        {"layer0": 1.0, "layer1": 0.5, "layer2": 0.5}
    )
    assert found["layer2"]["weight_decay"] == pytest.approx(0.05)
    assert found["layer1"]["weight_decay"] == pytest.approx(0.1)
    assert found["layer1"]["betas"] == (0.8, pytest.approx(0.9 * 0.75))
    assert found["layer2"]["betas"] == (0.9, pytest.approx(0.999 * 0.75))
    again = surefoot.Scheduler(
        optimizer, lr=linear(10), weight_decay=linear(10), betas=(None, linear(10, to=0.5)), per="epoch"
    )
    lrs = scheduler.get_last_lr()
    again.set(5)
    assert again.get_last_lr() == lrs


def test_new_rows_of_an_average_begin_as_the_parameter():
    param, longer = torch.ones(1, requires_grad=True), torch.tensor([1.0, 8.0], requires_grad=True)
    optimizer = surefoot.ASGD([param], t0=0)
    step(optimizer, [param], [torch.ones(1)])
    optimizer.replace(param, longer, state="resize")
    assert optimizer.state[longer]["ax"].tolist() == [param.item(), 8.0]
    scalar, vector = torch.tensor(1.0, requires_grad=True), torch.ones(3, requires_grad=True)
    optimizer = surefoot.AdamW([scalar])
    step(optimizer, [scalar], [torch.tensor(1.0)])
    with pytest.raises(ValueError, match="exp_avg has 0 dimensions, the new parameter 1: pass state='reset'"):
        optimizer.replace(scalar, vector, state="resize")


@executors
@every_class
def test_17_another_parameter_in_the_place_of_one(case, executor):
    optimizer, params = named(case, executor)
    for grads in gradients(3, shapes=SHAPES):
        step(optimizer, params, grads)
    kept = copy.deepcopy(dict(optimizer.state[params[0]]))
    same = params[0].detach().clone().requires_grad_()
    longer = torch.zeros(7, 3, requires_grad=True)
    with pytest.raises(
        ValueError, match=r"layer0.weight is of shape \(5, 3\), the new one of \(7, 3\): pass state="
    ):
        optimizer.replace("layer0.weight", longer)
    optimizer.replace("layer0.weight", same)
    assert params[0] not in optimizer.state
    assert_same(list(optimizer.state[same].values()), list(kept.values()))
    optimizer.replace(same, longer, state="resize")
    for name, value in optimizer.state[longer].items():
        if value.dim():
            assert value.shape == (7, 3)
            assert_same(value[:5], kept[name])
        else:
            assert_same(value, kept[name])
    step(optimizer, [longer, *params[1:]], [torch.ones(7, 3), *gradients(1, shapes=SHAPES)[0][1:]])
    assert optimizer.param_groups[0]["param_names"][0] == "layer0.weight"
    optimizer.replace(longer, params[0], state="reset")
    assert params[0] not in optimizer.state
    step(optimizer, params, gradients(1, shapes=SHAPES)[0])


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            lambda o, p: o.set("*", speed=1),
            ValueError,
            "'speed' is no hyperparameter of SGD: it has lr, momentum",
        ),
        (lambda o, p: o.set("*", lr=-1), ValueError, "lr=-1.0 must be at least 0"),
        (lambda o, p: o.set("head", lr=1), ValueError, "'head' means no parameter"),
        (
            lambda o, p: o.replace(p[0], torch.ones(7, 3)),
            ValueError,
            "0 of group 0 is of shape (5, 3), the new one of (7, 3): pass state=",
        ),
        (
            lambda o, p: o.replace(p[0], torch.ones(5, 3, dtype=torch.complex64)),
            ValueError,
            "the new one of torch.complex64: pass state='reset'",
        ),
        (
            lambda o, p: o.add(torch.nn.Linear(1, 1)),
            TypeError,
            "params is a Linear: pass module.named_parameters(",
        ),
        (lambda o, p: o.add(3), TypeError, "params is a int: pass module.named_parameters("),
        (lambda o, p: o.add([torch.ones(1)] * 1 + [p[0]]), ValueError, "is in group 0 already"),
        (
            lambda o, p: o.add([q := torch.ones(1, requires_grad=True), q]),
            ValueError,
            "params has one parameter twice",
        ),
        (lambda o, p: o.set("*"), ValueError, "set('*') gives nothing: pass a hyperparameter"),
        (lambda o, p: o.set("0 *", nesterov=True), ValueError, "nesterov=True needs momentum > 0"),
        (lambda o, p: o.set("*", foreach=True, fused=True), ValueError, "exclude each other"),
        (lambda o, p: o.add([torch.ones(1)], speed=1), ValueError, "'speed' is no hyperparameter of SGD"),
        (lambda o, p: o.freeze(torch.nn.Linear), TypeError, "is a type: pass a pattern of names, a module"),
        (lambda o, p: o.freeze(3), TypeError, "3 is a int: pass a pattern of names, a module"),
        (lambda o, p: o.freeze({"a": 1}), TypeError, "is a dict: pass a pattern of names"),
        (
            lambda o, p: o.replace("*", torch.ones(2, requires_grad=True)),
            ValueError,
            "'*' means 4 parameters: replace one",
        ),
        (lambda o, p: o.replace(p[0], p[1]), ValueError, "is in group 0 already"),
        (lambda o, p: o.replace(p[0], 3), TypeError, "is a int: an optimizer takes tensors"),
        (
            lambda o, p: o.replace(p[0], p[0].detach(), state="all"),
            ValueError,
            "state='all' must be 'keep', 'reset'",
        ),
    ],
)
def test_mistakes_are_named_and_change_nothing(change, error, message):
    params = parameters(shapes=SHAPES)
    optimizer = surefoot.SGD(params, lr=0.1)
    before = copy.deepcopy(optimizer.state_dict())
    with pytest.raises(error, match=re.escape(message)):
        change(optimizer, params)
    assert optimizer.state_dict() == before


@pytest.mark.parametrize(
    ("which", "message"),
    [
        ("head.*", "'head.*' means no parameter: their names begin with 0 of group 0, 1 of group 0"),
        (lambda name, param: False, "means no parameter"),
        ([torch.zeros(1)], "a tensor of shape (1,) means no parameter"),
        (["*", "head.*"], "'head.*' means no parameter"),
        (torch.nn.Linear(1, 1), "Linear(in_features=1, out_features=1, bias=True) means no parameter"),
        ([], "[] means no parameter"),
    ],
)
def test_what_means_nothing_is_an_error_and_changes_nothing(which, message):
    optimizer = surefoot.SGD(parameters(shapes=SHAPES))
    for change in (optimizer.freeze, optimizer.unfreeze, optimizer.remove, optimizer.reset_state):
        with pytest.raises(ValueError, match=re.escape(message)):
            change(which)
    assert "frozen" not in optimizer.param_groups[0]
