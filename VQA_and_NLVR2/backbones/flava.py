"""FLAVA (Singh et al., CVPR 2022) behind the interface of the backbones: image, text and multimodal
encoder of transformers."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import FlavaModel
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from i2m2.errors import SettingsError
from VQA_and_NLVR2.backbones.base import State
from VQA_and_NLVR2.backbones.hub import from_hub
from VQA_and_NLVR2.backbones.settings import BackboneSettings, display_name, text_length


class FLAVA(nn.Module):
    """The backbone; see `base.Backbone` for its methods and attributes. Each vector is its
    encoder's normalised class token.

    The multimodal encoder reads what the other two give before their last norm, as in FLAVA's own
    forward pass.
    """

    mean, std = tuple(OPENAI_CLIP_MEAN), tuple(OPENAI_CLIP_STD)

    def __init__(
        self, model: FlavaModel, name: str, tokenizer: str, image_size: int, max_text_length: int
    ) -> None:
        super().__init__()
        self.model, self.name, self.report, self.tokenizer = model, name, name, tokenizer
        self.image_size, self.max_text_length = image_size, max_text_length
        self.widths = {
            "image": model.image_hidden_size,
            "text": model.text_hidden_size,
            "fused": model.mm_hidden_size,
        }
        # Parts of the contrastive loss and poolers: unused here, and parameters without a gradient
        # stop data-parallel training.
        for encoder in (model.image_model, model.text_model, model.multimodal_model):
            encoder.pooler = None
        model.image_projection = model.text_projection = model.logit_scale = None
        model.image_model.embeddings.mask_token = None

    def encode_image(self, images: Tensor, vector: bool = True) -> tuple[Tensor | None, State]:
        usual = self.model.config.image_config.image_size
        out = self.model.image_model(
            pixel_values=images,
            interpolate_pos_encoding=self.image_size != usual,
            output_hidden_states=True,
            return_dict=True,
        )
        return (out.last_hidden_state[:, 0] if vector else None), State(out.hidden_states[-1])

    def encode_text(
        self, ids: Tensor, mask: Tensor, vector: bool = True
    ) -> tuple[Tensor | None, State]:
        mask = mask.bool()
        out = self.model.text_model(
            input_ids=ids, attention_mask=mask.long(), output_hidden_states=True, return_dict=True
        )
        return (out.last_hidden_state[:, 0] if vector else None), State(out.hidden_states[-1], mask)

    def fuse(self, image: State, text: State) -> Tensor:
        model = self.model
        seen = model.image_to_mm_projection(image.tokens)
        read = model.text_to_mm_projection(text.tokens)
        tokens = torch.cat([seen, read], dim=1)
        # The image's tokens, and the class token that the encoder puts before them.
        others = seen.shape[1] + model.multimodal_model.use_cls_token
        mask = torch.cat([text.mask.new_ones(len(tokens), others), text.mask], dim=1)
        out = model.multimodal_model(tokens, attention_mask=mask.long(), return_dict=True)
        return out.last_hidden_state[:, 0]


def build_flava(settings: BackboneSettings) -> FLAVA:
    """FLAVA with the weights that `settings.flava` names, a hub name or a local folder.
    SettingsError where they cannot be had."""
    model = from_hub(FlavaModel, settings.flava, "flava")
    image = model.config.image_config
    image_size = settings.image_size or image.image_size
    if image_size % image.patch_size:
        raise SettingsError(
            f"image_size {image_size} must be a multiple of FLAVA's patches of {image.patch_size}"
        )
    if settings.activation_checkpointing:
        # The library's method changed its name within release 5.
        enable = getattr(model, "activation_checkpointing_enable", None)
        enable = enable or model.gradient_checkpointing_enable
        enable({"use_reentrant": False})
    length = text_length(settings, 50, model.config.text_config.max_position_embeddings)
    tokenizer = settings.tokenizer or settings.flava
    return FLAVA(
        model, f"FLAVA, weights {display_name(settings.flava)}", tokenizer, image_size, length
    )
