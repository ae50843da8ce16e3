"""Weights of FIBER from files in its published layout: the pre-trained file, fine-tuned ones, those
of I2M2, or safetensors.

Every entry of a file is accounted for: loaded, adapted to another image size, ignored by a rule, or
unexpected.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from i2m2.errors import DataError
from VQA_and_NLVR2.backbones.checkpoint_files import read_entries, some
from VQA_and_NLVR2.backbones.fiber import FIBER, FIBERSizes, read_sizes
from VQA_and_NLVR2.backbones.settings import BackboneSettings, display_name, text_length
from VQA_and_NLVR2.backbones.swin import SMALLEST

BACKBONE = ("vit_model.", "text_transformer.", "cross_modal_")
TABLE = ".relative_position_bias_table"
# Why an entry that the model does not have is left out -> pattern of the whole name.
RULES = {
    "queues of pre-training": (
        r"(image|text|image_input|text_input|text_input_mask)_queue|queue_ptr|queue_total"
    ),
    "heads of pre-training": r"temp|(mlm_score|itm_score|rank_output)\..*",
    "derived buffers": (
        r"vit_model\..*\.(attn_mask|relative_position_index)"
        r"|text_transformer\.embeddings\.position_ids"
    ),
    "without use": (
        r"text_transformer\.(pooler|encoder\.layer\.\d+\."
        r"(alpha_t2i|crossattention_t2i\.output\.LayerNorm))\b.*"
    ),
    "classifiers": r"\w+_classifier\..*",
}
# Part of a classifier's name -> expert.
HEADS = {"": "inter", "image_model.": "image", "text_model.": "text", "cat_model.": "inter"}


@dataclass(frozen=True)
class LoadReport:
    """What became of every entry of a file, and of every parameter of the model. `str` gives a few
    lines."""

    source: str
    loaded: tuple[str, ...]
    adapted: tuple[str, ...]
    ignored: Mapping[str, tuple[str, ...]]  # by rule
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    trained_at: int | None = None  # side of the images in pixels, told by the position tables

    def __str__(self) -> str:
        lines = [f"{self.source}: {len(self.loaded)} entries loaded"]
        if self.adapted:
            lines[0] += f", {len(self.adapted)} adapted from {self.trained_at} pixels"
        if self.ignored:
            counts = ", ".join(f"{len(keys)} {rule}" for rule, keys in self.ignored.items())
            lines.append(f"  ignored by rule: {counts}")
        if self.missing:
            lines.append(f"  missing, left as they were: {some(self.missing)}")
        if self.unexpected:
            lines.append(f"  unexpected, left out: {some(self.unexpected)}")
        return "\n".join(lines)


def build_fiber(settings: BackboneSettings) -> FIBER:
    """FIBER of the sizes that `settings` names, with the weights of its checkpoint, or random ones
    (kind fiber_random)."""
    sizes = read_sizes(Path(settings.sizes)) if settings.sizes else FIBERSizes()
    model = sized_fiber(sizes, settings)
    if settings.checkpoint is not None:
        report = load_fiber(model, Path(settings.checkpoint))
        model.name = named("FIBER", display_name(settings.checkpoint), report)
        model.report = str(report)
    return model


def sized_fiber(sizes: FIBERSizes, settings: BackboneSettings) -> FIBER:
    """FIBER with random weights, and with the image size and text length of `settings` where they
    are set."""
    image_size = settings.image_size or sizes.swin.image_size
    swin = dataclasses.replace(sizes.swin, image_size=image_size)
    length = text_length(settings, sizes.max_text_length, sizes.roberta.longest)
    sizes = dataclasses.replace(sizes, swin=swin, max_text_length=length)
    tokenizer = settings.tokenizer or settings.text_encoder
    return FIBER(sizes, tokenizer=tokenizer, recompute=settings.activation_checkpointing)


def named(architecture: str, weights: str, report: LoadReport) -> str:
    """A name for results, which says so where a part of the model has random weights."""
    missing = f" (entries missing: {len(report.missing)})" if report.missing else ""
    return f"{architecture}, weights {weights}{missing}"


def load_fiber(model: FIBER, path: Path) -> LoadReport:
    """Copy the weights in `path` into `model`, position tables adapted to its image size.

    Raises DataError, and leaves the model as it was, for a file that cannot be read without running
    code in it, that holds no weights of FIBER, entries of the backbone that the model lacks, or
    shapes of another architecture.
    """
    return load_entries(model, read_entries(path), str(path))


def load_heads(
    heads: Mapping[str, nn.Module], path: Path, task: Literal["vqa", "nlvr2"]
) -> LoadReport:
    """Copy a file's classifiers into `heads`: {image, text or inter: a module of
    `heads.make_head`}.

    Files of FIBER hold the fused classifier; those of I2M2's unimodal and inter types one that does
    not say whose it is (ask for one head then), of intra and i2m2 one for each expert. DataError
    where one that is asked for is not there.
    """
    return load_head_entries(heads, read_entries(path), task, str(path))


def load_head_entries(
    heads: Mapping[str, nn.Module],
    entries: Mapping[str, Tensor],
    task: Literal["vqa", "nlvr2"],
    source: str,
) -> LoadReport:
    """As `load_heads`, of a file's entries."""
    pattern = re.compile(
        rf"{task}_classifier\.(model\.|image_model\.|text_model\.|cat_model\.|)([013]\.\w+)"
    )
    given = {}
    for key in entries:
        if match := pattern.fullmatch(key):
            part, name = match.groups()
            if part == "model." and len(heads) > 1:
                raise DataError(
                    f"{source}: {key} does not say which of {', '.join(heads)} it is; "
                    "load one head from this file"
                )
            expert = next(iter(heads)) if part == "model." else HEADS[part]
            given[f"{expert}.{name}"] = entries[key]
    wanted = nn.ModuleDict(heads)
    if absent := [key for key in wanted.state_dict() if key not in given]:
        experts = sorted({key.partition(".")[0] for key in given})
        raise DataError(
            f"{source}: no {task} head with {some(absent)}; "
            f"heads in the file: {', '.join(experts) or 'none'}"
        )
    asked = {key: value for key, value in given.items() if key.partition(".")[0] in heads}
    report = load_entries(wanted, asked, source)
    others = tuple(key for key in entries if not pattern.fullmatch(key))
    return dataclasses.replace(report, ignored={f"no {task} head": others} if others else {})


def load_entries(model: nn.Module, entries: Mapping[str, Tensor], source: str) -> LoadReport:
    """Copy `entries` into the parameters of the same name, all of them checked before the first is
    copied."""
    parameters = model.state_dict()
    known = [key for key in entries if key in parameters]
    if not known:
        raise DataError(
            f"{source}: no weights for {type(model).__name__} among its entries: {some(entries)}; "
            "give a file of its own weights, such as fiber_pretrain.ckpt, not what a run saved"
        )
    ignored = _by_rule(key for key in entries if key not in parameters)
    left = {key for keys in ignored.values() for key in keys}
    unexpected = tuple(key for key in entries if key not in parameters and key not in left)
    if strange := [key for key in unexpected if key.startswith(BACKBONE)]:
        raise DataError(
            f"{source}: {some(strange)} are not in the model: "
            "weights of another architecture, or other sizes than these"
        )
    tables = [key for key in known if key.endswith(TABLE)]
    windows = {_window(entries[key], key, source) for key in tables}
    if len(windows) > 1:
        raise DataError(
            f"{source}: position tables of different windows {sorted(windows)}; "
            "all come from one image size"
        )
    adapted = tuple(key for key in tables if len(entries[key]) != len(parameters[key]))
    for key in known:
        _check(entries[key], parameters[key], key, source, rows=key not in adapted)
    with torch.no_grad():
        for key in known:
            value, parameter = entries[key], parameters[key]
            parameter.copy_(_adapted_to(value, parameter) if key in adapted else value)
    loaded = tuple(key for key in known if key not in adapted)
    missing = tuple(key for key in parameters if key not in entries)
    trained_at = SMALLEST * windows.pop() if windows else None
    return LoadReport(source, loaded, adapted, ignored, missing, unexpected, trained_at)


def _by_rule(keys: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """{rule: entries that it leaves out}, by the first rule that fits."""
    ignored: dict[str, list[str]] = {rule: [] for rule in RULES}
    for key in keys:
        rules = (rule for rule, pattern in RULES.items() if re.fullmatch(pattern, key))
        if rule := next(rules, None):
            ignored[rule].append(key)
    return {rule: tuple(names) for rule, names in ignored.items() if names}


def _check(value: Tensor, parameter: Tensor, key: str, source: str, rows: bool) -> None:
    if value.shape[not rows :] != parameter.shape[not rows :] or value.dim() != parameter.dim():
        raise DataError(
            f"{source}: {key} is {list(value.shape)}, in the model {list(parameter.shape)}: "
            "weights of another architecture or size"
        )
    if not value.is_floating_point() or not torch.isfinite(value).all():
        raise DataError(
            f"{source}: {key} holds NaN, infinity or other than floating-point numbers; "
            "get the file again"
        )


def _window(table: Tensor, key: str, source: str) -> int:
    side = math.isqrt(len(table)) if table.dim() == 2 else 0
    if side**2 != (len(table) if table.dim() else 0) or side % 2 == 0:
        raise DataError(
            f"{source}: {key} is {list(table.shape)}; "
            "a window of w x w positions has (2 w - 1)^2 rows"
        )
    return (side + 1) // 2


def _adapted_to(table: Tensor, parameter: Tensor) -> Tensor:
    return adapt_table(table, (math.isqrt(len(parameter)) + 1) // 2)


def adapt_table(table: Tensor, window: int) -> Tensor:
    """Position table of another window: [(2 v - 1)^2, heads] -> [(2 w - 1)^2, heads], bicubic
    (FIBER's rule for a new image size).

    Corners are not aligned and nothing is smoothed. The image size belonging to a window w is 32 w.
    """
    side = math.isqrt(len(table))
    grid = table.detach().float().T.reshape(1, -1, side, side)
    size = (2 * window - 1, 2 * window - 1)
    resized = F.interpolate(grid, size=size, mode="bicubic", align_corners=False)
    return resized.flatten(2)[0].T.contiguous()
