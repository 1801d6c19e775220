import pytest
import torch
from torch.nn.functional import cross_entropy

import surefoot
from surefoot.bench import workloads
from surefoot.bench.workloads import EVERY_OPTIMIZER, MODELS, OPTIMIZERS, SHAPES, available, counterpart

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize(
    ("shape", "tensors", "parameters"),
    [
        ("MLP", 4, 9_610),
        ("24-layer MLP", 98, 103_562),
        ("465 groups", 465, 119_040),
        ("1000 x 256", 1000, 256_000),
        ("ResNet-50", 161, 25_557_032),
        ("GPT-2 small", 148, 124_439_808),
    ],
)
def test_shapes_are_those_of_the_real_models(shape, tensors, parameters):
    shapes = SHAPES[shape]()
    assert len(shapes) == tensors
    assert sum(torch.Size(size).numel() for size in shapes) == parameters


def test_every_shape_is_in_the_test_above_and_both_for_all_optimizers_exist():
    assert len(SHAPES) == 6
    assert {*EVERY_OPTIMIZER} <= {*SHAPES}


def test_shapes_of_a_model_draw_no_random_numbers():
    before = torch.get_rng_state()
    assert workloads.shapes_of(workloads.mlp) == [(128, 64), (128,), (10, 128), (10,)]
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", MODELS)
def test_models_learn_from_their_batch(name):
    build, batch = MODELS[name]
    model, (inputs, targets) = build(), batch()
    cross_entropy(model(inputs).flatten(0, -2), targets.flatten()).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_the_small_gpt_does_not_look_ahead():
    model = workloads.GPT().eval()
    tokens = torch.randint(256, (1, 64))
    changed = tokens.clone()
    changed[0, 40:] = 0
    same = torch.isclose(model(tokens), model(changed), atol=1e-5).all(dim=-1)[0]
    assert same[:40].all()
    assert not same[40:].all()


def test_the_optimizers_are_ours_and_no_class_of_ours_is_left_out():
    ours = {
        name
        for name in surefoot.optimizers.__all__
        if isinstance(getattr(surefoot.optimizers, name), type) and name != "Optimizer"
    }
    assert {name for name, _ in available().values()} == ours
    assert {"SGD", "SGD momentum", "SGD nesterov", "Adam", "AdamW", "NAdam", "RAdam"} <= {*available()}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_both_sides_can_be_built(optimizer):
    weight = torch.ones(3, requires_grad=True)
    if choice := counterpart(optimizer):
        name, settings = choice
        getattr(torch.optim, name)([weight], **settings)
    if choice := available().get(optimizer):
        name, settings = choice
        getattr(surefoot, name)([weight], **settings)


def test_the_same_update_on_both_sides():
    for optimizer, ours in available().items():
        ends = []
        for module, choice in ((surefoot, ours), (torch.optim, counterpart(optimizer))):
            if choice is None:  # torch has none
                continue
            weight = torch.linspace(-1, 1, 9).requires_grad_()
            weight.grad = torch.linspace(2, -1, 9)
            step = getattr(module, choice[0])([weight], **choice[1]).step
            for _ in range(3):
                step()
            ends.append(weight.detach())
        torch.testing.assert_close(ends[0], ends[-1], msg=optimizer)
