"""Which layer each parameter is in."""

from __future__ import annotations

import pytest
from models import BERT, GPT, ResNet, Swin, ViT, cnn
from torch import nn

from surefoot.layers import layers


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (
            ResNet,
            {"conv1.weight": 0, "bn1.bias": 0, "layer1.0.conv1.weight": 1, "layer1.1.bn2.weight": 2}
            | {"layer2.0.downsample.0.weight": 3, "layer4.1.conv2.weight": 8, "fc.weight": 9, "fc.bias": 9},
        ),
        (
            ViT,
            {"cls_token": 0, "pos_embed": 0, "patch_embed.bias": 0, "blocks.0.norm1.weight": 1}
            | {"blocks.2.mlp.2.bias": 3, "norm.weight": 4, "head.weight": 4},
        ),
        (
            GPT,
            {"transformer.wte.weight": 0, "transformer.wpe.weight": 0, "transformer.h.0.norm1.gain": 1}
            | {"transformer.h.1.mlp.0.weight": 2, "transformer.ln_f.gain": 3},
        ),
        (
            BERT,
            {"bert.embeddings.word_embeddings.weight": 0, "bert.embeddings.LayerNorm.bias": 0}
            | {"bert.encoder.layer.0.attn.weight": 1, "bert.pooler.weight": 3, "classifier.bias": 3},
        ),
        (cnn, {"0.weight": 0, "1.weight": 0, "1.bias": 0, "3.weight": 1, "6.weight": 2}),
        (
            Swin,
            {"patch_embed.bias": 0, "layers.0.blocks.0.attn.weight": 1, "layers.0.blocks.1.mlp.2.bias": 2}
            | {"layers.0.downsample.weight": 2, "layers.1.blocks.1.0.attn.weight": 4, "head.weight": 6},
        ),
        (
            lambda: nn.Sequential(ViT(), nn.Linear(10, 2)),
            {"0.patch_embed.weight": 0, "0.blocks.0.attn.weight": 1, "0.head.weight": 3, "1.weight": 4},
        ),
        (lambda: nn.Linear(4, 2), {"weight": 0, "bias": 0}),
        (
            lambda: nn.MultiheadAttention(4, 2),
            {"in_proj_weight": 0, "in_proj_bias": 0, "out_proj.weight": 1, "out_proj.bias": 1},
        ),
    ],
)
def test_the_layer_of_each_parameter(build, expected):
    found = layers(build())
    assert {name: found[name] for name in expected} == expected
    assert set(found.values()) == set(range(max(expected.values()) + 1))  # no layer is empty
