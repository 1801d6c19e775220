from statistics import fmean

import pytest
import torch

import surefoot


@pytest.mark.parametrize("effort", ["sweep", "sure"])
def test_a_sweep_compares_each_batch_with_itself(effort: str) -> None:
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 1)
    offsets = [100.0 * (i % 11) for i in range(60)]  # what differs between batches is not to be learned
    data = [(torch.randn(16, 4), offset) for offset in offsets]

    def loss(model: torch.nn.Module, batch: tuple[torch.Tensor, float]) -> torch.Tensor:
        return (model(batch[0]) - batch[0].sum(1, keepdim=True)).square().mean() + batch[1]

    optimizer = surefoot.SGD(model.parameters(), lr=0.1)
    sweep = surefoot.find_lr(model, optimizer, loss, data, effort=effort).sweep
    level = fmean(loss(model, batch).item() for batch in data[:8])
    # what can be learned is at most 6, and an offset's next is 100 away
    assert sweep.fitted[:12] == pytest.approx([level] * 12, abs=6.0)
