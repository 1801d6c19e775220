"""What is written from a rule's source, and which rules have no kernel."""

import pytest
import torch
from small import optimizer_of, stepped
from torch import abs, maximum, minimum, sign, sqrt, where  # noqa: A004

from surefoot.kernels.source import Layout, UnsupportedRuleError, kernel_source
from surefoot.rule import rule

HALF = 0.5
PLAIN = Layout("float32", "float32", (), (True,))


@rule
def unknown_name(param, grad, /, lr):
    return (param - lr * torch.sign(grad),)


def test_literals_are_of_the_arithmetics_type():
    @rule
    def shrink(param, grad, /, lr):
        return (0.5 * param - 2 * lr * grad,)

    source = kernel_source(shrink, PLAIN)
    assert "constant_0 = float32(0.5)" in source
    assert "constant_1 = float32(2.0)" in source


def test_a_rule_with_an_unknown_name_is_eagers():
    with pytest.raises(UnsupportedRuleError, match=r"torch\.sign"):
        kernel_source(unknown_name, PLAIN)
    optimizer = optimizer_of(unknown_name)
    torch.testing.assert_close(stepped(optimizer), torch.full((3,), 0.9))
    assert "eager: 1 tensor (rule 'unknown_name' cannot be compiled: it calls torch.sign" in repr(optimizer)


def test_a_rule_without_source_is_eagers():
    namespace = {"rule": rule}
    exec(
        "def typed_in(param, grad, /, lr):\n    return (param - lr * grad,)\ntyped = rule(typed_in)",
        namespace,
    )
    with pytest.raises(UnsupportedRuleError, match="its source cannot be read"):
        kernel_source(namespace["typed"], PLAIN)
    torch.testing.assert_close(stepped(optimizer_of(namespace["typed"])), torch.full((3,), 0.95))


def test_a_rule_may_use_the_whole_vocabulary():
    @rule
    def wordy(param, grad, /, lr):
        size = maximum(minimum(abs(grad), 4.0 * param), param)
        return (where(param > 0.0, param - lr * sign(grad) * sqrt(size), param),)

    weight = torch.tensor([1.0, -1.0, 1.0, 1.0, torch.nan])
    grad = torch.tensor([-4.0, 4.0, 0.0, torch.nan, 1.0])
    ends = []
    for executor in ("cpu", "eager"):
        optimizer = optimizer_of(wordy, executor=executor)
        optimizer.param_groups[0]["params"][0].data = weight.clone()
        optimizer.param_groups[0]["params"][0].grad = grad.clone()
        ends.append(stepped(optimizer))
        assert f"{executor}: 1 tensor" in repr(optimizer)
    torch.testing.assert_close(*ends, equal_nan=True)
    torch.testing.assert_close(ends[0][:3], torch.tensor([1.2, -1.0, 1.0]))


def test_constants_of_the_module_are_known():
    @rule
    def scaled(param, grad, /, lr):
        return (param - HALF * lr * grad,)

    optimizer = optimizer_of(scaled)
    torch.testing.assert_close(stepped(optimizer), torch.full((3,), 0.975))
    assert "cpu: 1 tensor" in repr(optimizer)
