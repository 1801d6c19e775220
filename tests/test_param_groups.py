"""Rules on models as people build them: which parameter gets what, and which layer it is in."""

from __future__ import annotations

import copy
import itertools
import re

import pytest
import torch
from models import BERT, GPT, ResNet, Swin, ViT, cnn
from torch import nn

import surefoot
from surefoot.param_groups import check, describe, layer_decay, layers, match, no_decay, param_groups, scale

MODELS = [ResNet, ViT, GPT, BERT, cnn, Swin]
every_model = pytest.mark.parametrize("build", MODELS, ids=lambda build: build.__name__)


def frozen_body(model):
    model.blocks.requires_grad_(False)
    return model


def hyper_of(groups, key):
    return {name: group.get(key) for group in groups for name, _ in group["params"]}


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
