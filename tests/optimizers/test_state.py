"""Checkpoints: exchanged with torch.optim both ways, exact, checked, and loaded whole or not at all."""

import io
import re
from copy import deepcopy

import pytest
import torch
from cases import CASES, CLASSES, Case, every_case, every_class
from walk import (
    FEW_STEPS_FLOAT32,
    FLOAT32,
    FLOAT64,
    assert_same,
    copies,
    default_dtype,
    gradients,
    parameters,
    params_of,
    step,
    tensors_of,
    walk,
)

import surefoot
from surefoot.names import frozen_in

# Two ways to hand over a state_dict.
DIRECT = pytest.param(lambda saved: saved, id="direct")


def _through_a_file(saved):
    file = io.BytesIO()
    torch.save(saved, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


by_both_ways = pytest.mark.parametrize("hand_over", [DIRECT, pytest.param(_through_a_file, id="file")])


def _trained(build, steps=3, dtype=torch.float32, **extra):
    optimizer = build(parameters(dtype), **extra)
    walk(optimizer, gradients(steps, dtype))
    return optimizer


# ---- exchange ----


@every_case
@by_both_ways
@pytest.mark.parametrize("direction", ["ours to ours", "torch's to ours", "ours to torch's"])
def test_going_on_from_a_checkpoint_is_never_having_stopped(case, hand_over, direction):
    source, target = {
        "ours to ours": (case.ours, case.ours),
        "torch's to ours": (case.torchs, case.ours),
        "ours to torch's": (case.ours, case.torchs),
    }[direction]
    before, after = (gradients(6, torch.float64, seed=seed) for seed in (1, 2))
    # torch loads NAdam's mu_product in the weight's dtype, so that must be its dtype from the start.
    with default_dtype(torch.float64):
        uninterrupted, stopped = source(parameters(torch.float64)), source(parameters(torch.float64))
        walk(uninterrupted, before)
        walk(stopped, before)
        resumed = target(copies(params_of(stopped)), lr=0.77)  # the rate is in the checkpoint
        resumed.load_state_dict(hand_over(stopped.state_dict()))
        paths = walk(resumed, after), walk(uninterrupted, after)
    if direction == "ours to ours":
        assert_same(*paths)
        assert_same(tensors_of(resumed), tensors_of(uninterrupted))
    else:
        torch.testing.assert_close(*paths, **FLOAT64)


@every_case
def test_a_checkpoint_looks_like_torchs(case):
    ours, torchs = (_trained(build).state_dict() for build in (case.ours, case.torchs))
    assert ours["param_groups"] == torchs["param_groups"]
    assert list(ours) == list(torchs)
    assert {i: list(entry) for i, entry in ours["state"].items()} == {
        i: list(entry) for i, entry in torchs["state"].items()
    }


@every_case
@by_both_ways
def test_loading_gives_the_same_checkpoint_again(case, hand_over):
    saved = _trained(case.ours).state_dict()
    other = case.ours(parameters(seed=5), lr=0.77)
    other.load_state_dict(hand_over(saved))
    again = other.state_dict()
    assert again["param_groups"] == saved["param_groups"]
    assert_same(again["state"], saved["state"])


@every_case
def test_a_checkpoint_of_a_fresh_optimizer_empties_the_state(case):
    optimizer = _trained(case.ours)
    saved = case.ours(parameters()).state_dict()
    optimizer.load_state_dict(saved)
    assert_same(optimizer.state_dict()["state"], saved["state"])


@every_class
def test_a_weight_that_never_had_a_gradient_is_not_in_the_checkpoint_and_loads(case):
    source, target = case.ours(parameters()), case.ours(parameters())
    from_the_start = len(source.state) > 0  # Adagrad's
    grads = gradients(1)[0]
    step(source, [grads[0], None, grads[2]])
    assert (1 in source.state_dict()["state"]) == from_the_start
    target.load_state_dict(source.state_dict())
    assert (params_of(target)[1] in target.state) == from_the_start
    for optimizer in (source, target):
        optimizer.zero_grad()
    target_params, source_params = params_of(target), params_of(source)
    with torch.no_grad():
        for mine, its in zip(target_params, source_params, strict=True):
            mine.copy_(its)
    assert_same(walk(target, gradients(2)), walk(source, gradients(2)))


# ---- copies and dtypes ----


@every_case
def test_loading_copies(case):
    source = _trained(case.ours)
    saved = source.state_dict()
    kept = deepcopy(saved)
    target = case.ours(copies(params_of(source)))
    target.load_state_dict(saved)
    walk(target, gradients(2))
    (group,) = target.param_groups
    if isinstance(group["lr"], torch.Tensor):
        group["lr"].fill_(0.77)
    group["lr"] = 0.77
    assert saved["param_groups"] == kept["param_groups"]
    assert_same(saved["state"], kept["state"])


@every_class
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_state_keeps_its_own_dtype_bit_for_bit(case, dtype):
    """torch casts what it loads to the parameter's dtype."""
    saved = _trained(case.ours).state_dict()
    for entry in saved["state"].values():
        for key, value in entry.items():
            entry[key] = (value + 1e-9).to(dtype)
    optimizer = case.ours(parameters(torch.bfloat16))
    optimizer.load_state_dict(saved)
    assert_same(optimizer.state_dict()["state"], saved["state"])
    walk(optimizer, gradients(2, torch.bfloat16))  # and it is computed with
    assert {v.dtype for entry in optimizer.state.values() for v in entry.values()} == {dtype}


@every_class
def test_state_gets_the_layout_of_its_weight(case):
    (weight,) = parameters(shapes=((2, 3, 4, 5),))
    source = case.ours([weight])
    step(source, [torch.ones_like(weight)])
    target_weight = weight.detach().contiguous(memory_format=torch.channels_last).requires_grad_()
    target = case.ours([target_weight])
    target.load_state_dict(source.state_dict())
    for key, value in source.state[weight].items():
        assert_same(target.state[target_weight][key], value)
        if value.shape == weight.shape:
            assert target.state[target_weight][key].stride() == target_weight.stride()


@every_class
def test_a_users_own_entries_survive(case):
    source = _trained(case.ours)
    weight = params_of(source)[0]
    source.state[weight]["mask"] = torch.tensor([True, False])
    source.state[weight]["note"] = {"seen": [1, 2]}
    saved = source.state_dict()
    saved["state"]["global"] = {"epoch": 3}
    target = case.ours(parameters())
    target.load_state_dict(saved)
    entry = target.state[params_of(target)[0]]
    assert_same(entry["mask"], torch.tensor([True, False]))
    assert entry["mask"] is not source.state[weight]["mask"]
    assert entry["note"] == {"seen": [1, 2]}
    assert entry["note"]["seen"] is not source.state[weight]["note"]["seen"]
    assert target.state["global"] == {"epoch": 3}
    step(target, gradients(1)[0])


# ---- groups and flags ----

EXECUTION_FLAGS = {"foreach": True, "fused": True, "capturable": True, "differentiable": True}


@pytest.mark.parametrize(
    ("case", "flag"),
    [
        (case, flag)
        for case in CLASSES
        for flag in EXECUTION_FLAGS
        if flag in case.ours([torch.ones(1, requires_grad=True)]).defaults
    ],
    ids=str,
)
def test_a_checkpoint_does_not_choose_how_a_step_is_executed(case, flag):
    plain, flagged = case.ours(parameters()), case.ours(parameters(), **{flag: EXECUTION_FLAGS[flag]})
    own = plain.param_groups[0][flag], flagged.param_groups[0][flag]
    saved = plain.state_dict(), flagged.state_dict()
    plain.load_state_dict(saved[1])
    flagged.load_state_dict(saved[0])
    assert (plain.param_groups[0][flag], flagged.param_groups[0][flag]) == own


@every_class
def test_hyperparameters_of_each_group_are_loaded(case):
    def build(*rates):
        return case.ours([{"params": [p], "lr": lr} for p, lr in zip(parameters(), rates, strict=True)])

    source, target = build(0.1, 0.2, 0.3), build(0.0, 0.0, 0.0)
    source.param_groups[1]["initial_lr"] = 0.9  # schedulers keep it there
    target.load_state_dict(source.state_dict())
    assert [group["lr"] for group in target.param_groups] == [0.1, 0.2, 0.3]
    assert target.param_groups[1]["initial_lr"] == 0.9


@every_class
def test_an_old_checkpoint_lacks_younger_flags(case):
    """Of the hyperparameters only those of the first torch releases, and counts that are numbers."""
    oldest = {"lr", "momentum", "dampening", "weight_decay", "nesterov", "betas", "eps", "momentum_decay"}
    oldest |= {"lr_decay", "rho", "alpha", "etas", "step_sizes", "lambd", "t0"}
    source = _trained(case.torchs)
    saved = deepcopy(source.state_dict())
    for group in saved["param_groups"]:
        for key in group.keys() - oldest - {"params"}:
            del group[key]
    for entry in saved["state"].values():
        for key, value in entry.items():
            if value.dim() == 0 and key in case.ours(parameters()).counters:
                entry[key] = value.item()
    target = case.ours(copies(params_of(source)))
    target.load_state_dict(saved)
    assert target.param_groups[0].keys() == case.ours(parameters()).param_groups[0].keys()
    torch.testing.assert_close(
        walk(target, gradients(2, seed=3)), walk(source, gradients(2, seed=3)), **FLOAT32
    )


def test_a_momentum_buffer_of_none_starts_anew():
    """torch.optim.SGD saved None for a buffer that was not filled yet."""
    case = Case("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.5})
    optimizer, fresh = case.ours(parameters()), case.ours(parameters())
    saved = fresh.state_dict() | {"state": {i: {"momentum_buffer": None} for i in range(3)}}
    optimizer.load_state_dict(saved)
    assert_same(walk(optimizer, gradients(2)), walk(fresh, gradients(2)))


def test_a_sparse_momentum_buffer_of_torch_loads():
    """torch.optim.SGD keeps the buffer as sparse as the first gradient."""
    case = Case("SGD", {"lr": 0.1, "momentum": 0.9})
    grads = [torch.zeros(4, 2).index_fill(0, torch.tensor([row]), 1.0).to_sparse() for row in (1, 1, 3)]
    torchs = case.torchs(parameters(shapes=((4, 2),)))
    step(torchs, [grads[0]])
    ours = case.ours(copies(params_of(torchs)))
    ours.load_state_dict(torchs.state_dict())
    paths = [walk(optimizer, [[grad] for grad in grads]) for optimizer in (ours, torchs)]
    torch.testing.assert_close(*paths, **FEW_STEPS_FLOAT32)  # float32, three steps


@pytest.mark.parametrize("of", ["ours", "torchs"])
@pytest.mark.parametrize("name", ["Adam", "NAdam"])
def test_adamw_stays_decoupled_when_it_loads_adam(name, of):
    adam = _trained(getattr(Case(name, {"lr": 0.01, "weight_decay": 0.1}), of))
    case = Case(f"{name}W")
    adamw, torchs = (build(copies(params_of(adam))) for build in (case.ours, case.torchs))
    adamw.load_state_dict(adam.state_dict())
    torchs.load_state_dict(adam.state_dict())
    grads = gradients(2, seed=3)
    assert adamw.param_groups[0]["weight_decay"] == 0.1
    torch.testing.assert_close(walk(adamw, grads), walk(torchs, grads), **FLOAT32)  # float32


@every_class
@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
def test_state_before_the_first_step_is_torchs(case, dtype):
    """Adagrad's is there, the others' is not."""
    ours, torchs = (build(parameters(dtype)) for build in (case.ours, case.torchs))
    assert_same(ours.state_dict()["state"], torchs.state_dict()["state"])


def test_adagrads_sum_starts_as_its_group_says():
    """torch takes the constructor's number for all groups."""
    a, b, c = parameters()
    optimizer = surefoot.Adagrad([{"params": [a], "initial_accumulator_value": 0.5}, {"params": [b]}])
    optimizer.add_param_group({"params": [c], "initial_accumulator_value": 0.25})
    step(optimizer, [torch.zeros_like(p) for p in (a, b, c)])
    assert [optimizer.state[p]["sum"].unique().tolist() for p in (a, b, c)] == [[0.5], [0.0], [0.25]]


def test_adagrads_sums_in_shared_memory_stay_there():
    optimizer = _trained(Case("Adagrad", {"initial_accumulator_value": 0.5}).ours)
    optimizer.state = {}
    optimizer.share_memory()
    walk(optimizer, gradients(2))
    sums = [optimizer.state[p]["sum"] for p in params_of(optimizer)]
    assert all(total.is_shared() and total.min() > 0.5 for total in sums)


def test_names_are_saved_and_ours_stay():
    case = CLASSES[0]
    named = case.ours(torch.nn.Linear(2, 1).named_parameters())
    unnamed = case.ours(torch.nn.Linear(2, 1).parameters())
    renamed = case.ours([(f"old.{name}", p) for name, p in torch.nn.Linear(2, 1).named_parameters()])
    assert named.state_dict()["param_groups"][0]["param_names"] == ["weight", "bias"]
    named.load_state_dict(unnamed.state_dict())
    assert named.param_groups[0]["param_names"] == ["weight", "bias"]
    named.load_state_dict(renamed.state_dict())
    assert named.param_groups[0]["param_names"] == ["weight", "bias"]
    unnamed.load_state_dict(renamed.state_dict())
    assert unnamed.param_groups[0]["param_names"] == ["old.weight", "old.bias"]


def _named(*groups):
    return surefoot.AdamW(
        [{"params": [(name, torch.ones(2, requires_grad=True)) for name in group]} for group in groups]
    )


def _stepped(*groups):
    """An optimizer whose state tells which parameter it is of."""
    optimizer = _named(*groups)
    for name, param, _ in optimizer.labelled():
        param.grad = torch.full((2,), float(ord(name)))
    optimizer.step()
    return optimizer


@pytest.mark.parametrize(
    ("saved", "ours"),
    [(["abcd"], ["dbca"]), (["ab", "cd"], ["cd", "ab"]), (["ca", "b", "d"], ["abcd"]), (["b", "a"], ["ab"])],
)
def test_state_finds_its_parameter_by_name(saved, ours):
    """Groups in another order, and parts of ours."""
    before, after = _stepped(*saved), _named(*ours)
    after.freeze(re.compile("[ab]"))
    after.load_state_dict(before.state_dict())
    assert ["".join(group["param_names"]) for group in after.param_groups] == saved
    for name, param, group in after.labelled():
        torch.testing.assert_close(after.state[param]["exp_avg"], torch.full((2,), ord(name) * 0.1))
        assert (name in "ab") == frozen_in(group)[group["param_names"].index(name)]


@pytest.mark.parametrize(
    ("saved", "ours", "message"),
    [
        (
            ["abcd"],
            ["ab", "cd"],
            r"the saved groups hold \[4\] .* hold \[2, 2\]: build it with the same groups",
        ),
        (
            ["ac", "bd"],
            ["ab", "cd"],
            "in the place of parameter b the saved groups have c, which is elsewhere",
        ),
        (
            ["ba", "x"],
            ["ab", "c"],
            "in the place of parameter a .* only the saved state has x; only it lacks c",
        ),
        (["abx"], ["ab"], "the saved groups hold .*; only the saved state has x"),
    ],
)
def test_state_of_other_names_is_not_guessed(saved, ours, message):
    with pytest.raises(ValueError, match=message):
        _named(*ours).load_state_dict(_stepped(*saved).state_dict())


# ---- what does not fit ----


def _assert_refuses(optimizer, saved, *words):
    """Loading raises with ``words`` in the message, and changes nothing."""
    walk(optimizer, gradients(2, shapes=[p.shape for p in params_of(optimizer)]))
    tensors, groups = tensors_of(optimizer), deepcopy(optimizer.param_groups)
    identities = [id(v) for entry in optimizer.state.values() for v in entry.values()]
    with pytest.raises(ValueError, match="saved") as error:
        optimizer.load_state_dict(saved)
    assert all(word in str(error.value) for word in words), str(error.value)
    assert_same(tensors_of(optimizer), tensors)
    assert [id(v) for entry in optimizer.state.values() for v in entry.values()] == identities
    assert str(optimizer.param_groups) == str(groups)


@every_class
@pytest.mark.parametrize("of", ["ours", "torchs"])
def test_a_wrong_shape_is_refused_by_index(case, of):
    """torch accepts it, and fails or broadcasts in a later step."""
    source = getattr(case, of)(parameters(shapes=((2,), (3, 1))))
    walk(source, gradients(1, shapes=((2,), (3, 1))))
    _assert_refuses(
        case.ours(parameters(shapes=((2,), (1, 3)))),
        source.state_dict(),
        "parameter 1 of group 0",
        "(3, 1)",
        "(1, 3)",
        case.ours(parameters()).rule.buffers[0],
    )


@every_class
def test_a_wrong_shape_is_refused_by_name(case):
    narrow, wide = (torch.nn.Sequential(torch.nn.Linear(n, 2, bias=False)) for n in (3, 4))
    source, target = (case.ours(model.named_parameters()) for model in (narrow, wide))
    step(source, [torch.ones(2, 3)])
    _assert_refuses(target, source.state_dict(), "parameter 0.weight", "(2, 3)", "(2, 4)")


@every_class
def test_a_scalar_is_not_broadcast_to_a_weight(case):
    source = case.ours(parameters(shapes=((),)))
    step(source, [torch.tensor(1.0)])
    _assert_refuses(case.ours(parameters(shapes=((3,),))), source.state_dict(), "shape ()", "(3,)")


# What other optimizers keep, and those of ours whose state this passes for: SGD's one buffer is also in
# RMSprop and Muon, NAdam's state holds all of Adam's and RAdam's, and Lion's one average is in all of these.
STRANGERS = {
    "Adadelta": {},
    "Adafactor": {},
    "Adagrad": {},
    "Adamax": {},
    "ASGD": {},
    "RMSprop": {},
    "Rprop": {},
    "SGD": {"momentum": 0.9},
    "Adam": {},
    "NAdam": {},
    "RAdam": {},
    "Lion": {},
}
ALIKE = {("NAdam", "Adam"), ("NAdam", "AdamW"), ("NAdam", "RAdam"), ("Adam", "AdamW"), ("Adam", "RAdam")}
ALIKE |= {("RAdam", "Adam"), ("RAdam", "AdamW"), *((case.name, case.name) for case in CLASSES)}
ALIKE |= {("NAdam", "NAdamW"), *((name, "Lion") for name in ("Adam", "Adamax", "NAdam", "RAdam"))}


@pytest.mark.parametrize(
    ("stranger", "case"),
    [(name, case) for name in STRANGERS for case in CLASSES if (name, case.name) not in ALIKE],
    ids=str,
)
def test_the_state_of_another_optimizer_is_refused(stranger, case):
    shapes = ((2, 2), (3, 1))
    source = Case(stranger, STRANGERS[stranger]).torchs(parameters(shapes=shapes))
    walk(source, gradients(2, shapes=shapes))
    saved = source.state_dict()
    # Groups of its own, so that it is the state that is found strange.
    saved["param_groups"] = case.ours(parameters(shapes=shapes)).state_dict()["param_groups"]
    _assert_refuses(
        case.ours(parameters(shapes=shapes)), saved, "parameter 0 of group 0", case.name, "another optimizer"
    )


@every_class
@pytest.mark.parametrize("groups", [[[0, 1]], [[0, 1, 2, 3]], [[0], [1, 2]], [[0, 1, 2], []], [[]]], ids=str)
def test_other_groups_are_refused(case, groups):
    saved = case.ours(parameters()).state_dict()
    (group,) = saved["param_groups"]
    saved["param_groups"] = [group | {"params": params} for params in groups]
    _assert_refuses(
        case.ours(parameters()), saved, str([len(params) for params in groups]), "[3]", "same groups"
    )


def test_the_table_covers_every_flag():
    """What the contracts above rely on: each flag of each constructor is in some case."""
    for case in CLASSES:
        flags = {k for k, v in case.ours(parameters()).defaults.items() if isinstance(v, bool)}
        used = set().union(*(c.kwargs for c in CASES if c.name == case.name))
        assert flags - used <= {"capturable", "differentiable", "decoupled_weight_decay"}


# ---- state before, and elsewhere ----


@every_case
@pytest.mark.parametrize("executor", ["cpu", "eager"])
def test_16_state_made_before_the_first_step_changes_nothing(case, executor):
    early, late = (case.ours(parameters(), executor=executor) for _ in range(2))
    early.init_state()
    made = sum(len(entry) for entry in early.state.values())
    saved = deepcopy(early.state_dict())
    assert_same(walk(early, gradients(3)), walk(late, gradients(3)))
    assert_same(tensors_of(early), tensors_of(late))
    if case.kwargs.get("dampening", 0) == 0:
        assert made == sum(len(entry) for entry in late.state.values())
    resumed = case.ours(parameters(), executor=executor)
    resumed.load_state_dict(saved)
    assert_same(walk(resumed, gradients(3)), walk(case.ours(parameters(), executor=executor), gradients(3)))


def test_state_that_is_there_stays_and_the_frozen_get_none():
    params = parameters()
    optimizer = surefoot.AdamW(params)
    walk(optimizer, gradients(2))
    optimizer.add([torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)])
    optimizer.freeze(optimizer.param_groups[1]["params"][1])
    before = tensors_of(optimizer)
    optimizer.init_state()
    (new, frozen), counts = optimizer.param_groups[1]["params"], [optimizer.state[p]["step"] for p in params]
    assert counts == [2, 2, 2]
    assert optimizer.state[new]["step"] == 0
    assert frozen not in optimizer.state
    assert_same({name: tensors_of(optimizer)[name] for name in before}, before)


def test_state_goes_to_a_device_and_counts_stay():
    param = torch.ones(2, requires_grad=True)
    optimizer = surefoot.NAdam([param])
    optimizer.init_state()
    assert optimizer.to("meta") is optimizer
    assert {name: value.device.type for name, value in optimizer.state[param].items()} == {
        "step": "cpu",
        "mu_product": "cpu",
        "exp_avg": "meta",
        "exp_avg_sq": "meta",
    }


@every_class
def test_2_hyperparameters_may_stay_mine(case):
    source = _trained(case.ours)
    target = case.ours(copies(params_of(source)), lr=0.5, maximize=True)
    groups = deepcopy(target.param_groups)
    target.load_state_dict(source.state_dict(), hyper="mine")
    assert_same(
        [p.tolist() for p in groups[0].pop("params")], [p.tolist() for p in target.param_groups[0]["params"]]
    )
    assert {k: v for k, v in target.param_groups[0].items() if k != "params"} == groups[0]
    assert_same(tensors_of(target), tensors_of(source))
    with pytest.raises(ValueError, match="hyper='theirs' must be 'saved' or 'mine'"):
        target.load_state_dict(source.state_dict(), hyper="theirs")
