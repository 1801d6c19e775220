"""What torch offers around an optimizer works on ours: hooks, schedulers, scaler, copies, groups, names."""

import copy
import gc
import inspect
import weakref

import pytest
import torch
from cases import CLASSES, every_case, every_class
from torch.optim import lr_scheduler
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from walk import (
    FLOAT32,
    FLOAT64,
    assert_same,
    copies,
    gradients,
    parameters,
    params_of,
    step,
    tensors_of,
    through_pickle,
    walk,
)

import surefoot


@pytest.mark.parametrize("name", [case.name for case in CLASSES if hasattr(torch.optim, case.name)])
def test_the_constructor_is_torchs(name):
    ours = inspect.signature(getattr(surefoot, name)).parameters
    torchs = inspect.signature(getattr(torch.optim, name)).parameters
    assert list(ours) == [*torchs, "extras"]
    for name, parameter in torchs.items():
        assert (ours[name].kind, ours[name].default) == (parameter.kind, parameter.default)
    assert ours["extras"].kind is inspect.Parameter.VAR_KEYWORD


def test_the_constructor_of_nadamw_is_that_of_nadam_with_decay():
    nadamw, nadam = (inspect.signature(cls).parameters for cls in (surefoot.NAdamW, surefoot.NAdam))
    assert list(nadamw) == [name for name in nadam if name != "decoupled_weight_decay"]
    assert {name for name in nadamw if nadamw[name].default != nadam[name].default} == {"weight_decay"}
    assert nadamw["weight_decay"].default == 0.01


@every_class
def test_it_is_one_of_torchs_optimizers(case):
    assert isinstance(case.ours(parameters()), torch.optim.Optimizer)


# ---- hooks ----


def _hook_events(optimizer):
    """What all kinds of hooks see, in order, over a step, a save and a load."""
    events = []

    def note(name, result=None):
        def hook(hooked, *args):
            assert hooked is optimizer
            events.append((name, [type(arg).__name__ for arg in args]))
            return result

        return hook

    handles = [
        register_optimizer_step_pre_hook(note("any pre")),
        register_optimizer_step_post_hook(note("any post")),
        optimizer.register_step_pre_hook(note("pre")),
        optimizer.register_step_post_hook(note("post")),
        optimizer.register_state_dict_pre_hook(note("save pre")),
        optimizer.register_state_dict_post_hook(note("save post")),
        optimizer.register_load_state_dict_pre_hook(note("load pre")),
        optimizer.register_load_state_dict_post_hook(note("load post")),
        optimizer.register_load_state_dict_pre_hook(note("load pre, first"), prepend=True),
    ]
    step(optimizer, gradients(1)[0])
    optimizer.load_state_dict(optimizer.state_dict())
    for handle in handles:
        handle.remove()
    step(optimizer, gradients(1)[0])
    optimizer.load_state_dict(optimizer.state_dict())
    return events


@every_class
def test_hooks_are_called_as_by_torch(case):
    events = _hook_events(case.ours(parameters()))
    assert len(events) == 9
    assert events == _hook_events(case.torchs(parameters()))


@every_class
def test_a_pre_hook_can_replace_the_arguments(case):
    optimizer = case.ours(parameters())
    optimizer.register_step_pre_hook(lambda hooked, args, kwargs: (args, {"closure": lambda: 3.0}))
    assert optimizer.step() == 3.0


@every_class
def test_hooks_can_replace_what_is_saved_and_loaded(case):
    optimizer = case.ours(parameters())
    walk(optimizer, gradients(2))
    optimizer.register_state_dict_post_hook(lambda hooked, saved: saved | {"extra": 1})
    assert optimizer.state_dict()["extra"] == 1
    empty = case.ours(parameters()).state_dict()
    optimizer.register_load_state_dict_pre_hook(lambda hooked, saved: empty)
    optimizer.load_state_dict(optimizer.state_dict())
    assert_same(optimizer.state_dict()["state"], empty["state"])


@every_class
def test_a_hook_that_edits_what_is_loaded_leaves_the_callers_alone(case):
    optimizer = case.ours(parameters())
    saved = case.ours(parameters()).state_dict() | {"extra": 1}
    optimizer.register_load_state_dict_pre_hook(lambda hooked, loaded: loaded.pop("extra") and None)
    optimizer.load_state_dict(saved)
    assert saved["extra"] == 1


# ---- schedulers and the scaler ----

SCHEDULERS = {
    "StepLR": {"step_size": 3, "gamma": 0.5},
    "LambdaLR": {"lr_lambda": lambda epoch: 1 / (1 + epoch)},
    "CosineAnnealingLR": {"T_max": 10},
    "OneCycleLR": {"max_lr": 0.1, "total_steps": 21},  # also moves momentum or betas
    "CyclicLR": {"base_lr": 0.01, "max_lr": 0.1, "step_size_up": 4},
}


@every_class
@pytest.mark.parametrize("name", SCHEDULERS)
def test_torchs_schedulers_drive_it(case, name):
    paths, rates = [], []
    for build in (case.ours, case.torchs):
        optimizer = build(parameters())
        settings = SCHEDULERS[name]
        if name in ("OneCycleLR", "CyclicLR"):
            settings = settings | {"cycle_momentum": bool(optimizer.defaults.keys() & {"momentum", "betas"})}
        scheduler = getattr(lr_scheduler, name)(optimizer, **settings)
        path = []
        for grads in gradients(20):
            path.append(walk(optimizer, [grads]))
            scheduler.step()
            rates.append(optimizer.param_groups[0]["lr"])
        paths.append(torch.cat(path))
    assert rates[:20] == rates[20:]
    assert len(set(rates)) >= 5
    torch.testing.assert_close(*paths, **FLOAT32)


@every_class
def test_torchs_plateau_scheduler_drives_it(case):
    optimizer = case.ours(parameters(), lr=1.0)
    scheduler = lr_scheduler.ReduceLROnPlateau(optimizer, patience=1)
    for _ in range(4):
        step(optimizer, gradients(1)[0])
        scheduler.step(1.0)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1)


@every_case
def test_the_grad_scaler_unscales_and_skips(case):
    """The third loss overflows: weights, state and count stay, and the scale is halved."""
    optimizers = [case.ours(parameters()), case.torchs(parameters())]
    for optimizer in optimizers:
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
        for i, factor in enumerate([1.0, 0.5, torch.inf, 2.0]):
            optimizer.zero_grad()
            loss = sum(((p - 0.5) ** 2).sum() for p in params_of(optimizer))
            scaler.scale(loss * factor).backward()
            before = tensors_of(optimizer)
            scaler.step(optimizer)
            scaler.update()
            if i == 2:
                assert_same(tensors_of(optimizer), before)
        assert scaler.get_scale() == 512.0
    torch.testing.assert_close(*map(tensors_of, optimizers), **FLOAT32)


# ---- copies ----


@every_case
@pytest.mark.parametrize("how", [copy.deepcopy, through_pickle])
def test_a_copy_goes_on_alike_and_alone(case, how):
    optimizer = case.ours(parameters(), executor="eager")
    optimizer.register_step_pre_hook(lambda *_: None)  # torch does not copy hooks, and neither do we
    walk(optimizer, gradients(2))
    params, twin = how((params_of(optimizer), optimizer))
    assert all(a is b for a, b in zip(params, params_of(twin), strict=True))
    assert_same(tensors_of(twin), tensors_of(optimizer))
    assert str(twin.param_groups) == str(optimizer.param_groups)
    before = tensors_of(twin)
    path = walk(optimizer, gradients(2, seed=2))
    assert_same(tensors_of(twin), before)
    assert_same(walk(twin, gradients(2, seed=2)), path)
    twin.add_param_group({"params": parameters(seed=3)})  # it is whole
    assert len(optimizer.param_groups) == 1


@every_class
def test_nothing_is_left_for_the_garbage_collector(case):
    gc.collect()
    gc.disable()
    try:
        optimizer = case.ours(parameters())
        walk(optimizer, gradients(1))
        optimizer.load_state_dict(optimizer.state_dict())
        gone = weakref.ref(optimizer), weakref.ref(params_of(optimizer)[0])
        del optimizer
        assert [reference() for reference in gone] == [None, None]
    finally:
        gc.enable()


@every_class
def test_repr_is_torchs_with_the_executor(case):
    ours, torchs = (str(build(parameters())) for build in (case.ours, case.torchs))
    assert ours == torchs[:-1] + "Executor: cpu, from the first step on\n)"


def test_repr_says_who_serves_what_and_why():
    params = [
        torch.ones(3, requires_grad=True),
        torch.ones(3, dtype=torch.complex64, requires_grad=True),
        torch.ones(4, 6)[:, ::2].requires_grad_(),
        torch.ones(2, requires_grad=True),
    ]
    optimizer = surefoot.AdamW(params)
    step(optimizer, [torch.ones_like(p) for p in params])
    assert "Executor: cpu: 2 tensors; eager: 1 tensor (complex64), 1 tensor (strides differ)" in str(
        optimizer
    )
    optimizer.executor = "eager"
    optimizer.step()
    assert "Executor: eager: 4 tensors (asked for)" in str(optimizer)
    nothing = surefoot.AdamW([torch.ones(1, requires_grad=True)])
    nothing.step()
    assert "Executor: cpu: no gradient yet" in str(nothing)


# ---- groups, names, zero_grad ----


@pytest.mark.parametrize("case", [case for case in CLASSES if case.name != "Lion"], ids=str)
@pytest.mark.parametrize("foreach", [None, True])
def test_zero_grad_both_ways(case, foreach):
    optimizer = case.ours(parameters(), foreach=foreach)
    step(optimizer, [torch.ones(5, 3), None, torch.tensor(1.0)])
    first, _, last = params_of(optimizer)
    kept = first.grad
    optimizer.zero_grad(set_to_none=False)
    assert first.grad is kept
    assert_same([first.grad, last.grad], [torch.zeros(5, 3), torch.tensor(0.0)])
    optimizer.zero_grad()
    assert [p.grad for p in params_of(optimizer)] == [None, None, None]


@every_class
def test_a_group_can_be_added_in_mid_training(case):
    paths = []
    for build in (case.ours, case.torchs):
        first, *rest = parameters(torch.float64)
        optimizer = build([first])
        grads = gradients(6, torch.float64)
        walk(optimizer, [row[:1] for row in grads[:3]])
        optimizer.add_param_group({"params": rest, "lr": 0.5})
        assert optimizer.param_groups[1].keys() == optimizer.param_groups[0].keys()
        paths.append(walk(optimizer, grads[3:]))  # the new weights count from 1
    torch.testing.assert_close(*paths, **FLOAT64)


@every_class
def test_groups_lent_to_it_are_not_written_to(case):
    a, b, c = parameters()
    groups = [{"params": [a], "lr": 0.5}, {"params": b}, {"params": iter([c]), "weight_decay": 0.2}]
    kept = [dict(group) for group in groups]
    optimizer = case.ours(groups[:1])
    for group in groups[1:]:
        optimizer.add_param_group(group)
    optimizer.param_groups[0]["lr"] = 0.7
    walk(optimizer, gradients(1))
    for group, before in zip(groups, kept, strict=True):
        assert group.keys() == before.keys()
        assert all(group[key] is before[key] for key in group)


@every_class
def test_any_iterable_of_parameters_will_do(case):
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 1))
    parts = list(model.children())
    for params in (
        model.parameters(),
        tuple(model.parameters()),
        dict(model.named_parameters()).values(),
        model.named_parameters(),
        list(model.named_parameters()),
        ({"params": part.parameters()} for part in parts),
        [{"params": part.named_parameters()} for part in parts],
    ):
        assert list(map(id, params_of(case.ours(params)))) == list(map(id, model.parameters()))


@every_class
def test_names_are_kept_as_by_torch(case):
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 1))
    optimizer = case.ours(model[0].named_parameters())
    optimizer.add_param_group({"params": [("head.weight", model[1].weight)]})
    assert [group["param_names"] for group in optimizer.param_groups] == [["weight", "bias"], ["head.weight"]]


def test_a_weight_twice_in_one_group_warns_as_torch_does():
    (weight,) = parameters(shapes=((2,),))
    with pytest.warns(UserWarning, match="duplicate parameters"):
        CLASSES[0].ours([weight, weight])


@every_class
def test_a_subclass_with_its_own_step_works(case):
    """As users write them: around the step of the class that they extend."""
    calls = []

    class Logged(getattr(surefoot, case.name)):
        def step(self, closure=None):
            calls.append(len(self.state))
            return super().step(closure)

    plain, logged = case.ours(parameters()), Logged(copies(parameters()), **case.kwargs)
    assert_same(walk(logged, gradients(2)), walk(plain, gradients(2)))
    assert calls == [len(case.ours(parameters()).state), 3]
