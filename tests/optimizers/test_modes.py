"""The two flags that change how a step is carried out: ``differentiable`` and ``capturable``."""

import pytest
import torch
from cases import CASES, CLASSES
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from walk import FLOAT32, FLOAT64, default_dtype, gradients, parameters, params_of, walk

# torch refuses differentiable with foreach or fused.
DIFFERENTIABLE = pytest.mark.parametrize(
    "case", [case for case in CASES if not case.kwargs.keys() & {"foreach", "fused"}], ids=str
)
CAPTURABLE = pytest.mark.parametrize(
    "case",
    [case for case in CASES if "capturable" in case.ours([torch.ones(1, requires_grad=True)]).defaults],
    ids=str,
)
SHAPE = (4,)


def _warm_state(case):
    """The state after 7 steps (RAdam is rectified from the 6th on), all of it in float64.

    In this mode torch computes with the count as a tensor, in the count's dtype.
    """
    optimizer = case.torchs(parameters(torch.float64, (SHAPE,)))
    walk(optimizer, gradients(7, torch.float64, (SHAPE,)))
    (weight,) = params_of(optimizer)
    state = {name: value.double() for name, value in optimizer.state[weight].items()}
    if "prev" in state:  # Rprop's is 0 after a turn, and there a step has no derivative
        state["prev"] = torch.where(state["prev"] == 0, 1.0, state["prev"])
    return state


def _one_step(build, state, rate, weight, grad, *buffers):
    """A step as autograd sees it: weight, gradient, rate and buffers in, the new weight and buffers out."""
    param = weight.clone()  # not a leaf, so that it can be updated under autograd
    param.grad = grad
    optimizer = build([param], lr=rate, differentiable=True)
    names = [name for name, value in state.items() if value.shape == SHAPE]
    state = {name: value.clone() for name, value in state.items()}
    state |= {name: buffer.clone() for name, buffer in zip(names, buffers, strict=True)}
    optimizer.state[param].update(state)
    optimizer.step()
    return (param, *(optimizer.state[param][name] for name in names))


def _inputs(state):
    buffers = [value for value in state.values() if value.shape == SHAPE]
    weight, grad = (
        torch.randn(SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(i)) for i in (3, 4)
    )
    rate = torch.tensor(0.02, dtype=torch.float64)
    return [t.clone().requires_grad_() for t in (rate, weight, grad, *buffers)]


def _gradcheck(function, *inputs):
    """With counters in double precision, and differences that are small beside Adadelta's eps of 1e-6."""
    with default_dtype(torch.float64):
        assert torch.autograd.gradcheck(function, inputs, eps=1e-8)


@DIFFERENTIABLE
@pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])
def test_autograd_differentiates_through_a_step(case, warm):
    state = _warm_state(case) if warm else {}

    def one_step(*inputs):
        return _one_step(case.ours, state, *inputs)

    _gradcheck(one_step, *_inputs(state))


@DIFFERENTIABLE
def test_the_derivative_of_a_step_is_torchs(case):
    if case.name == "ASGD" and case.kwargs.get("t0") == 5:
        pytest.skip("torch cannot differentiate an average: it writes to mu in place")
    state = _warm_state(case)
    derivatives = []
    for build in (case.ours, case.torchs):
        rate, weight, grad, *buffers = _inputs(state)
        inputs = [rate, weight, grad, *buffers]
        # torch's other classes take the rate as a number; and one that also decays the weight in place.
        in_torch = case.name in ("SGD", "Adam", "RAdam", "NAdam")
        if not in_torch or case.kwargs.get("decoupled_weight_decay"):
            rate = inputs.pop(0).detach()
        outputs = _one_step(build, state, rate, weight, grad, *buffers)
        total = sum((i + 1) * (output**2).sum() for i, output in enumerate(outputs))
        derivatives.append(torch.autograd.grad(total, inputs))
    torch.testing.assert_close(*derivatives, **FLOAT64)  # float64, one step


@DIFFERENTIABLE
def test_a_rate_is_learned_through_several_steps(case):
    (start,) = parameters(torch.float64, (SHAPE,))

    def loss_after_training(rate):
        param = start.clone()
        optimizer = case.ours([param], lr=rate, differentiable=True)
        for _ in range(3):
            inner = ((param.clone() - 1) ** 4).sum()  # a clone: the step writes to param
            (param.grad,) = torch.autograd.grad(inner, param, create_graph=True)
            optimizer.step()
        return ((param - 1) ** 4).sum()

    _gradcheck(loss_after_training, torch.tensor(0.02, dtype=torch.float64, requires_grad=True))


@DIFFERENTIABLE
def test_differentiable_changes_no_number(case):
    grads = gradients(5, torch.float64)
    params = [p.clone() for p in parameters(torch.float64)]
    differentiable = case.ours(params, differentiable=True)
    plain = case.ours(parameters(torch.float64))
    torch.testing.assert_close(walk(differentiable, grads), walk(plain, grads), **FLOAT64)


@CAPTURABLE
def test_capturable_changes_no_number(case):
    capturable, plain = (
        case.ours(parameters(torch.float64), capturable=True),
        case.ours(parameters(torch.float64)),
    )
    grads = gradients(100, torch.float64)
    # NAdam's product of momenta and ASGD's rate are kept in float32, and rounded differently by tensors.
    tolerance = FLOAT32 if case.name in ("NAdam", "NAdamW", "ASGD") else FLOAT64
    torch.testing.assert_close(walk(capturable, grads), walk(plain, grads), **tolerance)


def _fake_step(case, **flags):
    """Take two steps on tensors without data: everything works on them but reading a number."""
    mode = FakeTensorMode(allow_non_fake_inputs=True)  # a rate may be a tensor with data
    weight, grad = (mode.from_tensor(torch.ones(3)) for _ in range(2))
    optimizer = case.ours([weight.requires_grad_()], **flags)
    for name, start in optimizer.counters.items():  # a count made inside would be known, without being read
        optimizer.state[weight][name] = mode.from_tensor(torch.tensor(start))
    weight.grad = grad
    with mode:
        optimizer.step()
        optimizer.step()


@CAPTURABLE
def test_a_capturable_step_reads_no_number_back(case):
    _fake_step(case, capturable=True)


@pytest.mark.parametrize(
    "case",  # those that need the count
    [
        case
        for case in CLASSES
        if case.name in ("Adam", "AdamW", "RAdam", "NAdam", "NAdamW", "Adamax", "ASGD")
    ],
    ids=str,
)
def test_the_test_above_would_notice(case):
    with pytest.raises(DataDependentOutputException):
        _fake_step(case)


@CAPTURABLE
def test_a_capturable_count_is_on_the_weights_device(case):
    weight = torch.empty(3, device="meta", requires_grad=True)
    optimizer = case.ours([weight], capturable=True)
    weight.grad = torch.empty_like(weight)
    optimizer.step()
    assert {value.device.type for value in optimizer.state[weight].values()} == {"meta"}


@pytest.mark.parametrize("case", [case for case in CLASSES if case.name != "SGD"], ids=str)
def test_a_count_is_on_the_host_otherwise(case):
    weight = torch.empty(3, device="meta", requires_grad=True)
    optimizer = case.ours([weight])
    weight.grad = torch.empty_like(weight)
    optimizer.step()
    assert {optimizer.state[weight][name].device.type for name in optimizer.counters} == {"cpu"}


@CAPTURABLE
def test_capturable_updates_every_tensor_in_place(case):
    """As a captured graph writes to the tensors that it was captured with."""
    _assert_in_place(case.ours(parameters(), capturable=True))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_tensor_is_updated_in_place(case):
    _assert_in_place(case.ours(parameters()))


def _assert_in_place(optimizer):
    def everything():
        return [*params_of(optimizer), *(v for entry in optimizer.state.values() for v in entry.values())]

    walk(optimizer, gradients(1))
    before, addresses = everything(), [t.data_ptr() for t in everything()]
    walk(optimizer, gradients(1))
    assert all(a is b for a, b in zip(everything(), before, strict=True))
    assert [t.data_ptr() for t in everything()] == addresses


@pytest.mark.parametrize(
    ("case", "flag"),
    [
        (case, flag)
        for case in CLASSES
        for flag in ("capturable", "differentiable")
        if flag in case.ours([torch.ones(1, requires_grad=True)]).defaults
    ],
    ids=str,
)
def test_a_rate_of_shape_1_does_not_broadcast(case, flag):
    def path(rate):
        params = [p.clone() if flag == "differentiable" else p for p in parameters()]
        return walk(case.ours(params, lr=rate, **{flag: True}), gradients(2))

    assert torch.equal(path(torch.tensor([0.1])), path(torch.tensor(0.1)))
