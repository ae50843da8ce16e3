"""The other backbones behind FIBER's interface: published encoders without a FIBER checkpoint, and
FLAVA. All tiny, all local."""

import huggingface_hub.constants
import pytest
import torch
from transformers import (
    FlavaConfig,
    FlavaModel,
    RobertaConfig,
    RobertaModel,
    SwinConfig,
    SwinForImageClassification,
    SwinModel,
)

from i2m2.errors import SettingsError
from VQA_and_NLVR2.backbones.base import trim_text
from VQA_and_NLVR2.backbones.build import build_backbone
from VQA_and_NLVR2.backbones.hub import swin_entries
from VQA_and_NLVR2.backbones.settings import BackboneSettings

SMALL = {"hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 64}


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """A folder with folders swin, roberta and flava, as `save_pretrained` writes them."""
    folder = tmp_path_factory.mktemp("hub")
    torch.manual_seed(0)
    swin = SwinConfig(
        image_size=64, window_size=2, embed_dim=16, depths=[2, 2, 4, 2], num_heads=[1, 2, 4, 8]
    )
    roberta = {
        "vocab_size": 90,
        "max_position_embeddings": 40,
        "type_vocab_size": 1,
        "layer_norm_eps": 1e-5,
    }
    flava = FlavaConfig(
        image_config={"image_size": 32, "patch_size": 16, "num_hidden_layers": 2, **SMALL},
        text_config={
            "vocab_size": 90,
            "max_position_embeddings": 20,
            "num_hidden_layers": 2,
            **SMALL,
        },
        multimodal_config={"num_hidden_layers": 2, **SMALL},
        hidden_size=32,
        projection_dim=16,
    )
    SwinForImageClassification(swin).save_pretrained(folder / "swin")
    RobertaModel(RobertaConfig(num_hidden_layers=7, **roberta, **SMALL)).save_pretrained(
        folder / "roberta"
    )
    FlavaModel(flava).save_pretrained(folder / "flava")
    return folder


def from_encoders(hub, **options):
    encoders = {"image_encoder": str(hub / "swin"), "text_encoder": str(hub / "roberta")}
    return build_backbone(BackboneSettings(kind="fiber_hub", **encoders | options)).eval()


def flava(hub, **options):
    return build_backbone(
        BackboneSettings(kind="flava", flava=str(hub / "flava"), **options)
    ).eval()


def examples(model):
    torch.manual_seed(1)
    mask = torch.arange(9) < torch.tensor([7, 4, 5])[:, None]
    images = torch.randn(3, 3, model.image_size, model.image_size)
    return images, torch.where(mask, torch.randint(3, 90, (3, 9)), 1), mask


@pytest.mark.parametrize("make", [from_encoders, flava])
def test_every_backbone_keeps_the_interface(hub, make):
    model = make(hub)
    images, ids, mask = examples(model)
    image, image_state = model.encode_image(images)
    text, text_state = model.encode_text(ids, mask)
    fused = model.fuse(image_state, text_state)
    assert {"image": image.shape[1], "text": text.shape[1], "fused": fused.shape[1]} == model.widths
    assert len(model.mean) == len(model.std) == 3 and model.tokenizer and model.report
    assert (
        model.encode_image(images, vector=False)[0] is None
        and model.encode_text(ids, mask, vector=False)[0] is None
    )
    rows, texts = torch.tensor([0, 0, 2]), torch.tensor([1, 2, 0])
    again = model.fuse(
        model.encode_image(images[rows])[1], model.encode_text(ids[texts], mask[texts])[1]
    )
    torch.testing.assert_close(
        model.fuse(image_state[rows], text_state[texts]), again, rtol=0, atol=1e-5
    )
    short_text, short_state = model.encode_text(*trim_text(ids, mask))
    torch.testing.assert_close(short_text, text, rtol=0, atol=1e-5)
    torch.testing.assert_close(model.fuse(image_state, short_state), fused, rtol=0, atol=1e-5)


@pytest.mark.parametrize("make", [from_encoders, flava])
def test_every_parameter_has_a_use(hub, make):
    model = make(hub)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "alpha_" in name:
                parameter.fill_(0.5)
    images, ids, mask = examples(model)
    image, image_state = model.encode_image(images)
    text, text_state = model.encode_text(ids, mask)
    (image.sum() + text.sum() + model.fuse(image_state, text_state).sum()).backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


def test_fiber_around_published_encoders_computes_what_they_compute(hub):
    model = from_encoders(hub)
    images, ids, mask = examples(model)
    swin = SwinModel.from_pretrained(hub / "swin")
    roberta = RobertaModel.from_pretrained(hub / "roberta")
    with torch.no_grad():
        image = model.image_tokens(model.encode_image(images)[1])
        text = model.text_tokens(model.encode_text(ids, mask)[1])
        torch.testing.assert_close(image, swin(images).last_hidden_state, rtol=0, atol=1e-5)
        expected = roberta(ids, attention_mask=mask.long()).last_hidden_state
        torch.testing.assert_close(text[mask], expected[mask], rtol=0, atol=1e-5)
    assert model.name == "FIBER, weights swin and roberta, fusion from scratch"
    assert (
        model.max_text_length == 38
        and "entries have random weights, its gates are 0" in model.report
    )


def test_published_encoders_can_be_had_at_another_image_size(hub):
    model = from_encoders(hub, image_size=96)
    assert "10 adapted from 64 pixels" in model.report
    assert model.encode_image(examples(model)[0])[0].isfinite().all()


def test_names_of_older_releases_of_the_library_are_understood(hub):
    state = SwinModel.from_pretrained(hub / "swin").state_dict()
    older = {
        ".attention.q_proj.": ".attention.self.query.",
        ".attention.k_proj.": ".attention.self.key.",
        ".attention.v_proj.": ".attention.self.value.",
        ".attention.o_proj.": ".attention.output.dense.",
        ".attention.relative_position_bias.": ".attention.self.",
        ".mlp.fc1.": ".intermediate.dense.",
        ".mlp.fc2.": ".output.dense.",
    }
    renamed = {}
    for name, value in state.items():
        for new, old in older.items():
            name = name.replace(new, old)
        renamed[name] = value
    assert len(renamed.keys() - state.keys()) > 100
    new, old = swin_entries(state), swin_entries(renamed)
    assert new.keys() == old.keys() and all(torch.equal(new[name], old[name]) for name in new)


def test_flava_computes_what_its_own_forward_pass_computes(hub):
    model = flava(hub)
    images, ids, mask = examples(model)
    with torch.no_grad():
        out = FlavaModel.from_pretrained(hub / "flava")(ids, images, attention_mask=mask.long())
        image, image_state = model.encode_image(images)
        text, text_state = model.encode_text(ids, mask)
        for ours, theirs in (
            (image, out.image_embeddings),
            (text, out.text_embeddings),
            (model.fuse(image_state, text_state), out.multimodal_embeddings),
        ):
            torch.testing.assert_close(ours, theirs[:, 0], rtol=0, atol=1e-5)
    assert (model.name, model.image_size, model.max_text_length) == ("FLAVA, weights flava", 32, 20)


def test_flava_takes_other_image_sizes_and_recomputes_activations(hub):
    assert flava(hub, image_size=64).encode_image(torch.randn(1, 3, 64, 64))[1].tokens.shape == (
        1,
        17,
        32,
    )
    with pytest.raises(
        SettingsError, match="image_size 40 must be a multiple of FLAVA's patches of 16"
    ):
        flava(hub, image_size=40)
    gradients = []
    for recompute in (False, True):
        model = flava(hub, activation_checkpointing=recompute).train()
        images, ids, mask = examples(model)
        model.fuse(model.encode_image(images)[1], model.encode_text(ids, mask)[1]).sum().backward()
        gradients.append([p.grad for p in model.parameters() if p.grad is not None])
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(recomputed, plain, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"kind": "fiber"}, "kind fiber needs checkpoint"),
        (
            {"kind": "flava", "checkpoint": "x.ckpt"},
            "checkpoint x.ckpt has no effect with kind flava",
        ),
        (
            {"kind": "fiber_hub", "sizes": "x.json"},
            "sizes x.json has no effect with kind fiber_hub",
        ),
        ({"kind": "fiber_random", "sizes": "x.json"}, "x.json: not a readable JSON file of sizes"),
        (
            {"kind": "fiber", "checkpoint": "x.ckpt", "image_size": 200},
            "image_size 200 must be a multiple of 32",
        ),
        ({"kind": "fiber_random", "max_text_length": 513}, "max_text_length 513 must be 2 to 512"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message):
    with pytest.raises(SettingsError) as error:
        build_backbone(BackboneSettings(**settings))
    assert message in str(error.value)


def test_weights_that_are_not_there_are_asked_for_in_one_line(hub, monkeypatch, tmp_path):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    for settings in (
        {"kind": "flava"},
        {"kind": "fiber_hub"},
        {"kind": "fiber_hub", "image_encoder": str(hub / "swin"), "text_encoder": "nobody/nothing"},
    ):
        with pytest.raises(
            SettingsError, match="Without network: get it elsewhere .hf download .* and set "
        ) as error:
            build_backbone(BackboneSettings(**settings))
        assert "\n" not in str(error.value)
    with pytest.raises(SettingsError, match="missing: no such folder; give one that holds config"):
        build_backbone(BackboneSettings(kind="flava", flava=str(tmp_path / "missing")))
    with pytest.raises(
        SettingsError, match="roberta holds a model of type roberta; swin is needed"
    ):
        from_encoders(hub, image_encoder=str(hub / "roberta"))
