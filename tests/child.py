"""What a child process does; in a module of its own, which a spawned process can import."""

import warnings

import torch

import surefoot


def step_and_send(queue):
    # Together enough for two threads, each small enough for torch not to use its own, which do not survive
    # a fork.
    weights = [torch.full((20_000,), 1.0, requires_grad=True) for _ in range(5)]
    for weight in weights:
        weight.grad = torch.full((20_000,), 0.5)
    surefoot.AdamW(weights).step()
    queue.put([weight[::1000].tolist() for weight in weights])


def find_on_rank(rank, folder, queue):
    """Find a rate on data of this rank's own, more of it on the second."""
    torch.set_num_threads(1)
    warnings.simplefilter("error")
    torch.distributed.init_process_group("gloo", f"file://{folder}/ranks", rank=rank, world_size=2)
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3))
    model = torch.nn.parallel.DistributedDataParallel(model)
    optimizer = surefoot.Adam(model.parameters(), lr=1e-3)
    draw = torch.Generator().manual_seed(rank)
    data = [torch.randn(16, 6, generator=draw) * (1 + rank) for _ in range(6 + rank)]
    batches = [(x, x[:, :3].argmax(1)) for x in data]
    criterion, before = torch.nn.CrossEntropyLoss(), [p.detach().clone() for p in model.parameters()]
    findings = [
        surefoot.find_lr(
            model, optimizer, criterion, batches, effort=effort, max_batches=most, total_steps=16
        )
        for effort, most in (("sweep", 80), ("sure", 180))
    ]

    def spoiled(model, batch):  # on the second rank alone
        return criterion(model(batch[0]), batch[1]) * (float("nan") if rank == 1 else 1)

    findings.append(surefoot.find_lr(model, optimizer, spoiled, batches))
    findings.append(surefoot.find_lr(model, optimizer, criterion, batches, max_seconds=1e-9 if rank else 60))
    finder = surefoot.LRFinder(model, optimizer, criterion)
    finder.range_test(batches, num_iter=40, start_lr=1e-4)
    history, suggestion = finder.history, finder.suggestion()
    finder.reset()
    same = all(map(torch.equal, before, model.parameters()))
    told = [(f.suggestion, f.abstained, f.reason, f.batches, f.sweep, f.trials) for f in findings]
    queue.put((rank, same, told, history, suggestion))
    torch.distributed.destroy_process_group()
