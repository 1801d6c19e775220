"""What is changed between two steps counts from the next one on, whoever changed it and how: against the eager executor.

The CPU executor keeps addresses from step to step; each edit here makes some of them wrong.
"""

import copy
import weakref

import numpy
import pytest
import torch
from cases import every_class
from walk import assert_same, gradients, parameters, params_of, step, tensors_of

import surefoot

SHAPES = ((5, 3), (7,), (), (4, 2))


def first(optimizer):
    return params_of(optimizer)[0]


def entry(optimizer):
    return optimizer.state[first(optimizer)]


def buffer_of(optimizer):
    return next(name for name in optimizer.rule.buffers if entry(optimizer).get(name) is not None)


def replace_a_buffer(o):
    entry(o)[buffer_of(o)] = torch.full((5, 3), 0.25)


def fill_a_buffer(o):
    entry(o)[buffer_of(o)].fill_(0.25)


def swap_the_data_of_a_buffer(o):
    entry(o)[buffer_of(o)].data = torch.full((5, 3), 0.25)


def widen_a_buffer(o):
    entry(o)[buffer_of(o)] = entry(o)[buffer_of(o)].double()


def replace_an_entry(o):
    o.state[first(o)] = {name: value.clone() for name, value in entry(o).items()}


def forget_an_entry(o):
    del o.state[first(o)]


def forget_all(o):
    o.state.clear()


def replace_the_state(o):
    o.state = {}


def copy_the_state(o):
    o.state = copy.deepcopy(dict(o.state.items()))


def swap_two_entries(o):
    a, b = params_of(o)[0], params_of(o)[3]
    a.data, b.data = torch.ones(4, 2), torch.ones(5, 3)
    a.grad = b.grad = None
    o.state[a], o.state[b] = o.state[b], o.state[a]


def fill_a_count(o):
    if "step" in o.counters:
        entry(o)["step"].fill_(7.0)


def fill_a_view_of_a_count(o):
    if "step" in o.counters:
        entry(o)["step"].detach().fill_(7.0)


def replace_a_count(o):
    if "step" in o.counters:
        entry(o)["step"] = torch.tensor(7.0)


def share_a_count(o):
    if "step" in o.counters:
        o.state[params_of(o)[1]]["step"] = entry(o)["step"]


def load_what_was_saved(o):
    o.load_state_dict(copy.deepcopy(o.state_dict()))


def swap_the_data(o):
    first(o).data = torch.full((5, 3), 0.5)


def halve_the_precision(o):
    for p in params_of(o):
        p.grad = None
        p.data = p.data.bfloat16()


def transpose_in_place(o):
    first(o).grad = None
    first(o).data = torch.full((3, 5), 0.5).t()


def replace_a_parameter(o):
    o.param_groups[0]["params"][0] = torch.full((5, 3), 0.5, requires_grad=True)


def remove_a_parameter(o):
    del o.param_groups[0]["params"][1]


def append_a_parameter(o):
    o.param_groups[0]["params"].append(torch.full((2,), 0.5, requires_grad=True))


def add_a_group(o):
    o.add_param_group({"params": [torch.full((2,), 0.5, requires_grad=True)], "lr": 0.5})


def change_the_rate(o):
    o.param_groups[0]["lr"] = 0.77


def write_the_rate_anew_and_then_change_it(o):
    for lr in (o.param_groups[0]["lr"], o.param_groups[0]["lr"], 0.77):
        o.param_groups[0]["lr"] = float(str(lr))
        step(o, gradients(1, first(o).dtype, shapes=[p.shape for p in params_of(o)], seed=9)[0])


def take_the_rate_out_and_put_another_in(o):
    del o.param_groups[0]["lr"]
    o.param_groups[0]["lr"] = 0.77


def replace_the_groups(o):
    o.param_groups = [dict(group, lr=0.77) for group in o.param_groups]


def put_the_parameters_in_another_list(o):
    o.param_groups[0]["params"] = o.param_groups[0]["params"][:2]


def remove_the_last_parameter(o):
    o.param_groups[-1]["params"].pop()


def give_a_group_a_name(o):
    o.param_groups[0]["name"] = "body"
    step(o, gradients(1, first(o).dtype, shapes=[p.shape for p in params_of(o)], seed=9)[0])
    o.param_groups[0]["lr"] = 0.77


def a_rate_that_comes_back(o):
    group = o.param_groups[0]
    before = group["lr"]
    for lr in (
        before,
        numpy.float64(0.25),
        numpy.float64(0.25),
        before,
        torch.tensor(before),
        before,
        0.0,
        before,
    ):
        group["lr"] = lr
        step(o, gradients(1, first(o).dtype, shapes=[p.shape for p in params_of(o)], seed=9)[0])


def fill_a_tensor_that_was_equal_to_the_rate(o):
    group = o.param_groups[0]
    group["lr"] = 0.5
    step(o, gradients(1, first(o).dtype, shapes=[p.shape for p in params_of(o)], seed=9)[0])
    group["lr"] = torch.tensor(0.5)
    step(o, gradients(1, first(o).dtype, shapes=[p.shape for p in params_of(o)], seed=9)[0])
    group["lr"].fill_(0.01)


def put_the_parameters_in_a_tuple(o):
    o.param_groups[0]["params"] = tuple(o.param_groups[0]["params"])


def put_the_groups_in_a_tuple(o):
    o.param_groups = tuple(o.param_groups)


def set_a_rate_in_place(o):
    o.param_groups[0]["lr"] = torch.tensor(0.1)
    step(o, gradients(1, shapes=[p.shape for p in params_of(o)], seed=9)[0])
    o.param_groups[0]["lr"].fill_(0.77)


def turn_around(o):
    o.param_groups[0]["maximize"] = True


def decay(o):
    o.param_groups[0]["weight_decay"] = 0.3


def tell_a_default_dtype(o):
    entry(o)
    o.param_groups[0]["note"] = "mine"


EDITS = [value for name, value in list(globals().items()) if callable(value) and value.__module__ == __name__]
EDITS = [edit for edit in EDITS if edit not in (first, entry, buffer_of)]


@every_class
@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.__name__)
@pytest.mark.parametrize("held", ["", "an entry", "a dict", "a tensor", "a view", "a weak reference"])
def test_an_edit_counts(case, edit, held):
    """``held``: what somebody keeps of the state all the while, so that it is never only the optimizer's."""
    ends = []
    for executor in ("cpu", "eager"):
        optimizer = case.ours(parameters(shapes=SHAPES), executor=executor)
        for grads in gradients(3, shapes=SHAPES):
            step(optimizer, grads)
        if optimizer.state.get(first(optimizer)) is None:
            return  # no state to hold or edit
        keeps = {
            "": None,
            "an entry": entry(optimizer),
            "a dict": optimizer.state,
            "a tensor": entry(optimizer)[buffer_of(optimizer)],
            "a view": entry(optimizer)[buffer_of(optimizer)].view(-1),
            "a weak reference": weakref.ref(entry(optimizer)[buffer_of(optimizer)]),
        }[held]
        for grads in gradients(2, shapes=SHAPES, seed=2):
            step(optimizer, grads)
        edit(optimizer)
        for seed in range(3, 6):
            shapes = [p.shape for p in params_of(optimizer)]
            dtype = first(optimizer).dtype
            step(optimizer, gradients(1, dtype, shapes=shapes, seed=seed)[0])
        ends.append(tensors_of(optimizer))
        del keeps
    assert ends[0].keys() == ends[1].keys()
    for name, value in ends[1].items():
        close = (
            {"rtol": 2**-6, "atol": 2**-6} if value.dtype == torch.bfloat16 else {"rtol": 1e-5, "atol": 1e-5}
        )
        torch.testing.assert_close(ends[0][name], value, **close)


def test_an_entry_held_since_long_ago_is_looked_at_when_it_is_changed():
    optimizer = surefoot.AdamW(parameters())
    step(optimizer, gradients(1)[0])
    mine = entry(optimizer)
    for grads in gradients(5):
        step(optimizer, grads)
    mine["exp_avg"] = torch.zeros(5, 3)
    step(optimizer, [torch.ones(5, 3), None, None])
    torch.testing.assert_close(mine["exp_avg"], torch.full((5, 3), 0.1))


def test_what_nobody_holds_is_trusted_and_what_is_asked_for_is_not():
    """Or the tests above would show nothing."""
    optimizer = surefoot.AdamW(parameters())
    trust = []
    for grads in gradients(3):
        step(optimizer, grads)
        trust.append(optimizer._plan._trusted)
    assert trust[-1]
    held = optimizer.state[first(optimizer)]
    assert not optimizer._plan._trusted
    step(optimizer, gradients(1)[0])
    assert not optimizer._plan._trusted
    del held
    step(optimizer, gradients(1)[0])
    assert optimizer._plan._trusted


def test_a_parameter_resized_where_it_lies_is_an_error_and_nothing_is_written():
    (weight,) = parameters(shapes=((6,),))
    optimizer = surefoot.AdamW([weight])
    step(optimizer, [torch.ones(6)])
    whole = weight.data
    weight.grad = None
    weight.data = whole[:2]
    weight.grad = torch.ones(2)
    kept = whole.clone()
    with pytest.raises(RuntimeError, match=r"size|shape"):
        optimizer.step()
    assert_same(whole[2:], kept[2:])


def test_gradients_come_and_go():
    """A different part of the parameters has one at each step."""
    ends = []
    for executor in ("cpu", "eager"):
        optimizer = surefoot.NAdam(parameters(shapes=SHAPES), executor=executor)
        for turn, grads in enumerate(gradients(12, shapes=SHAPES)):
            step(optimizer, [g if (turn >> i) & 1 or turn % 5 == 0 else None for i, g in enumerate(grads)])
        ends.append(tensors_of(optimizer))
    torch.testing.assert_close(*ends, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dampening", [0.0, 0.5])
def test_a_parameter_that_joins_late_starts_its_momentum(dampening):
    ends = []
    for executor in ("cpu", "eager"):
        optimizer = surefoot.SGD(
            parameters(shapes=SHAPES), lr=0.1, momentum=0.9, dampening=dampening, executor=executor
        )
        for turn, grads in enumerate(gradients(6, shapes=SHAPES)):
            step(optimizer, [g if turn >= i else None for i, g in enumerate(grads)])
        ends.append(tensors_of(optimizer))
    assert_same(*ends)


GRADS = {
    "expanded": lambda: torch.randn(3).expand(5, 3),
    "transposed": lambda: torch.randn(3, 5).t(),
    "negative": lambda: torch.randn(5, 3, dtype=torch.complex64).conj().imag,
    "with a graph": lambda: torch.randn(5, 3, requires_grad=True) * 2,
    "a parameter": lambda: torch.nn.Parameter(torch.randn(5, 3)),
    "contiguous": lambda: torch.randn(5, 3),
}


def test_a_gradient_of_another_kind_at_each_step():
    ends = []
    for executor in ("cpu", "eager"):
        optimizer = surefoot.AdamW(parameters(shapes=((5, 3), (2,))), executor=executor)
        torch.manual_seed(0)
        for make in [*GRADS.values(), *GRADS.values()]:
            a, b = params_of(optimizer)
            a.grad, b.grad = make(), torch.ones(2)
            optimizer.step()
        ends.append(tensors_of(optimizer))
    torch.testing.assert_close(*ends, rtol=1e-6, atol=1e-6)


def both_ends(run):
    """What ``run(executor)`` gives with kernels and without."""
    return [[p.detach().clone() for p in run(executor)] for executor in ("cpu", "eager")]


@every_class
def test_no_gradient_at_all_after_a_step_is_no_error(case):
    a, b = parameters(shapes=((3,), (3,)))
    optimizer = case.ours([{"params": [a]}, {"params": [b], "lr": 0.5}])
    step(optimizer, gradients(1, shapes=((3,), (3,)))[0])
    before = tensors_of(optimizer)
    optimizer.zero_grad()
    optimizer.step()
    assert_same(tensors_of(optimizer), before)


def test_one_gradient_for_two_parameters():
    def run(executor):
        params = parameters(shapes=((4,), (4,), (4,)))
        optimizer = surefoot.AdamW(params, executor=executor)
        for (grad,) in gradients(3, shapes=((4,),)):
            for param in params:
                param.grad = grad
            optimizer.step()
        return params

    torch.testing.assert_close(*both_ends(run))


def with_gradients_inside(memory):
    """Both parameters' gradients are views of memory that the step writes to."""
    a, b = (memory[i : i + 8].detach().requires_grad_() for i in (0, 8))
    a.grad, b.grad = memory[4:12], memory[6:14]
    return [a, b]


def with_gradients_that_reach_into_a_parameter(memory):
    a = memory[4:8].detach().requires_grad_()
    b, c = torch.zeros(6, requires_grad=True), torch.zeros(8, requires_grad=True)
    a.grad, b.grad, c.grad = torch.full((4,), 100.0), memory[:6], memory[:8]
    return [a, b, c]


def with_a_gradient_that_starts_before_its_parameter(memory):
    a = memory[1:9].detach().requires_grad_()
    a.grad = memory[:8]
    return [a]


def one_with_gaps_over_one_without(memory):
    a, b = memory.detach().requires_grad_(), memory[::2].detach().requires_grad_()
    a.grad, b.grad = torch.ones(16), torch.full((8,), 2.0)
    return [a, b]


@pytest.mark.parametrize(
    "make",
    [
        with_gradients_inside,
        with_gradients_that_reach_into_a_parameter,
        with_a_gradient_that_starts_before_its_parameter,
        one_with_gaps_over_one_without,
    ],
)
def test_memory_that_a_step_reads_and_writes_is_used_in_order(make):
    def run(executor):
        memory = torch.arange(16.0)
        optimizer = surefoot.SGD(make(memory), lr=0.5, executor=executor)
        for _ in range(2):
            optimizer.step()
        assert executor == "eager" or "memory that another tensor shares" in repr(optimizer)
        return [memory]

    torch.testing.assert_close(*both_ends(run), rtol=0, atol=0)


@pytest.mark.parametrize("move", ["share", "resize"])
def test_memory_of_state_that_is_moved_by_an_alias_of_it(move):
    def run(executor):
        weight = torch.zeros(1000, requires_grad=True)
        weight.grad = torch.ones(1000)
        optimizer = surefoot.Adam([weight], lr=0.1, executor=executor)
        optimizer.step()
        alias = optimizer.state[weight]["exp_avg"].detach()
        for _ in range(4):
            optimizer.step()
        if move == "share":
            alias.share_memory_()
        else:
            alias.untyped_storage().resize_(1 << 20)
        others = [torch.full((1000,), 7.0) for _ in range(50)]  # where it was
        optimizer.step()
        del others
        return [weight, optimizer.state[weight]["exp_avg"]]

    torch.testing.assert_close(*both_ends(run))


@pytest.mark.parametrize("executor", ["cpu", "eager"])
def test_a_graph_of_an_alias_of_state_knows_that_a_step_has_changed_it(executor):
    weight = torch.zeros(2, requires_grad=True)
    weight.grad = torch.ones(2)
    optimizer = surefoot.Adam([weight], executor=executor)
    optimizer.step()
    alias = optimizer.state[weight]["exp_avg"].detach()
    for _ in range(4):
        optimizer.step()
    loss = (torch.ones(2, requires_grad=True) * alias).sum()
    optimizer.step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@surefoot.rule
def scaled(param, grad, /, lr):
    return (param - lr * grad,)


class Scaled(surefoot.optimizers.Optimizer):
    """Its numbers depend on an entry that is no hyperparameter of the class."""

    rule = scaled
    counters = {}  # noqa: RUF012 - it is overridden, not changed

    def __init__(self, params, lr=0.1, **extras):
        super().__init__(params, {"lr": lr}, **extras)

    def scalars(self, hyper, state):
        return {"lr": hyper["lr"] * float(hyper.get("scale", 1.0))}


@pytest.mark.parametrize("scale", [2.0, numpy.float32(2), torch.tensor(2.0)])
def test_numbers_may_depend_on_any_entry_of_a_group(scale):
    def run(executor):
        a, b = parameters(shapes=((2,), (2,)))
        groups = [
            {"params": [a], "scale": copy.deepcopy(scale)},
            {"params": [b], "scale": copy.deepcopy(scale)},
        ]
        optimizer = Scaled(groups, executor=executor)
        for n in range(4):
            if n == 2 and isinstance(scale, torch.Tensor):
                optimizer.param_groups[1]["scale"].fill_(10.0)
            elif n == 2:
                optimizer.param_groups[1]["scale"] = scale * 5
            step(optimizer, [torch.ones(2), torch.ones(2)])
        return [a, b]

    torch.testing.assert_close(*both_ends(run))


def test_a_group_that_is_made_capturable_goes_to_the_eager_executor():
    optimizer = surefoot.Adam(parameters())
    for grads in gradients(2):
        step(optimizer, grads)
    optimizer.param_groups[0]["capturable"] = True
    step(optimizer, gradients(1)[0])
    assert "(capturable)" in repr(optimizer)


@pytest.mark.parametrize("executor", ["cpu", "eager"])
@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        ("lr", torch.ones(2), ValueError, r"lr is a tensor of shape \(2,\): pass one number"),
        ("lr", "0.1", TypeError, "lr='0.1' is a str: pass a number"),
        ("eps", None, TypeError, "eps=None is a NoneType: pass a number"),
        ("weight_decay", None, TypeError, "weight_decay=None is a NoneType: pass a number"),
        ("betas", 0.9, ValueError, "betas=0.9: pass two numbers"),
        ("betas", (0.9, None), TypeError, r"betas\[1\]=None is a NoneType: pass a number"),
    ],
)
def test_an_edit_that_is_no_number_is_named(name, value, error, message, executor):
    optimizer = surefoot.AdamW(parameters(), executor=executor)
    step(optimizer, gradients(1)[0])
    optimizer.param_groups[0][name] = value
    before = tensors_of(optimizer)
    with pytest.raises(error, match=message):
        optimizer.step()
    assert_same(tensors_of(optimizer), before)


def test_averages_of_parameters_that_were_apart():
    def run(executor):
        a, b = (torch.ones(1, requires_grad=True) for _ in range(2))
        optimizer = surefoot.ASGD([a, b], lr=0.1, t0=2, lambd=0, executor=executor)
        for i, (of_a, of_b) in enumerate([(1, 1), (1, 1), (1, 1), (1, 0), (0, 1), (1, 1)]):
            a.grad, b.grad = (torch.ones(1) if there else None for there in (of_a, of_b))
            optimizer.stats = i >= 4  # makes a new plan
            optimizer.step()
        return [optimizer.state[p]["ax"] for p in (a, b)]

    torch.testing.assert_close(*both_ends(run))


IN_PLACE = {
    "transposed": lambda t: t.t(),
    "negative": lambda t: torch._neg_view(t),
}


@pytest.mark.parametrize("change", IN_PLACE)
@pytest.mark.parametrize("of", ["param", "exp_avg"])
def test_another_view_at_the_same_address(change, of):
    def run(executor):
        weight = torch.ones(3, 3, requires_grad=True)
        optimizer = surefoot.AdamW([weight], executor=executor)
        for seed in range(5):
            weight.grad = gradients(1, shapes=((3, 3),), seed=seed)[0][0]
            if seed == 3:
                tensor = weight if of == "param" else optimizer.state[weight][of]
                tensor.data = IN_PLACE[change](tensor.data)
            optimizer.step()
        return [weight]

    torch.testing.assert_close(*both_ends(run))


def test_a_gradient_of_zeros_without_memory():
    def run(executor):
        weight = torch.ones(4, 4, requires_grad=True)
        optimizer = surefoot.AdamW([weight], executor=executor)
        for grad in (torch.ones(4, 4), torch._efficientzerotensor(4, 4), torch.ones(4, 4)):
            weight.grad = grad
            optimizer.step()
        return [weight]

    torch.testing.assert_close(*both_ends(run))


def test_a_parameter_swapped_for_a_sparse_one():
    weight = torch.nn.Parameter(torch.ones(4, 4))
    optimizer = surefoot.SGD([weight], lr=0.1)
    step(optimizer, [torch.ones(4, 4)])
    optimizer.zero_grad()
    torch.utils.swap_tensors(weight, torch.nn.Parameter(torch.eye(4).to_sparse()))
    optimizer.step()


@pytest.mark.parametrize("alias", ["detach", "numpy"])
def test_a_count_set_through_an_alias(alias):
    (weight,) = parameters(shapes=((2,),))
    optimizer = surefoot.Adam([weight])
    step(optimizer, [torch.ones(2)])
    count = getattr(optimizer.state[weight]["step"], alias)()
    for _ in range(3):
        step(optimizer, [torch.ones(2)])
    count[...] = 1000.0
    step(optimizer, [torch.ones(2)])
    assert optimizer.state[weight]["step"] == 1001


def test_state_in_a_graph_counts_as_changed():
    (weight,) = parameters(shapes=((2,),))
    optimizer = surefoot.Adam([weight])
    step(optimizer, [torch.ones(2)])
    factor = torch.ones(2, requires_grad=True)
    loss = (factor * optimizer.state[weight]["exp_avg"]).sum()
    step(optimizer, [torch.ones(2)])
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("executor", ["cpu", "eager"])
def test_gradients_are_let_go_after_the_step(executor):
    (weight,) = parameters(shapes=((2,),))
    optimizer = surefoot.Adam([weight], executor=executor)
    weight.grad = torch.ones(2)
    optimizer.step()
    gone = weakref.ref(weight.grad)
    weight.grad = None
    assert gone() is None


def test_another_group_dict_and_other_keys():
    (weight,) = parameters(shapes=((2,),))
    optimizer = surefoot.SGD([weight], lr=0.0)
    step(optimizer, [torch.ones(2)])
    before = weight.detach().clone()
    old = optimizer.param_groups[0]
    optimizer.param_groups[0] = dict(old, mine=1)
    old["lr"] = 100.0
    step(optimizer, [torch.ones(2)])
    del optimizer.param_groups[0]["mine"]
    optimizer.param_groups[0]["yours"] = 2
    step(optimizer, [torch.ones(2)])
    assert_same(weight.detach(), before)


def test_a_parameter_appended_to_named_ones_is_called_by_its_place():
    optimizer = surefoot.SGD(torch.nn.Linear(2, 1).named_parameters(), stats=True)
    optimizer.param_groups[0]["params"].append(torch.ones(2, requires_grad=True))
    step(optimizer, [torch.ones(1, 2), torch.ones(1), torch.ones(2)])
    assert list(optimizer.last_step.stats) == ["weight", "bias", "2 of group 0"]


def test_settings_of_the_wrong_kind_are_named():
    optimizer = surefoot.SGD(parameters())
    optimizer.executor = "gpu"
    with pytest.raises(ValueError, match="executor='gpu' does not exist"):
        optimizer.step()
    with pytest.raises(TypeError, match="clip_norm='a' is a str: pass a number"):
        surefoot.SGD(parameters(), clip_norm="a")


@pytest.mark.parametrize("executor", ["cpu", "eager"])
def test_betas_in_an_array_are_two_numbers(executor):
    array, pair = (surefoot.Adam(parameters(), executor=executor) for _ in range(2))
    array.param_groups[0]["betas"] = numpy.array([0.8, 0.99])
    pair.param_groups[0]["betas"] = (0.8, 0.99)
    for grads in gradients(3):
        step(array, grads)
        step(pair, grads)
    assert_same(tensors_of(array), tensors_of(pair))
    assert f"{executor}: 3 tensors" in repr(array)
