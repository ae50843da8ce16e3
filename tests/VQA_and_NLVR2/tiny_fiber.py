"""A FIBER small enough for tests."""

from __future__ import annotations

import torch

from VQA_and_NLVR2.backbones.fiber import FIBER, FIBERSizes
from VQA_and_NLVR2.backbones.roberta import RobertaSizes
from VQA_and_NLVR2.backbones.swin import SwinSizes

SWIN = SwinSizes(image_size=64, embed_dim=8, depths=(2, 2, 4, 2), num_heads=(1, 2, 4, 8))


ROBERTA = RobertaSizes(
    vocab_size=60,
    hidden_size=16,
    num_hidden_layers=6,
    num_attention_heads=2,
    intermediate_size=32,
    max_position_embeddings=20,
)


TINY = FIBERSizes(swin=SWIN, roberta=ROBERTA, hidden_size=24, fusion_steps=4, max_text_length=12)


def tiny_fiber(sizes: FIBERSizes = TINY, **options) -> FIBER:
    """Random weights with open gates, so that every part has its effect; evaluation mode."""
    torch.manual_seed(0)
    model = FIBER(sizes, **options).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "alpha_" in name:
                parameter.fill_(0.8)
            elif parameter.dim() > 1:
                parameter.mul_(5)
    return model


def examples(model: FIBER, n: int = 3) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Images, ids and mask; the texts have 8, 5 and 3 tokens and are padded to 10."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(n, 3, model.image_size, model.image_size, generator=generator)
    ids = torch.randint(3, 60, (n, 10), generator=generator)
    mask = torch.arange(10) < torch.tensor([8, 5, 3] * n)[:n, None]
    return images, torch.where(mask, ids, 1), mask


def vectors(model: FIBER, images, ids, mask) -> dict[str, torch.Tensor]:
    image, image_state = model.encode_image(images)
    text, text_state = model.encode_text(ids, mask)
    return {"image": image, "text": text, "fused": model.fuse(image_state, text_state)}
