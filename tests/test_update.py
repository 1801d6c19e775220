import math
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from trainings import bits, dataset, everything, loss, net

import surefoot as optim
from surefoot import NonFiniteLossError, Run
from surefoot.update import update

pytestmark = pytest.mark.usefixtures("one_thread")

INPUTS, LABELS = dataset(12)[:]


def run_of(loss: Any = loss, optimizer: Any = lambda p: optim.AdamW(p, lr=0.01), **settings: Any) -> Run:
    """A small classifier without anything random."""
    torch.manual_seed(0)
    model = settings.pop("model", None) or nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
    if settings.pop("double", False):
        model.double()
    return Run(model, optimizer(model.parameters()), [], loss, **settings)


def weights(run: Run) -> Tensor:
    return nn.utils.parameters_to_vector(run.model.parameters()).detach().clone()


def split(sizes: list[int], *tensors: Tensor) -> list[Any]:
    return list(zip(*(tensor.split(sizes) for tensor in tensors), strict=True))


# Accumulation


@st.composite
def splits(draw: Any) -> list[int]:
    cuts = sorted(draw(st.sets(st.integers(1, 11))))
    return [end - start for start, end in zip([0, *cuts], [*cuts, 12], strict=True)]


@given(splits())
def test_44_any_split_of_a_batch_equals_the_batch(sizes: list[int]) -> None:
    def after(batches: list[Any]) -> tuple[Tensor, Tensor, float]:
        run = run_of(optimizer=lambda p: optim.SGD(p, lr=0.5), double=True)
        done = update(run, batches)
        return weights(run), done.loss, done.samples

    whole, parts = after([(INPUTS.double(), LABELS)]), after(split(sizes, INPUTS.double(), LABELS))
    torch.testing.assert_close(parts, whole, rtol=1e-12, atol=1e-13)  # sums of twelve in another order


@given(splits(), st.lists(st.integers(0, 4), min_size=12, max_size=12).filter(any))
def test_44_tokens_that_count_weigh_the_batches_not_their_length(sizes: list[int], seen: list[int]) -> None:
    mask = torch.arange(4) < torch.tensor(seen)[:, None]
    tokens = torch.where(mask, LABELS[:, None].expand(12, 4), -100)

    def token_loss(model: nn.Module, batch: Any) -> Any:
        logits = model(batch["inputs"])[:, None, :].expand(-1, 4, -1)
        return nn.functional.cross_entropy(logits.flatten(0, 1), batch["labels"].flatten())

    def after(batches: list[Any]) -> tuple[Tensor, Tensor, float]:
        run = run_of(
            token_loss,
            lambda p: optim.SGD(p, lr=0.5),
            double=True,
            count=lambda batch: (batch["labels"] != -100).sum(),
        )
        done = update(run, [{"inputs": inputs, "labels": labels} for inputs, labels in batches])
        return weights(run), done.loss, done.samples

    whole, parts = after([(INPUTS.double(), tokens)]), after(split(sizes, INPUTS.double(), tokens))
    torch.testing.assert_close(parts, whole, rtol=1e-12, atol=1e-13)
    assert whole[2] == sum(seen)


@pytest.mark.parametrize("counts", [[0.0], [0.0, 0.0], [-1.0, 2.0], [math.nan], [math.inf]])
def test_batches_must_hold_something(counts: list[float]) -> None:
    given = iter(counts)
    run = run_of(count=lambda batch: next(given))
    with pytest.raises(ValueError, match=r"count gave \[.*\] for the batches of an update"):
        update(run, [(INPUTS, LABELS)] * len(counts))


# What a loss may be


class Output(OrderedDict[str, Tensor]):
    """As a model of Hugging Face returns it: a mapping with attributes."""

    def __init__(self, loss: Tensor, logits: Tensor) -> None:
        super().__init__(loss=loss, logits=logits)
        self.loss, self.logits = loss, logits


class Classifier(nn.Module):
    """A model that computes its loss."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(6, 3)

    def forward(self, inputs: Tensor, labels: Tensor) -> Output:
        logits = self.net(inputs)
        return Output(nn.functional.cross_entropy(logits, labels), logits)


def test_an_output_of_hugging_faces_kind_has_its_loss() -> None:
    run = run_of(lambda model, batch: model(**batch), model=Classifier())
    expected = run.model(INPUTS, LABELS).loss
    done = update(run, [{"inputs": INPUTS, "labels": LABELS}])
    assert (done.loss, done.losses, done.samples) == (expected, {}, 12)


def named(model: nn.Module, batch: Any, *names: str) -> dict[str, Any]:
    first = loss(model, batch)
    losses = {"loss": first + 0.5, "class": first, "norm": first * 0 + 0.25, "number": 3.0}
    return {name: losses[name] for name in names}


@pytest.mark.parametrize(
    ("names", "total"),
    [
        (("loss", "class", "number"), lambda first: first + 0.5),
        (("class", "norm"), lambda first: first + 0.25),
        (("class",), lambda first: first),
    ],
)
@pytest.mark.parametrize("sizes", [[12], [5, 7]])
def test_losses_have_names(
    names: tuple[str, ...], total: Callable[[Tensor], Tensor], sizes: list[int]
) -> None:
    run = run_of(lambda model, batch: named(model, batch, *names))
    first = loss(run.model, (INPUTS, LABELS)).detach()
    done = update(run, split(sizes, INPUTS, LABELS))
    torch.testing.assert_close(done.loss, total(first))
    assert done.losses.keys() == {*names}
    torch.testing.assert_close(done.losses["class"], first)
    assert not any(value.requires_grad for value in (done.loss, *done.losses.values()))


@pytest.mark.parametrize(
    ("returned", "error", "message"),
    [
        (lambda value: None, TypeError, "the loss is a NoneType: return a scalar tensor, a dict"),
        (lambda value: "low", TypeError, "the loss is a str"),
        (lambda value: {}, ValueError, "the losses are an empty dict"),
        (lambda value: {"loss": None}, TypeError, "the loss 'loss' is a NoneType"),
        (
            lambda value: {"loss": value, "logits": torch.ones(4, 3)},
            ValueError,
            r"the loss 'logits' has the shape \(4, 3\)",
        ),
        (lambda value: value.expand(4), ValueError, r"the shape \(4,\): return one number, such as its mean"),
        (lambda value: value.detach(), ValueError, "depends on no parameter that requires a gradient"),
        (lambda value: 0.5, ValueError, "depends on no parameter"),
    ],
)
def test_what_is_no_loss_is_an_error(returned: Any, error: type[Exception], message: str) -> None:
    run = run_of(lambda model, batch: returned(loss(model, batch)))
    before = bits(run.model.state_dict())
    with pytest.raises(error, match=message):
        update(run, [(INPUTS, LABELS)])
    assert bits(run.model.state_dict()) == before


def test_a_loss_of_one_element_will_do() -> None:
    done = update(run_of(lambda model, batch: loss(model, batch)[None]), [(INPUTS, LABELS)])
    assert done.loss.ndim == 0


def test_frozen_parameters_stay_and_nothing_to_train_is_an_error() -> None:
    run = run_of()
    first, *_, last = run.model.parameters()
    first.requires_grad_(False)
    before = first.clone(), last.clone()
    update(run, [(INPUTS, LABELS)])
    assert (torch.equal(first, before[0]), torch.equal(last, before[1])) == (True, False)
    run.model.requires_grad_(False)
    with pytest.raises(ValueError, match="unfreeze some"):
        update(run, [(INPUTS, LABELS)])


# Modes


def test_what_was_put_in_evaluation_mode_stays_so_in_a_model_that_trains() -> None:
    run = run_of(model=net())
    norm = run.model[1].eval()
    update(run, [(INPUTS, LABELS)])
    assert norm.num_batches_tracked == 0
    run.model.eval()
    update(run, [(INPUTS, LABELS)])
    assert all(module.training for module in run.model.modules())


def test_what_is_lent_shows_no_trace_of_updates() -> None:
    run = run_of(optimizer=lambda p: torch.optim.Adam(p), model=net())
    before, hooks = everything(run.model, run.optimizer), dict(run.optimizer._optimizer_step_post_hooks)
    with run.borrow():
        for _ in range(3):
            update(run, [(INPUTS, LABELS)])
    assert everything(run.model, run.optimizer) == before
    assert run.optimizer._optimizer_step_post_hooks == hooks
    assert (run.step, run.batch) == (0, 0)


# Precision


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_computes_the_loss_in_less_precision(dtype: torch.dtype) -> None:
    seen = []

    def watched(model: nn.Module, batch: Any) -> Tensor:
        outputs = model(batch[0])
        seen.append(outputs.dtype)
        return nn.functional.cross_entropy(outputs.float(), batch[1])

    scaler = torch.amp.GradScaler("cpu") if dtype == torch.float16 else None
    run = run_of(watched, autocast=dtype, scaler=scaler)
    done = update(run, [(INPUTS, LABELS)])
    assert seen == [dtype]
    assert done.loss.dtype == torch.float32
    assert not torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize("library", [optim, torch.optim], ids=["ours", "torch's"])
def test_11_gradients_are_unscaled_before_they_are_clipped(library: Any) -> None:
    """And once: the weights are those of a training without a scaler."""
    clip = {"clip_norm": 0.1} if library is optim else {}
    ends = []
    for scaler in (None, torch.amp.GradScaler("cpu", init_scale=1024.0)):
        run = run_of(optimizer=lambda p: library.SGD(p, lr=1.0, **clip), scaler=scaler)
        before = weights(run)
        done = update(run, split([5, 7], INPUTS, LABELS))
        ends.append(weights(run))
        if library is optim:
            assert done.last_step is not None
            assert done.last_step.grad_norm > 0.1
            torch.testing.assert_close((ends[-1] - before).norm(), torch.tensor(0.1), rtol=1e-4, atol=0)
    torch.testing.assert_close(*ends, rtol=1e-6, atol=1e-7)  # powers of two scale exactly; sums may round


@pytest.mark.parametrize("library", [optim, torch.optim], ids=["ours", "torch's"])
@pytest.mark.parametrize("sizes", [[12], [5, 7]])
def test_22_a_step_the_scaler_skips_is_not_applied(library: Any, sizes: list[int]) -> None:
    run = run_of(
        autocast=torch.float16,
        optimizer=lambda p: library.AdamW(p, lr=0.01),
        scaler=torch.amp.GradScaler("cpu", init_scale=2.0**40, growth_interval=10**6),
    )
    run.average = optim.swa_utils.AveragedModel(run.model)
    before = bits(run.model.state_dict())
    done = update(run, split(sizes, INPUTS, LABELS))
    assert not done.applied
    assert bits(run.model.state_dict()) == before
    assert run.average.n_averaged == 0
    assert run.scaler.get_scale() == 2.0**39
    for _ in range(39):
        done = update(run, split(sizes, INPUTS, LABELS))
    assert done.applied
    assert run.average.n_averaged > 0


# Losses and gradients that are not finite


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("sizes", [[12], [5, 7]])
def test_12_a_loss_that_is_not_finite_updates_nothing(bad: float, sizes: list[int]) -> None:
    run = run_of()
    update(run, [(INPUTS, LABELS)])
    before = bits(run.model.state_dict()), bits(run.optimizer.state_dict())
    inputs = INPUTS.clone()
    inputs[-1] = bad
    batches = split(sizes, inputs, LABELS)
    run.step = 6
    with pytest.raises(
        NonFiniteLossError, match=r"loss is (nan|inf) at step 7, lr 0\.01: nothing was updated.*'skip'"
    ):
        update(run, batches, nonfinite="raise")
    done = update(run, batches, nonfinite="skip")
    assert (done.applied, done.last_step, math.isfinite(done.loss)) == (False, None, False)
    assert (bits(run.model.state_dict()), bits(run.optimizer.state_dict())) == before
    assert update(run, batches).applied
    assert not math.isfinite(weights(run).sum())


def test_12_a_gradient_that_is_not_finite_is_the_optimizers_to_judge() -> None:
    run = run_of(lambda model, batch: (model(batch) * 0).sum().sqrt())  # 0, whose slope is infinite
    run.optimizer.nonfinite = "skip"  # type: ignore[attr-defined]
    before = bits(run.model.state_dict())
    done = update(run, [INPUTS], nonfinite="raise")
    assert (done.applied, done.loss) == (False, 0.0)
    assert done.last_step is not None
    assert done.last_step.nonfinite
    assert bits(run.model.state_dict()) == before


# Closures and steps of one's own


@pytest.mark.parametrize("own", [False, True], ids=["loss", "step_fn"])
@pytest.mark.parametrize("sizes", [[12], [5, 7]])
def test_lbfgs_evaluates_the_same_batches_again(own: bool, sizes: list[int]) -> None:
    def after(run: Run) -> Tensor:
        for _ in range(2):
            done = update(run, split(sizes, INPUTS.double(), LABELS), nonfinite="raise")
            assert done.applied
        return weights(run)

    settings: dict[str, Any] = {
        "optimizer": lambda p: torch.optim.LBFGS(p, lr=0.5, max_iter=5),
        "double": True,
    }
    run = run_of(**settings)
    if own:
        run.loss, run.step_fn = None, lambda batch: loss(run.model, batch)
    by_hand = run_of(**settings)

    def closure() -> Tensor:
        by_hand.optimizer.zero_grad()
        value = loss(by_hand.model, (INPUTS.double(), LABELS))
        value.backward()
        return value

    for _ in range(2):
        by_hand.optimizer.step(closure)  # type: ignore[arg-type]
    torch.testing.assert_close(after(run), weights(by_hand), rtol=1e-9, atol=1e-9)


def own_step(run: Run, batch: Any) -> Tensor:
    run.optimizer.zero_grad()
    value = loss(run.model, batch)
    value.backward()
    run.optimizer.step()
    return value


@pytest.mark.parametrize("library", [optim, torch.optim], ids=["ours", "torch's"])
@pytest.mark.parametrize("returned", [lambda v: v, lambda v: v.detach(), lambda v: v.item()])
def test_a_step_fn_that_steps_is_left_alone(library: Any, returned: Any) -> None:
    def after(step_fn: Any) -> Any:
        run = run_of(optimizer=lambda p: library.AdamW(p, lr=0.01))
        if step_fn is not None:
            run.loss, run.step_fn = None, lambda batch: step_fn(run, batch)
        done = [update(run, [(INPUTS, LABELS)]) for _ in range(3)]
        assert [each.applied for each in done] == [True] * 3
        return bits(weights(run)), [each.loss.item() for each in done]

    plain = after(None)
    assert after(lambda run, batch: returned(own_step(run, batch))) == plain
    assert after(lambda run, batch: loss(run.model, batch)) == plain


def test_a_step_fn_that_steps_cannot_be_accumulated() -> None:
    run = run_of(accumulate=2)
    run.loss, run.step_fn = None, lambda batch: own_step(run, batch)
    with pytest.raises(ValueError, match=r"accumulate=2 it must return the loss.*or set accumulate=1"):
        update(run, [(INPUTS, LABELS)] * 2)


@pytest.mark.parametrize("library", [optim, torch.optim], ids=["ours", "torch's"])
def test_two_optimizers_in_turn(library: Any) -> None:
    """A generator that is trained each third time; its judge each time, by an optimizer that the run does not know."""
    torch.manual_seed(0)
    generator, judge = nn.Linear(2, 6), nn.Linear(6, 1)
    optimizer = library.Adam(generator.parameters(), lr=0.01)
    judges = library.Adam(judge.parameters(), lr=0.01)
    calls = iter(range(100))

    def step_fn(batch: Any) -> dict[str, Any]:
        fake = generator(torch.ones(4, 2))
        judges.zero_grad()
        judged = judge(fake.detach()).mean() - judge(batch).mean()
        judged.backward()
        judges.step()
        losses = {"judge": judged.detach()}
        if next(calls) % 3 == 2:
            optimizer.zero_grad()
            losses["generator"] = -judge(fake).mean()
            losses["generator"].backward()
            optimizer.step()
        return losses

    run = Run(generator, optimizer, [], step_fn=step_fn)
    done = [update(run, [INPUTS]) for _ in range(6)]
    assert [each.applied for each in done] == [False, False, True] * 2
    assert [[*each.losses] for each in done] == [["judge"], ["judge"], ["judge", "generator"]] * 2
    assert {int(entry["step"]) for entry in judges.state.values()} == {6}
    assert {int(entry["step"]) for entry in optimizer.state.values()} == {2}


def test_gradients_of_a_step_fn_may_grow_over_calls() -> None:
    run = run_of()
    calls = iter(range(100))

    def every_other(batch: Any) -> float:
        value = loss(run.model, batch) / 2
        value.backward()
        if next(calls) % 2:
            run.optimizer.step()
            run.optimizer.zero_grad()
        return value.item()

    run.loss, run.step_fn = None, every_other
    assert [update(run, [(INPUTS, LABELS)]).applied for _ in range(4)] == [False, True, False, True]
    plain = run_of()
    for _ in range(2):
        update(plain, [(INPUTS, LABELS)])
    torch.testing.assert_close(weights(run), weights(plain))
