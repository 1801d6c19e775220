"""Rules on models as people build them: which parameter gets what, and which layer it is in."""

from __future__ import annotations

import copy
import itertools
import re

import pytest
import torch
from torch import nn

import surefoot
from surefoot.param_groups import check, describe, layer_decay, layers, match, no_decay, param_groups, scale


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


MODELS = [ResNet, ViT, GPT, BERT, cnn, Swin]
every_model = pytest.mark.parametrize("build", MODELS, ids=lambda build: build.__name__)


def frozen_body(model):
    model.blocks.requires_grad_(False)
    return model


def hyper_of(groups, key):
    return {name: group.get(key) for group in groups for name, _ in group["params"]}


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


@every_model
def test_layer_decay_multiplies_by_the_distance_from_the_end(build):
    model = build()
    groups = param_groups(model, layer_decay(0.5), lr=1.0)
    depths = layers(model)
    last = max(depths.values())
    assert hyper_of(groups, "lr") == {name: 0.5 ** (last - depth) for name, depth in depths.items()}
    assert len(groups) == last + 1


NO_DECAY = {
    ResNet: r".*bn\d\..*|.*downsample\.1\..*|fc\.bias",
    ViT: r"cls_token|pos_embed|.*norm\d?\..*|.*\.bias",
    GPT: r".*gain|.*\.bias",
    BERT: r".*(norm\d?|LayerNorm)\..*|.*\.bias",
    cnn: r"1\..*|\d\.bias",
    Swin: r".*norm\d?\..*|.*\.bias|.*downsample.*",
}


@every_model
def test_norms_and_biases_have_no_decay_whatever_they_are_called(build):
    decay = hyper_of(param_groups(build(), no_decay(), weight_decay=0.1), "weight_decay")
    assert decay == {name: 0.0 if re.fullmatch(NO_DECAY[build], name) else 0.1 for name in decay}


@every_model
@pytest.mark.parametrize("library", [surefoot, torch.optim], ids=lambda library: library.__name__)
def test_every_parameter_is_in_one_group_that_any_optimizer_takes(build, library):
    model = build()
    before = copy.deepcopy(model.state_dict())
    groups = param_groups(
        model,
        no_decay(nn.Embedding) if build is GPT else no_decay(),
        layer_decay(0.7),
        lr=1e-3,
        weight_decay=0.1,
    )
    names = [[name for name, _ in group["params"]] for group in groups]
    assert sorted(itertools.chain(*names)) == sorted(name for name, _ in model.named_parameters())
    optimizer = library.AdamW(groups)
    assert [group["param_names"] for group in optimizer.param_groups] == names
    assert len({group["name"] for group in groups}) == len(groups)
    optimizer.step()
    torch.testing.assert_close(model.state_dict(), before)


def test_the_first_match_wins_for_each_hyperparameter():
    groups = param_groups(
        ViT(),
        match("head.*", lr=1.0),
        match(re.compile(r"(head|norm)\..*"), lr=2.0, weight_decay=0.5),
        scale(lambda name, param: param.ndim == 1, lr=0.5),
        scale("*", lr=0.25),
        lr=4.0,
        weight_decay=0.1,
    )
    lr, decay = hyper_of(groups, "lr"), hyper_of(groups, "weight_decay")
    assert (lr["head.weight"], lr["head.bias"], lr["norm.weight"], lr["cls_token"]) == (0.25, 0.5, 1.0, 1.0)
    assert (decay["head.weight"], decay["norm.bias"], decay["cls_token"]) == (0.5, 0.5, 0.1)


def test_equal_parameters_are_one_group_however_it_was_said():
    rules = match("head.*", betas=[0.8, 0.9], lr=1.0), match("norm.*", lr=1.0, betas=(0.8, 0.9))
    groups = param_groups(ViT(), *rules, match("*", lr=2.0))
    assert [len(group["params"]) for group in groups] == [34, 4]


def test_modules_and_lists_and_what_parts_of_a_model_list():
    inner = ViT()
    inner.blocks[0].no_weight_decay = {"attn.weight"}
    model = nn.ModuleDict({"backbone": inner, "head": nn.Linear(2, 2)})
    groups = param_groups(model, match([model["head"], "*.norm.weight"], lr=2.0), lr=1.0)
    assert [name for name, lr in hyper_of(groups, "lr").items() if lr == 2.0] == [
        "backbone.norm.weight",
        "head.weight",
        "head.bias",
    ]
    decay = hyper_of(param_groups(model, no_decay(), weight_decay=0.1), "weight_decay")
    assert decay["backbone.pos_embed"] == decay["backbone.blocks.0.attn.weight"] == 0
    assert decay["backbone.blocks.1.attn.weight"] == 0.1


def test_a_tied_parameter_is_meant_by_each_module_it_is_in():
    model = GPT()
    groups = param_groups(model, match(nn.Embedding, lr=0.1), lr=1.0)
    assert [name for name, lr in hyper_of(groups, "lr").items() if lr == 0.1] == [
        "transformer.wte.weight",
        "transformer.wpe.weight",
    ]
    assert (
        hyper_of(param_groups(model, match("*wte*", lr=0.1), lr=1.0), "lr")["transformer.wte.weight"] == 0.1
    )
    by_its_other_name = param_groups(model, match("lm_head.*", lr=0.1), lr=1.0)
    assert hyper_of(by_its_other_name, "lr")["transformer.wte.weight"] == 0.1


def test_parameters_that_need_no_gradient_are_left_out():
    model = ViT()
    model.patch_embed.requires_grad_(False)
    names = hyper_of(param_groups(model, lr=1.0), "lr")
    assert not any(name.startswith("patch_embed") for name in names)


def test_layers_of_some_may_be_said():
    groups = param_groups(ViT(), layer_decay(0.5, depth={"cls_token": -1, "norm.*": 1}), lr=1.0)
    lr = hyper_of(groups, "lr")
    assert (lr["cls_token"], lr["pos_embed"], lr["norm.bias"], lr["head.bias"]) == (1.0, 0.5**4, 0.5**3, 1.0)
    with pytest.raises(ValueError, match=r"depth has 'neck\.\*', which means no parameter"):
        param_groups(ViT(), layer_decay(0.5, depth={"neck.*": 1}), lr=1.0)


def test_scales_and_shifts_of_more_dimensions_have_no_decay():
    model = nn.ModuleDict(
        {
            "attention": nn.MultiheadAttention(4, 2, add_bias_kv=True),
            "normed": nn.utils.parametrizations.weight_norm(nn.Linear(4, 3)),
            "narrow": nn.Linear(1, 3),
            "grouped": nn.Conv2d(1, 4, 1),
        }
    )
    decay = hyper_of(param_groups(model, no_decay(), weight_decay=0.1), "weight_decay")
    assert {name for name, value in decay.items() if value} == {
        "attention.in_proj_weight",
        "attention.out_proj.weight",
        "normed.parametrizations.weight.original1",
        "narrow.weight",
        "grouped.weight",
    }


def test_a_rule_can_be_used_again_whatever_it_was_made_of():
    model = ViT()
    rule = match(model.head.parameters(), lr=2.0)
    for _ in range(2):
        assert hyper_of(param_groups(model, rule, lr=1.0), "lr")["head.bias"] == 2.0


def test_equal_tensors_are_one_group():
    groups = param_groups(ViT(), layer_decay(0.5), lr=torch.tensor(1.0))
    assert [group["lr"].item() for group in groups] == [0.0625, 0.125, 0.25, 0.5, 1.0]


def test_depths_of_ones_own():
    groups = param_groups(
        cnn(), layer_decay(0.1, depth=lambda name: 1 if name.startswith("6") else 0), lr=1.0
    )
    assert {name: lr for name, lr in hyper_of(groups, "lr").items() if lr == 1.0} == {
        "6.weight": 1.0,
        "6.bias": 1.0,
    }


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (
            lambda m: param_groups(m, match("tail.*", lr=1)),
            ValueError,
            "'tail.*' means no parameter: their names begin with",
        ),
        (lambda m: param_groups(m, match(nn.Conv3d, lr=1)), ValueError, "Conv3d'> means no parameter"),
        (
            lambda m: param_groups(m, match(re.compile("head"), lr=1)),
            ValueError,
            "re.compile('head') means no parameter",
        ),
        (
            lambda m: param_groups(m, match(3, lr=1)),
            TypeError,
            "3 is a int: pass a pattern of names, a module",
        ),
        (
            lambda m: param_groups(m, match("head.*")),
            ValueError,
            "match('head.*') gives nothing: pass a hyperparameter",
        ),
        (
            lambda m: param_groups(m, match("blocks.*", lr=1), match("head.*", lr=1)),
            ValueError,
            "no rule means cls_token, pos_embed, patch_embed.weight, patch_embed.bias, norm.weight and 1 more: add match('*'",
        ),
        (
            lambda m: param_groups(m, layer_decay(0.5)),
            ValueError,
            "lr of cls_token is scaled, but has no value: pass a default",
        ),
        (lambda m: param_groups(m, layer_decay(1.5), lr=1), ValueError, "rate=1.5 must be in (0, 1]"),
        (lambda m: param_groups(m, layer_decay(0), lr=1), ValueError, "rate=0 must be greater than 0"),
        (lambda m: param_groups(m, scale("*", lr=-1), lr=1), ValueError, "lr=-1 must be at least 0"),
        (
            lambda m: param_groups(m, no_decay, lr=1),
            TypeError,
            "is not called: pass no_decay() with its brackets",
        ),
        (
            lambda m: param_groups(m, scale("*", betas=2), betas=(0.9, 0.99)),
            TypeError,
            "betas=(0.9, 0.99) of cls_token is no number to scale",
        ),
        (lambda m: param_groups(m, "head.*", lr=1), TypeError, "'head.*' is no rule: pass match(...)"),
        (
            lambda m: param_groups(list(m.parameters()), lr=1),
            TypeError,
            "model is a list: pass a torch module",
        ),
        (
            lambda m: param_groups(m.requires_grad_(False), lr=1),
            ValueError,
            "no parameter with requires_grad=True",
        ),
    ],
)
def test_mistakes_are_named(build, error, message):
    with pytest.raises(error, match=re.escape(message)):
        build(ViT())


@every_model
@pytest.mark.parametrize("library", [surefoot, torch.optim], ids=lambda library: library.__name__)
def test_15_what_is_missing_extra_or_twice_in_an_optimizer_is_named(build, library):
    model = build()
    optimizer = library.SGD(model.named_parameters(), lr=0.1)
    assert not check(model, optimizer)
    assert not check(model, library.SGD(model.parameters(), lr=0.1))
    params, names = optimizer.param_groups[0]["params"], optimizer.param_groups[0]["param_names"]
    params.append(params[0])
    names.append(names[0])
    other = torch.zeros(1, requires_grad=True)
    (missing,), params[1] = [names[1]], other
    found = check(model, optimizer)
    assert found == ([missing], [], [names[0]], [missing])
    assert found
    names[1] = "another"
    assert check(model, optimizer) == ([missing], ["another"], [names[0]], [])
    model.get_parameter(missing).requires_grad_(False)
    assert check(model, optimizer).missing == []


@every_model
@pytest.mark.parametrize("library", [surefoot, torch.optim], ids=lambda library: library.__name__)
def test_a_description_has_a_row_for_each_group(build, library):
    model = build()
    optimizer = library.SGD(
        param_groups(model, no_decay(), layer_decay(0.5), lr=0.1, weight_decay=0.1), lr=1.0
    )
    rows = describe(optimizer)
    assert sum(row["tensors"] for row in rows) == len(list(model.parameters()))
    assert sum(row["parameters"] for row in rows) == sum(param.numel() for param in model.parameters())
    head, *lines = str(rows).split("\n")
    assert head.split() == [
        "group",
        "tensors",
        "parameters",
        "share",
        "lr",
        "weight_decay",
        "frozen",
        "names",
    ]
    assert len(lines) == len(optimizer.param_groups)
    unnamed = describe(library.SGD([torch.zeros(2, requires_grad=True)], lr=0.1))
    assert (unnamed[0]["group"], unnamed[0]["names"]) == ("0", "0 of group 0")
