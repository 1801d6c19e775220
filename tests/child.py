"""What a child process does; in a module of its own, which a spawned process can import."""

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
