import pytest

from surefoot import Rule, rule


def test_roles_are_read_from_the_signature():
    @rule
    def momentum(param, grad, buffer, other, /, lr, beta):
        return param - lr * grad, buffer, beta * other

    assert isinstance(momentum, Rule)
    assert momentum.buffers == ("buffer", "other")
    assert momentum.scalars == ("lr", "beta")
    assert momentum(1.0, 2.0, 3.0, 4.0, 0.5, 0.25) == (0.0, 3.0, 1.0)


def test_buffers_and_scalars_may_be_none():
    @rule
    def sign(param, grad, /):
        return (param - grad,)

    assert (sign.buffers, sign.scalars) == ((), ())


def _swapped(grad, param, /, lr): ...
def _no_slash(param, grad, lr): ...
def _no_grad(param, /, lr): ...
def _default(param, grad, /, lr=0.1): ...
def _default_buffer(param, grad, buffer=None, /): ...
def _keyword_only(param, grad, /, *, lr): ...
def _star(param, grad, /, *scalars): ...
def _double_star(param, grad, /, **scalars): ...
def _nothing(): ...


@pytest.mark.parametrize(
    "update",
    [
        _swapped,
        _no_slash,
        _no_grad,
        _default,
        _default_buffer,
        _keyword_only,
        _star,
        _double_star,
        _nothing,
    ],
)
def test_another_signature_is_refused_by_name(update):
    with pytest.raises(
        TypeError, match=rf"rule {update.__name__}\(.*write it as \(param, grad, <buffers>, /"
    ):
        rule(update)


@pytest.mark.parametrize("returned", [lambda p, b: p, lambda p, b: (p,), lambda p, b: (p, b, b)])
def test_a_rule_that_does_not_return_all_it_took_is_named(returned):
    @rule
    def forgetful(param, grad, momentum_buffer, /, lr):
        return returned(param - lr * grad, momentum_buffer)

    with pytest.raises(TypeError, match=r"forgetful must return a tuple of 2: param, momentum_buffer"):
        forgetful(1.0, 0.5, 0.0, 0.1)
