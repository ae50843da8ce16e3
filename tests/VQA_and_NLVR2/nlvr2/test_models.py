"""NLVR2's experts on one shared backbone, and the optimiser's groups."""

from __future__ import annotations

import pytest
import torch

from tests.VQA_and_NLVR2.tiny_nlvr2 import a_model, settings
from VQA_and_NLVR2.nlvr2.models import NO_DECAY, heads_on_features, parameter_groups
from VQA_and_NLVR2.nlvr2.settings import NLVR2Model


def test_heads_have_the_published_number_of_parameters():
    with torch.device("meta"):
        heads = heads_on_features(
            {"image": 768, "text": 768, "fused": 1536},
            ("image", "text", "inter"),
            NLVR2Model().hidden,
        )
    assert (
        sum(p.numel() for p in heads.parameters()) == 8_280_585 - 3
    )  # without three scalars that have no use


def test_sharing_what_the_experts_have_in_common_changes_no_logit(nlvr2_files):
    model, batch = a_model(nlvr2_files)
    backbone, image, text = model.backbone, batch["inputs"]["image"], batch["inputs"]["text"]
    with torch.no_grad():
        _, by_expert = model(batch["inputs"])
        sides = [backbone.encode_image(image[:, side])[0] for side in (0, 1)]
        fused = [
            backbone.fuse(backbone.encode_image(image[:, side])[1], backbone.encode_text(**text)[1])
            for side in (0, 1)
        ]
        vectors = {
            "image": torch.cat(sides, 1),
            "text": backbone.encode_text(**text)[0],
            "inter": torch.cat(fused, 1),
        }
        for name, vector in vectors.items():
            expected = model.experts[name].head(vector).log_softmax(-1)
            torch.testing.assert_close(by_expert[name], expected, rtol=0, atol=1e-6)


def test_the_order_of_the_images_tells_left_from_right(nlvr2_files):
    model, batch = a_model(nlvr2_files)
    with torch.no_grad():
        _, one = model(batch["inputs"])
        _, other = model({**batch["inputs"], "image": batch["inputs"]["image"].flip(1)})
    torch.testing.assert_close(one["text"], other["text"], rtol=0, atol=0)
    assert all((one[name] - other[name]).abs().max() > 1e-6 for name in ("image", "inter"))


def test_an_absent_modality_silences_its_experts(nlvr2_files):
    model, batch = a_model(nlvr2_files)
    with torch.no_grad():
        log_prob, by_expert = model({"text": batch["inputs"]["text"]})
        absent = {"image": torch.tensor([True, False, True, True])}
        masked, _ = model(batch["inputs"], absent)
        whole, _ = model(batch["inputs"])
    torch.testing.assert_close(log_prob, by_expert["text"])
    torch.testing.assert_close(masked[1], by_expert["text"][1], rtol=0, atol=1e-6)
    torch.testing.assert_close(masked[[0, 2, 3]], whole[[0, 2, 3]], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "method, unused",
    [
        (
            "unimodal_text",
            [
                "vit_model.",
                "cross_modal_image",
                "t2i",
                "cross_modal_text_pooler.",
                "cross_modal_text_transform.",
            ],
        ),
        (
            "unimodal_image",
            [
                "text_transformer.",
                "cross_modal_text",
                "i2t",
                "cross_modal_image_pooler.",
                "cross_modal_image_transform.",
            ],
        ),
        (
            "inter",
            ["_itc", "vit_model.norm.", "layer.4.output.LayerNorm"],
        ),  # the last layer ends without its norm
        ("i2m2", []),
    ],
)
def test_a_row_computes_only_what_its_experts_need(method, unused, nlvr2_files):
    model, batch = a_model(nlvr2_files, method)
    assert set(batch["inputs"]) == set(model.modalities)
    log_prob, _ = model(batch["inputs"])
    log_prob[:, 0].sum().backward()
    idle = {name for name, parameter in model.named_parameters() if parameter.grad is None}
    assert idle == {
        name for name, _ in model.named_parameters() if any(part in name for part in unused)
    }


def test_every_trained_parameter_is_in_one_group_with_the_published_rate_and_decay(nlvr2_files):
    model, _ = a_model(nlvr2_files)
    optim = settings(nlvr2_files, "--optim.lr", "1e-5").optim
    groups = parameter_groups(model, optim, NLVR2Model(head_rate=50, fusion_rate=5))
    listed = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(listed) == sorted(id(p) for p in model.parameters() if p.requires_grad)
    assert len(set(listed)) == len(listed)
    of = {id(parameter): group for group in groups for parameter in group["params"]}
    found = {
        name: (round(of[id(p)]["lr"] * 1e5), of[id(p)]["weight_decay"])
        for name, p in model.named_parameters()
    }
    vit = "backbone.vit_model.layers.3.blocks.0."
    text = "backbone.text_transformer.encoder.layer.4."
    expected = {
        f"{vit}attn.qkv.weight": (1, 0.01),
        f"{vit}attn.qkv.bias": (1, 0.0),
        f"{vit}attn.relative_position_bias_table": (1, 0.0),
        f"{vit}norm1.weight": (1, 0.0),
        f"{vit}attn.norm_i2t_i.weight": (5, 0.01),
        f"{vit}attn.norm_i2t_i.bias": (5, 0.0),
        f"{vit}attn.alpha_i2t": (5, 0.01),
        f"{text}alpha_t2i": (5, 0.01),
        f"{text}crossattention_t2i.self.key.weight": (5, 0.01),
        f"{text}output.LayerNorm.weight": (1, 0.0),
        "backbone.vit_model.patch_embed.norm.weight": (1, 0.0),
        "backbone.text_transformer.embeddings.word_embeddings.weight": (1, 0.01),
        "backbone.cross_modal_text_pooler_itc.dense.weight": (5, 0.01),
        "experts.image.head.0.weight": (50, 0.01),
        "experts.image.head.1.weight": (50, 0.01),
        "experts.inter.head.3.bias": (50, 0.0),
    }
    assert {name: found[name] for name in expected} == expected
    assert all(
        (decay == 0) == any(word in name for word in NO_DECAY) for name, (_, decay) in found.items()
    )
    assert all(group["betas"] == (0.9, 0.98) for group in groups)
    plain = parameter_groups(model, optim, NLVR2Model(decay_all=True))
    assert {(group["lr"], group["weight_decay"]) for group in plain} == {(1e-5, 0.01)}
