"""The choice of a backbone."""

from __future__ import annotations

from i2m2.errors import SettingsError
from VQA_and_NLVR2.backbones.base import Backbone
from VQA_and_NLVR2.backbones.settings import BackboneSettings


def build_backbone(settings: BackboneSettings) -> Backbone:
    """The backbone of `settings`, its weights loaded. SettingsError for settings that cannot be,
    DataError for unfit weights."""
    check_unused_settings(settings)
    # Here, not above: the hub's library takes seconds to import, and FIBER's file needs none of it.
    if settings.kind == "flava":
        from VQA_and_NLVR2.backbones.flava import build_flava as build
    elif settings.kind == "fiber_hub":
        from VQA_and_NLVR2.backbones.hub import build_fiber_from_hub as build
    else:
        from VQA_and_NLVR2.backbones.fiber_checkpoint import build_fiber as build
    return build(settings)


def check_unused_settings(settings: BackboneSettings) -> None:
    """SettingsError for a setting without effect, which is a mistake, and for the kind `fiber`
    without weights, which would pass random features for FIBER's."""
    kind = settings.kind
    if kind == "fiber" and settings.checkpoint is None:
        raise SettingsError(
            "kind fiber needs checkpoint, a file of FIBER's weights (fiber_pretrain.ckpt or one of "
            "the same layout). Without one: kind fiber_hub (published Swin and RoBERTa weights; "
            "the fusion has to be trained), flava, or fiber_random for trials"
        )
    if kind != "fiber" and settings.checkpoint is not None:
        raise SettingsError(
            f"checkpoint {settings.checkpoint} has no effect with kind {kind}; choose kind fiber"
        )
    if kind not in ("fiber", "fiber_random") and settings.sizes is not None:
        raise SettingsError(
            f"sizes {settings.sizes} has no effect with kind {kind}, "
            "whose weights have their own sizes"
        )
