import math
import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as limited
from hypothesis import strategies as st

from surefoot.choices import OPTIMIZERS, RISING, SCHEDULES, arguments
from surefoot.settings import Settings, as_toml, read


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"optimizer": "adamm"}, r"optimizer 'adamm' is not known\. Did you mean 'adam'\?.*radam"),
        ({"optimizer": 3}, r"optimizer 3 is not known\. Choose from: adadelta"),
        ({"optimizer": ["sgd"]}, r"optimizer \['sgd'\] is not known"),
        ({"schedule": "zzz"}, r"schedule 'zzz' is not known\. Choose from: constant"),
        ({"schedule": "cosin(5)"}, r"schedule, column 1: 'cosin' is no curve: did you mean 'cosine'\?"),
        ({"schedule": 5}, "schedule 5 is not known"),
        ({"task": ""}, "task is ''"),
        ({"lr": -1.0}, "lr is -1.0"),
        ({"lr": math.nan}, "lr is nan"),
        ({"lr": "fast"}, "lr is 'fast'"),
        ({"lr": True}, "lr is True"),
        ({"warmup": -1}, "warmup is -1: it must be at least 0"),
        ({"warmup": 5}, "warmup is 5, and schedule is 'onecycle': it goes with constant, cosine"),
        ({"warmup": 5, "schedule": "cosine(5)"}, r"write warmup\(...\) >> ... in it"),
        ({"epochs": 0}, "epochs is 0"),
        ({"epochs": 2.5}, "epochs is 2.5: it must be a whole number"),
        ({"epochs": True}, "epochs is True: it must be a whole number"),
        ({"steps": -1}, "steps is -1"),
        ({"batch_size": -3}, "batch_size is -3"),
        ({"weight_decay": -0.1}, "weight_decay is -0.1"),
        ({"clip_norm": math.inf}, "clip_norm is inf"),
        ({"momentum": 0.9}, "momentum is not of adamw: it goes with rmsprop, sgd"),
        ({"momentum": 1.0, "optimizer": "sgd"}, "momentum is 1.0: it must be at least 0 and below 1"),
        ({"betas": (0.9, 0.99), "optimizer": "sgd"}, "betas is not of sgd: it goes with adam, adamax"),
        ({"betas": (0.9,)}, r"betas is \(0.9,\): it must be two numbers"),
        ({"betas": 0.9}, "betas is 0.9"),
        ({"evaluate_every": -1}, "evaluate_every is -1"),
        ({"patience": "x"}, "patience is 'x'"),
        ({"threads": -1}, "threads is -1"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 2**63}, "seed is 9223372036854775808"),
        ({"seeds": 1}, "setting 'seeds' is not known. Did you mean 'seed'"),
        ({"versions": 1}, "setting 'versions' is not known"),
    ],
)
def test_settings_are_checked_before_anything_runs(wrong, message):
    with pytest.raises(ValueError, match=message):
        Settings.of(wrong)


SETTINGS = st.builds(
    dict,
    task=st.text(min_size=1).filter(lambda text: all(not 0xD800 <= ord(c) < 0xE000 for c in text)),
    optimizer=st.sampled_from([name for name in OPTIMIZERS if "betas" in arguments(name)]),
    lr=st.none() | st.floats(1e-300, 1e300),
    schedule=st.sampled_from(["constant", "cosine", "warmup(5) >> cosine(10, to=0.1)"]),
    steps=st.integers(0, 10**6),
    epochs=st.integers(1, 10**6),
    betas=st.none() | st.tuples(st.floats(0, 0.999), st.floats(0, 0.999)),
    clip_norm=st.floats(0, 1e300),
    seed=st.integers(0, 2**63 - 1),
)


@limited(max_examples=50)
@given(SETTINGS, st.dictionaries(st.text(string.ascii_lowercase, min_size=1), st.text() | st.booleans()))
def test_a_saved_file_gives_the_same_settings(values, about):
    settings = Settings.of(values)
    with pytest.MonkeyPatch.context() as patch:
        text = as_toml(settings, versions={"torch": "2"}, git=about)
        patch.setattr("pathlib.Path.read_text", lambda *_, **__: text)
        again = Settings.of(read(Path("settings.toml")))
    values["epochs"] = 12 if values["steps"] else values["epochs"]  # which then says nothing
    assert again == Settings.of(values)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lr = ", r"mine\.toml is no TOML file: Invalid value \(at end of document\)"),
        ("seed = 1\nseed = 2", "is no TOML file: Cannot overwrite a value"),
        ("optimiser = 'sgd'", "setting 'optimiser' is not known. Did you mean 'optimizer'?"),
        ("optimizer = 'adamm'", r"mine\.toml: optimizer 'adamm' is not known"),
        ("[optimizer]\nlr = 1", r"mine\.toml: optimizer \{'lr': 1\} is not known"),
        ("[training]\nlr = 1", r"mine\.toml: setting 'training' is not known"),
    ],
)
def test_a_file_that_is_wrong_is_named(tmp_path, text, message):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read(path)
    path.write_bytes(b"task = '\xff'")
    with pytest.raises(ValueError, match=r"mine\.toml is no TOML file"):
        read(path)


def test_every_schedule_that_takes_a_warmup_is_one():
    assert RISING.keys() <= SCHEDULES.keys()
    for name in RISING:
        assert Settings(schedule=name, warmup=3).warmup == 3


def test_nothing_is_given_to_the_optimizer_that_was_not_said():
    assert Settings().for_optimizer() == {}
    said = Settings(optimizer="sgd", momentum=0.0, clip_norm=1.0).for_optimizer()
    assert said == {"momentum": 0.0, "clip_norm": 1.0}
