import pytest

from surefoot.kernels import choose


def test_executors_are_there_by_name_and_the_cpus_when_nothing_is_asked_for():
    assert choose("eager") == "eager"
    assert choose("cpu") == choose(None) == "cpu"


@pytest.mark.parametrize("name", ["warp", "Eager"])
def test_an_unknown_executor_is_named(name):
    with pytest.raises(
        ValueError, match=rf"executor='{name}' does not exist: choose from \['cpu', 'eager'.*\] or None"
    ):
        choose(name)
