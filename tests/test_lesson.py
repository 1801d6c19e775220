"""Every promise of the lesson, with its import line changed and nothing else."""

import math

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import surefoot as optim
from surefoot import LRFinder


class Net(nn.Module):
    """Two parts, as the lesson's models have: one that was trained before, one that is new."""

    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(64, 32), nn.ReLU())
        self.head = nn.Linear(32, 10)

    def forward(self, images):
        return self.head(self.backbone(images))


@pytest.fixture(scope="module")
def digits():
    data = load_digits()
    images = torch.tensor(data.data / 16, dtype=torch.float32)
    return TensorDataset(images[:512], torch.tensor(data.target[:512]))


@pytest.fixture
def loader(digits):
    return DataLoader(digits, batch_size=32, shuffle=True, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def model():
    return Net()


criterion = nn.CrossEntropyLoss()

OPTIMIZERS = {
    "SGD": lambda p: optim.SGD(p, lr=0.1),
    "SGD, momentum": lambda p: optim.SGD(p, lr=0.1, momentum=0.9),
    "SGD, Nesterov": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "Adam": lambda p: optim.Adam(p, lr=0.001, betas=(0.9, 0.999), eps=1e-8),
    "AdamW": lambda p: optim.AdamW(p, lr=0.001, weight_decay=0.01),
    "RAdam": lambda p: optim.RAdam(p, lr=0.001),
    "NAdam": lambda p: optim.NAdam(p, lr=0.001),
}


def train_step(model, optimizer, batch):
    inputs, targets = batch
    predictions = model(inputs)
    loss = criterion(predictions, targets)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss


def mean_loss(model, dataset):
    with torch.no_grad():
        return criterion(model(dataset.tensors[0]), dataset.tensors[1]).item()


def lrs_over(scheduler, optimizer, steps):
    """The first group's lr at each step of a training loop."""
    seen = []
    for _ in range(steps):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return seen


# The optimizers


@pytest.mark.parametrize("build", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_each_optimizer_reduces_the_error(build, model, loader, digits):
    optimizer = build(model.parameters())
    before = mean_loss(model, digits)
    for _ in range(10):
        for batch in loader:
            train_step(model, optimizer, batch)
    assert mean_loss(model, digits) < 0.95 * before


def test_without_zero_grad_new_gradients_add_to_old_ones(model, digits):
    optimizer = optim.SGD(model.parameters(), lr=0.01)
    inputs, targets = digits[:32]
    criterion(model(inputs), targets).backward()
    once = model.head.weight.grad.clone()
    criterion(model(inputs), targets).backward()
    torch.testing.assert_close(model.head.weight.grad, 2 * once)
    optimizer.zero_grad()
    assert model.head.weight.grad is None


def path_in_a_valley(**settings):
    """Thirty steps down f(x, y) = (x^2 + 50 y^2) / 2 from (10, 1): a valley that is steep across."""
    path = []
    point = torch.tensor([10.0, 1.0], requires_grad=True)
    optimizer = optim.SGD([point], lr=0.024, **settings)
    for _ in range(30):
        optimizer.zero_grad()
        (point @ (torch.tensor([1.0, 50.0]) * point) / 2).backward()
        optimizer.step()
        path.append(point.detach().clone())
    return torch.stack(path)


def test_plain_sgd_steps_against_the_slope():
    # Along each axis x <- (1 - lr * curvature) x.
    end = torch.tensor([10 * 0.976**30, 0.2**30])
    torch.testing.assert_close(path_in_a_valley()[-1], end, rtol=1e-5, atol=1e-7)


def test_momentum_gets_further_down_the_valley():
    assert path_in_a_valley(momentum=0.8)[-1, 0].abs() < path_in_a_valley()[-1, 0].abs() / 4


def test_nesterov_looks_ahead_and_swings_less_across():
    ahead, plain = path_in_a_valley(momentum=0.8, nesterov=True), path_in_a_valley(momentum=0.8)
    assert ahead[:, 1].abs().sum() < plain[:, 1].abs().sum()


def test_adam_moves_every_weight_at_its_own_pace():
    weights = torch.zeros(2, requires_grad=True)
    optimizer = optim.Adam([weights], lr=0.001)
    (weights @ torch.tensor([1000.0, 0.001])).backward()
    optimizer.step()
    torch.testing.assert_close(weights.detach(), torch.tensor([-0.001, -0.001]), rtol=1e-4, atol=0)


def test_adamw_decays_apart_from_the_gradient():
    def after_one_step(build):
        weight = torch.tensor([1.0], requires_grad=True)
        optimizer = build([weight], lr=0.1, weight_decay=0.5)
        (1000 * weight).sum().backward()
        optimizer.step()
        return weight.item()

    # The gradient drowns an L2 term of Adam; AdamW's decay of lr * weight_decay is untouched by it.
    assert after_one_step(optim.Adam) == pytest.approx(1 - 0.1)
    assert after_one_step(optim.AdamW) == pytest.approx(1 - 0.1 * 0.5 - 0.1)


def test_radam_starts_with_plain_steps_until_its_variance_is_known():
    weight = torch.zeros(1, requires_grad=True)
    optimizer = optim.RAdam([weight], lr=0.001)
    moves = []
    for _ in range(7):
        before = weight.item()
        weight.grad = torch.tensor([100.0])
        optimizer.step()
        moves.append(before - weight.item())
    assert moves[:5] == pytest.approx([0.1] * 5)  # lr * gradient
    assert max(moves[5:]) < 0.001  # from here each weight has its own pace


def test_nadam_is_ahead_of_adam():
    def after(build, steps=5):
        weight = torch.zeros(1, requires_grad=True)
        optimizer = build([weight], lr=0.001)
        for step in range(steps):
            weight.grad = torch.tensor([float(step + 1)])  # a slope that gets steeper
            optimizer.step()
        return -weight.item()

    assert after(optim.NAdam) > after(optim.Adam)


# Optimizer state


def test_the_memory_can_be_seen(model, loader):
    optimizer = optim.Adam(model.parameters())
    train_step(model, optimizer, next(iter(loader)))
    memory = optimizer.state_dict()
    assert memory["state"][0].keys() == {"step", "exp_avg", "exp_avg_sq"}
    assert memory["state"][0]["exp_avg"].shape == model.backbone[0].weight.shape
    assert memory["param_groups"][0]["lr"] == 0.001
    assert "exp_avg" in str(memory)


@pytest.mark.parametrize("build", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_saving_and_loading_continues_where_it_left_off(build, digits, tmp_path):
    batches = list(DataLoader(digits, batch_size=128))

    def fresh():
        torch.manual_seed(1)
        model = Net()
        return model, build(model.parameters())

    model, optimizer = fresh()
    for batch in batches[:5]:
        train_step(model, optimizer, batch)
    torch.save(
        {"model_state": model.state_dict(), "optimizer_state": optimizer.state_dict(), "epoch": 3},
        tmp_path / "checkpoint.pth",
    )
    for batch in batches[5:10]:
        train_step(model, optimizer, batch)

    resumed, resumed_optimizer = fresh()
    checkpoint = torch.load(tmp_path / "checkpoint.pth")
    resumed.load_state_dict(checkpoint["model_state"])
    resumed_optimizer.load_state_dict(checkpoint["optimizer_state"])
    assert checkpoint["epoch"] == 3
    for batch in batches[5:10]:
        train_step(resumed, resumed_optimizer, batch)

    for one, other in zip(model.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("build", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_an_empty_state_forgets_everything(build, model, loader):
    batch = next(iter(loader))
    optimizer = build(model.parameters())
    train_step(model, optimizer, batch)
    start = [p.detach().clone() for p in model.parameters()]

    optimizer.state = {}
    train_step(model, optimizer, batch)
    reset = [p.detach().clone() for p in model.parameters()]

    with torch.no_grad():
        for p, value in zip(model.parameters(), start, strict=True):
            p.copy_(value)
    train_step(model, build(model.parameters()), batch)
    assert all(torch.equal(p, value) for p, value in zip(model.parameters(), reset, strict=True))


# Parameter groups


def test_groups_learn_at_their_own_rates(model, loader):
    optimizer = optim.Adam(
        [
            {"params": model.backbone.parameters(), "lr": 0.0001},
            {"params": model.head.parameters(), "lr": 0.001},
        ]
    )
    assert [f"Group {i}: lr = {g['lr']}" for i, g in enumerate(optimizer.param_groups)] == [
        "Group 0: lr = 0.0001",
        "Group 1: lr = 0.001",
    ]
    before = [p.detach().clone() for p in (model.backbone[0].bias, model.head.bias)]
    train_step(model, optimizer, next(iter(loader)))
    moved = [
        (p - b).abs().max().item()
        for p, b in zip((model.backbone[0].bias, model.head.bias), before, strict=True)
    ]
    # The first step of Adam is as long as the rate, up to float32's digits of a weight near 0.1.
    assert moved == pytest.approx([0.0001, 0.001], rel=1e-3)


def test_a_groups_rate_can_be_changed_at_any_time(model, loader):
    optimizer = optim.Adam(model.parameters(), lr=0.001)
    optimizer.param_groups[0]["lr"] = 0.0005
    before = model.head.bias.detach().clone()
    train_step(model, optimizer, next(iter(loader)))
    assert (model.head.bias - before).abs().max().item() == pytest.approx(0.0005, rel=1e-3)


def test_a_layer_without_gradients_is_frozen(model, loader):
    optimizer = optim.AdamW(model.parameters(), lr=0.01)
    model.backbone.requires_grad_(False)
    before = model.backbone[0].weight.clone()
    for batch in loader:
        train_step(model, optimizer, batch)
    assert torch.equal(model.backbone[0].weight, before)


# Schedulers


@pytest.fixture
def optimizer(model):
    return optim.SGD(model.parameters(), lr=0.1, momentum=0.9)


def test_step_lr_is_a_staircase(optimizer):
    scheduler = optim.lr_scheduler.StepLR(optimizer, step_size=10, gamma=0.1)
    lrs = lrs_over(scheduler, optimizer, 50)
    assert lrs == pytest.approx([0.1 * 0.1 ** (epoch // 10) for epoch in range(50)])


def test_exponential_lr_decays_smoothly(optimizer):
    scheduler = optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.95)
    assert lrs_over(scheduler, optimizer, 30) == pytest.approx([0.1 * 0.95**epoch for epoch in range(30)])


def test_reduce_on_plateau_halves_when_stuck_and_says_so(optimizer, capsys):
    scheduler = optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, mode="min", factor=0.5, patience=5, verbose=True
    )
    for val_loss in [1.0, 0.9, 0.8]:
        scheduler.step(val_loss)
    assert optimizer.param_groups[0]["lr"] == 0.1
    for _ in range(5):
        scheduler.step(0.8)
    assert capsys.readouterr().out == ""
    scheduler.step(0.8)
    assert optimizer.param_groups[0]["lr"] == 0.05
    assert "0.1 to 0.05" in capsys.readouterr().out


def test_warmup_is_a_lambda(optimizer):
    def warmup_lambda(epoch):
        warmup_epochs = 5
        if epoch < warmup_epochs:
            return epoch / warmup_epochs
        return 1.0

    scheduler = optim.lr_scheduler.LambdaLR(optimizer, lr_lambda=warmup_lambda)
    assert lrs_over(scheduler, optimizer, 8) == pytest.approx([0, 0.02, 0.04, 0.06, 0.08, 0.1, 0.1, 0.1])


def test_cosine_annealing_is_a_wave(optimizer):
    scheduler = optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=50, eta_min=1e-6)
    with pytest.warns(UserWarning, match="step 51 is past the end of the schedule, 50: lr goes up again"):
        lrs = lrs_over(scheduler, optimizer, 101)
    assert lrs[0] == 0.1
    assert lrs[25] == pytest.approx((0.1 + 1e-6) / 2)
    assert lrs[50] == pytest.approx(1e-6)
    assert lrs[100] == pytest.approx(0.1)  # breathing in again


def test_one_cycle_warms_up_peaks_and_cools_down_batch_by_batch(model, optimizer, loader):
    scheduler = optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.01, steps_per_epoch=len(loader), epochs=10)
    lrs, momenta = [], []
    for _ in range(10):
        for batch in loader:
            lrs.append(optimizer.param_groups[0]["lr"])
            momenta.append(optimizer.param_groups[0]["momentum"])
            train_step(model, optimizer, batch)
            scheduler.step()
    peak = lrs.index(max(lrs))
    assert len(lrs) == 160
    assert peak == round(0.3 * 160) - 1
    assert (lrs[0], lrs[peak], lrs[-1]) == pytest.approx((0.01 / 25, 0.01, 0.01 / 25e4))
    assert lrs[: peak + 1] == sorted(lrs[: peak + 1])
    assert lrs[peak:] == sorted(lrs[peak:], reverse=True)
    assert (momenta[0], momenta[peak], momenta[-1]) == pytest.approx((0.95, 0.85, 0.95))


def test_cyclic_bounces_between_its_bounds(optimizer):
    scheduler = optim.lr_scheduler.CyclicLR(
        optimizer, base_lr=0.001, max_lr=0.01, step_size_up=20, mode="triangular"
    )
    lrs = lrs_over(scheduler, optimizer, 81)
    assert [lrs[i] for i in (0, 20, 40, 60, 80)] == pytest.approx([0.001, 0.01, 0.001, 0.01, 0.001])
    assert lrs[10] == pytest.approx(0.0055)


# Finding the learning rate


def test_the_hand_written_range_test(model, loader):
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    lrs, losses = [], []
    lr, lr_mult = 1e-4, 1.1
    for batch in (batch for _ in range(20) for batch in loader):
        for param_group in optimizer.param_groups:
            param_group["lr"] = lr
        loss = train_step(model, optimizer, batch)
        lrs.append(lr)
        losses.append(loss.item())
        if loss > 4 * min(losses):
            break
        lr *= lr_mult
    assert losses[-1] > 4 * min(losses)  # it exploded,
    assert min(losses) < losses[0] / 2  # after it fell,
    assert losses[10] > 0.9 * losses[0]  # after it was flat
    import matplotlib.pyplot as plt

    plt.plot(lrs, losses)
    plt.xscale("log")
    plt.xlabel("Learning Rate")
    plt.ylabel("Loss")


def test_the_finder_suggests_before_things_go_bad_and_leaves_no_trace(model, loader, digits):
    optimizer = optim.AdamW(model.parameters(), lr=1e-5)
    before = [p.detach().clone() for p in model.parameters()]
    lr_finder = LRFinder(model, optimizer, criterion)
    lr_finder.range_test(loader, end_lr=10, num_iter=100)
    axes, suggestion = lr_finder.plot()
    lrs, losses = lr_finder.history["lr"], lr_finder.history["loss"]
    assert 1e-4 < suggestion < lrs[losses.index(min(losses))]  # where it falls, not the minimum
    assert "Suggested" in axes.get_title()

    lr_finder.reset()
    assert all(torch.equal(p, value) for p, value in zip(model.parameters(), before, strict=True))
    assert not optimizer.state

    optimizer.param_groups[0]["lr"] = suggestion
    for batch in loader:
        train_step(model, optimizer, batch)
    assert mean_loss(model, digits) < 1.0


# Putting it all together


def test_the_complete_example(model, loader, digits, capsys):
    optimizer = optim.AdamW(
        [
            {"params": model.backbone.parameters(), "lr": 1e-4},
            {"params": model.head.parameters(), "lr": 1e-3},
        ],
        weight_decay=0.01,
    )
    scheduler = optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=[1e-3, 1e-2], steps_per_epoch=len(loader), epochs=10
    )
    for epoch in range(10):
        for batch in loader:
            optimizer.zero_grad()
            inputs, targets = batch
            loss = criterion(model(inputs), targets)
            loss.backward()
            optimizer.step()
            scheduler.step()
        print(f"Epoch {epoch}, LR: {scheduler.get_last_lr()}")  # noqa: T201

    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 10
    backbone, head = scheduler.get_last_lr()
    assert head == pytest.approx(10 * backbone)
    assert math.isclose(head, 1e-2 / 25e4)
    assert mean_loss(model, digits) < 0.6  # guessing is 2.3
