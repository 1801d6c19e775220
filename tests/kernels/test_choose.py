import pytest

from surefoot.kernels import choose, eager


def test_eager_is_there_by_name_and_when_nothing_is_asked_for():
    assert choose("eager") == ("eager", eager.run)
    name, run = choose(None)
    assert choose(name) == (name, run)


@pytest.mark.parametrize("name", ["warp", "Eager"])
def test_an_unknown_executor_is_named(name):
    with pytest.raises(
        ValueError, match=rf"executor='{name}' does not exist: choose from \['cpu', 'eager'.*\] or None"
    ):
        choose(name)
