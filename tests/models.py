"""Models as people build them."""

from __future__ import annotations

import torch
from torch import nn


class Block(nn.Module):
    """Of a ResNet."""

    def __init__(self, width, downsample=False):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(width, width, 3, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, bias=False), nn.BatchNorm2d(width)
        if downsample:
            self.downsample = nn.Sequential(nn.Conv2d(width, width, 1, bias=False), nn.BatchNorm2d(width))


class ResNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 4, 7, bias=False), nn.BatchNorm2d(4)
        for i in range(1, 5):
            setattr(self, f"layer{i}", nn.Sequential(Block(4, downsample=i > 1), Block(4)))
        self.fc = nn.Linear(4, 10)


class Attention(nn.Module):
    """A block of a Transformer, with a norm of one's own."""

    def __init__(self, width=4, norm=nn.LayerNorm):
        super().__init__()
        self.norm1, self.attn, self.norm2 = norm(width), nn.Linear(width, 3 * width), norm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 8), nn.GELU(), nn.Linear(8, width))


class Norm(nn.Module):
    """That is no subclass of torch's."""

    def __init__(self, width):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(width))


class ViT(nn.Module):
    def __init__(self):
        super().__init__()
        self.cls_token, self.pos_embed = (
            nn.Parameter(torch.zeros(1, 1, 4)),
            nn.Parameter(torch.zeros(1, 5, 4)),
        )
        self.patch_embed = nn.Conv2d(3, 4, 2)
        self.blocks = nn.ModuleList([Attention() for _ in range(3)])
        self.norm, self.head = nn.LayerNorm(4), nn.Linear(4, 10)

    def no_weight_decay(self):
        return {"cls_token", "pos_embed"}


class GPT(nn.Module):
    """Its head is tied to its embedding."""

    def __init__(self):
        super().__init__()
        h = nn.ModuleList([Attention(norm=Norm) for _ in range(2)])
        parts = {"wte": nn.Embedding(9, 4), "wpe": nn.Embedding(5, 4), "h": h, "ln_f": Norm(4)}
        self.transformer = nn.ModuleDict(parts)
        self.lm_head = nn.Linear(4, 9, bias=False)
        self.lm_head.weight = self.transformer["wte"].weight


class Stage(nn.Module):
    def __init__(self, blocks):
        super().__init__()
        self.blocks, self.downsample = nn.ModuleList([Attention() for _ in range(blocks)]), nn.Linear(4, 4)


class Swin(nn.Module):
    """With its blocks in stages, and one of them wrapped."""

    def __init__(self):
        super().__init__()
        self.patch_embed = nn.Conv2d(3, 4, 2)
        self.layers = nn.ModuleList([Stage(2), Stage(3)])
        self.layers[1].blocks[1] = nn.Sequential(self.layers[1].blocks[1])
        self.head = nn.Linear(4, 2)

    def no_weight_decay_keywords(self):
        return {"downsample"}


class BERT(nn.Module):
    def __init__(self):
        super().__init__()
        self.bert = nn.Module()
        self.bert.embeddings = nn.Module()
        self.bert.embeddings.word_embeddings = nn.Embedding(9, 4)
        self.bert.embeddings.LayerNorm = nn.LayerNorm(4)
        self.bert.encoder = nn.Module()
        self.bert.encoder.layer = nn.ModuleList([Attention() for _ in range(2)])
        self.bert.pooler = nn.Linear(4, 4)
        self.classifier = nn.Linear(4, 2)


def cnn():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(4, 2),
    )
