"""FIBER's encoders from published weights of Swin and RoBERTa, through transformers: what there is
without a checkpoint of FIBER.

The gates start at 0, so that the two encoders do not see each other before the fusion is trained.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import TypeVar

import torch
from torch import Tensor
from transformers import AutoConfig, PreTrainedModel, RobertaModel, SwinModel
from transformers.utils import logging

from i2m2.errors import DataError, SettingsError
from VQA_and_NLVR2.backbones.checkpoint_files import some
from VQA_and_NLVR2.backbones.fiber import FIBER, FIBERSizes
from VQA_and_NLVR2.backbones.fiber_checkpoint import load_entries, sized_fiber
from VQA_and_NLVR2.backbones.roberta import RobertaSizes
from VQA_and_NLVR2.backbones.settings import BackboneSettings, display_name
from VQA_and_NLVR2.backbones.swin import PATCH, SwinSizes
from VQA_and_NLVR2.backbones.tokenizer import quiet_libraries, refuse_no_folder

Model = TypeVar("Model", bound=PreTrainedModel)

# Parts of SwinModel's names, in transformers before release 5 and since.
RENAMED = (
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^embeddings\.norm\.", "patch_embed.norm."),
    (r"^encoder\.", ""),
    (r"^layernorm\.", "norm."),
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
    (
        r"\.attention\.(self|relative_position_bias)\.relative_position_bias_table$",
        ".attn.relative_position_bias_table",
    ),
    (r"\.attention\.(output\.dense|o_proj)\.", ".attn.proj."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"(\.blocks\.\d+)\.output\.dense\.", r"\1.mlp.fc2."),
)
QKV = re.compile(
    r"(.*)\.attention\.(?:self\.)?(query|key|value|q_proj|k_proj|v_proj)\.(weight|bias)"
)
NOT_WEIGHTS = re.compile(r".*relative_position_index")
FUSION = re.compile(r".*_(i2t|t2i)(_i)?\b.*|cross_modal_.*")


def build_fiber_from_hub(settings: BackboneSettings) -> FIBER:
    """FIBER around the encoders that `settings` names, with their sizes. SettingsError, DataError:
    not to be had or used."""
    swin = from_hub(SwinModel, settings.image_encoder, "image_encoder", add_pooling_layer=False)
    roberta = from_hub(RobertaModel, settings.text_encoder, "text_encoder", add_pooling_layer=False)
    sizes = FIBERSizes(
        swin=_swin_sizes(swin, settings),
        roberta=_roberta_sizes(roberta),
        hidden_size=roberta.config.hidden_size,
    )
    model = sized_fiber(sizes, settings)
    entries = {f"vit_model.{key}": value for key, value in swin_entries(swin.state_dict()).items()}
    entries |= {f"text_transformer.{key}": value for key, value in roberta.state_dict().items()}
    source = f"{display_name(settings.image_encoder)} and {display_name(settings.text_encoder)}"
    report = load_entries(model, entries, source)
    if lost := [key for key in report.missing if not FUSION.fullmatch(key)]:
        raise DataError(f"{source}: no weights for {some(lost)}; name complete encoders")
    model.name = f"FIBER, weights {source}, fusion from scratch"
    fusion = f"  fusion: {len(report.missing)} entries have random weights, its gates are 0"
    model.report = f"{dataclasses.replace(report, missing=())}\n{fusion}"
    return model


def from_hub(cls: type[Model], name: str, setting: str, **options: object) -> Model:
    """A model of transformers by hub name or local folder. SettingsError in one line if it is not
    there or of another kind."""
    refuse_no_folder(setting, name, "config.json and the weights")
    logging.disable_progress_bar()
    try:
        # They would also list the classifier's weights, which we leave out.
        with quiet_libraries():
            kind, wanted = AutoConfig.from_pretrained(name).model_type, cls.config_class.model_type
            if kind != wanted:
                raise SettingsError(
                    f"{setting} {name} holds a model of type {kind}; {wanted} is needed"
                )
            model, info = cls.from_pretrained(name, output_loading_info=True, **options)
    except (OSError, ValueError, RuntimeError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise SettingsError(
            f"{setting} {name}: no {cls.__name__} there that can be loaded ({reason[:200]}). "
            f"Without network: get it elsewhere (hf download {name} --local-dir FOLDER), "
            f"copy FOLDER here, and set {setting} to it"
        ) from None
    finally:
        logging.enable_progress_bar()
    if absent := sorted(info["missing_keys"]):
        raise DataError(
            f"{setting} {name}: no weights for {some(absent)} of {cls.__name__}; "
            "the file is not complete"
        )
    return model


def swin_entries(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """State of a SwinModel -> the same weights under FIBER's names (without `vit_model.`). Query,
    key and value become one."""
    found, parts = {}, {}
    for key, value in state.items():
        if match := QKV.fullmatch(key):
            block, part, kind = match.groups()
            parts.setdefault((block.removeprefix("encoder."), kind), {})[part[0]] = value
        elif not NOT_WEIGHTS.fullmatch(key):
            for pattern, name in RENAMED:
                key = re.sub(pattern, name, key)
            found[key] = value
    for (block, kind), qkv in parts.items():
        found[f"{block}.attn.qkv.{kind}"] = torch.cat([qkv["q"], qkv["k"], qkv["v"]])
    return found


def _swin_sizes(model: SwinModel, settings: BackboneSettings) -> SwinSizes:
    config = model.config
    expected = {
        "patch_size": PATCH,
        "num_channels": 3,
        "hidden_act": "gelu",
        "use_absolute_embeddings": False,
    }
    _refuse_other(config, expected, settings.image_encoder)
    size = config.image_size if isinstance(config.image_size, int) else config.image_size[0]
    return SwinSizes(
        image_size=settings.image_size or size,
        embed_dim=config.embed_dim,
        depths=tuple(config.depths),
        num_heads=tuple(config.num_heads),
        mlp_ratio=float(config.mlp_ratio),
        qkv_bias=config.qkv_bias,
        layer_norm_eps=config.layer_norm_eps,
        drop_path_rate=config.drop_path_rate,
    )


def _roberta_sizes(model: RobertaModel) -> RobertaSizes:
    _refuse_other(model.config, {"hidden_act": "gelu"}, "text_encoder")
    names = [field.name for field in dataclasses.fields(RobertaSizes)]
    return RobertaSizes(**{name: getattr(model.config, name) for name in names})


def _refuse_other(config: object, expected: Mapping[str, object], where: str) -> None:
    for name, value in expected.items():
        if getattr(config, name) != value:
            raise SettingsError(
                f"{where}: {name} is {getattr(config, name)!r}; FIBER needs {value!r}"
            )
