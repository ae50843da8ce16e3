"""Weights of FIBER from files in its published layout: the pre-trained file, fine-tuned ones, those
of I2M2, or safetensors.

Every entry of a file is accounted for: loaded, adapted to another image size, ignored by a rule, or
unexpected. The file is mapped, not read: the queues of pre-training, gigabytes of old inputs, never
reach the memory.
"""

from __future__ import annotations

import dataclasses
import math
import pickle
import re
import struct
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from i2m2.errors import DataError, SettingsError
from VQA_and_NLVR2.backbones.fiber import FIBER, FIBERSizes, read_sizes
from VQA_and_NLVR2.backbones.settings import BackboneSettings, display_name, text_length
from VQA_and_NLVR2.backbones.swin import SMALLEST

BACKBONE = ("vit_model.", "text_transformer.", "cross_modal_")
TABLE = ".relative_position_bias_table"
RULES = {  # why an entry that the model does not have is left out -> pattern of the whole name
    "queues of pre-training": r"(image|text|image_input|text_input|text_input_mask)_queue|queue_ptr|queue_total",
    "heads of pre-training": r"temp|(mlm_score|itm_score|rank_output)\..*",
    "derived buffers": r"vit_model\..*\.(attn_mask|relative_position_index)|text_transformer\.embeddings\.position_ids",
    "without use": r"text_transformer\.(pooler|encoder\.layer\.\d+\.(alpha_t2i|crossattention_t2i\.output\.LayerNorm))\b.*",
    "classifiers": r"\w+_classifier\..*",
}
HEADS = {
    "": "inter",
    "image_model.": "image",
    "text_model.": "text",
    "cat_model.": "inter",
}  # part of the name -> expert
WITHOUT_CODE = (
    "pytorch_lightning.",
    "lightning.",
    "lightning_fabric.",
    "sacred.",
    "omegaconf.",
    "argparse.",
    "numpy.",
)


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
        adapted = (
            f", {len(self.adapted)} adapted from {self.trained_at} pixels" if self.adapted else ""
        )
        lines = [f"{self.source}: {len(self.loaded)} entries loaded{adapted}"]
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
        model.name, model.report = (
            named("FIBER", display_name(settings.checkpoint), report),
            str(report),
        )
    return model


def sized_fiber(sizes: FIBERSizes, settings: BackboneSettings) -> FIBER:
    """FIBER with random weights, and with the image size and text length of `settings` where they
    are set."""
    sizes = dataclasses.replace(
        sizes,
        swin=dataclasses.replace(
            sizes.swin, image_size=settings.image_size or sizes.swin.image_size
        ),
        max_text_length=text_length(settings, sizes.max_text_length, sizes.roberta.longest),
    )
    tokenizer = settings.tokenizer or settings.text_encoder
    return FIBER(sizes, tokenizer=tokenizer, recompute=settings.activation_checkpointing)


def named(architecture: str, weights: str, report: LoadReport) -> str:
    """A name for results, which says so where a part of the model has random weights."""
    return f"{architecture}, weights {weights}" + (
        f" (entries missing: {len(report.missing)})" if report.missing else ""
    )


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
    found = {}
    for key in entries:
        if match := pattern.fullmatch(key):
            part, name = match.groups()
            if part == "model." and len(heads) > 1:
                raise DataError(
                    f"{source}: {key} does not say which of {', '.join(heads)} it is; load one head from this file"
                )
            found[f"{next(iter(heads)) if part == 'model.' else HEADS[part]}.{name}"] = entries[key]
    wanted = nn.ModuleDict(heads)
    if absent := [key for key in wanted.state_dict() if key not in found]:
        there = sorted({key.partition(".")[0] for key in found})
        raise DataError(
            f"{source}: no {task} head with {some(absent)}; heads in the file: {', '.join(there) or 'none'}"
        )
    report = load_entries(
        wanted,
        {key: value for key, value in found.items() if key.partition(".")[0] in heads},
        source,
    )
    others = tuple(key for key in entries if not pattern.fullmatch(key))
    return dataclasses.replace(report, ignored={f"no {task} head": others} if others else {})


def load_entries(model: nn.Module, entries: Mapping[str, Tensor], source: str) -> LoadReport:
    """Copy `entries` into the parameters of the same name, all of them checked before the first is
    copied."""
    own = model.state_dict()
    known = [key for key in entries if key in own]
    if not known:
        raise DataError(
            f"{source}: no weights for {type(model).__name__} among its {len(entries)} entries {some(entries)}"
        )
    ignored = _by_rule(key for key in entries if key not in own)
    left = {key for keys in ignored.values() for key in keys}
    unexpected = tuple(key for key in entries if key not in own and key not in left)
    if strange := [key for key in unexpected if key.startswith(BACKBONE)]:
        raise DataError(
            f"{source}: {some(strange)} are not in the model: weights of another architecture, or other sizes than these"
        )
    windows = {_window(entries[key], key, source) for key in known if key.endswith(TABLE)}
    if len(windows) > 1:
        raise DataError(
            f"{source}: position tables of different windows {sorted(windows)}; all come from one image size"
        )
    adapted = tuple(
        key for key in known if key.endswith(TABLE) and len(entries[key]) != len(own[key])
    )
    for key in known:
        _check(entries[key], own[key], key, source, rows=key not in adapted)
    with torch.no_grad():
        for key in known:
            own[key].copy_(_adapted_to(entries[key], own[key]) if key in adapted else entries[key])
    loaded = tuple(key for key in known if key not in adapted)
    missing = tuple(key for key in own if key not in entries)
    trained_at = SMALLEST * windows.pop() if windows else None
    return LoadReport(source, loaded, adapted, ignored, missing, unexpected, trained_at)


def _by_rule(keys: Iterable[str]) -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for key in keys:
        for rule, pattern in RULES.items():
            if re.fullmatch(pattern, key):
                found.setdefault(rule, []).append(key)
                break
    return {rule: tuple(found[rule]) for rule in RULES if rule in found}


def _check(value: Tensor, own: Tensor, key: str, source: str, rows: bool) -> None:
    if value.shape[not rows :] != own.shape[not rows :] or value.dim() != own.dim():
        raise DataError(
            f"{source}: {key} is {list(value.shape)}, in the model {list(own.shape)}: weights of another architecture or size"
        )
    if not value.is_floating_point() or not torch.isfinite(value).all():
        raise DataError(
            f"{source}: {key} holds NaN, infinity or other than floating-point numbers; get the file again"
        )


def _window(table: Tensor, key: str, source: str) -> int:
    side = math.isqrt(len(table)) if table.dim() == 2 else 0
    if side**2 != (len(table) if table.dim() else 0) or side % 2 == 0:
        raise DataError(
            f"{source}: {key} is {list(table.shape)}; a window of w x w positions has (2 w - 1)^2 rows"
        )
    return (side + 1) // 2


def _adapted_to(table: Tensor, own: Tensor) -> Tensor:
    return adapt_table(table, (math.isqrt(len(own)) + 1) // 2)


def adapt_table(table: Tensor, window: int) -> Tensor:
    """Position table of another window: [(2 v - 1)^2, heads] -> [(2 w - 1)^2, heads], bicubic
    (FIBER's rule for a new image size).

    Corners are not aligned and nothing is smoothed. The image size belonging to a window w is 32 w.
    """
    side = math.isqrt(len(table))
    grid = table.detach().float().T.reshape(1, -1, side, side)
    size = (2 * window - 1, 2 * window - 1)
    return (
        F.interpolate(grid, size=size, mode="bicubic", align_corners=False)
        .flatten(2)[0]
        .T.contiguous()
    )


class _Safetensors(Mapping[str, Tensor]):
    """Entries of an open .safetensors file, read when asked for."""

    def __init__(self, path: Path) -> None:
        self.file = safe_open(path, framework="pt")
        self.names = list(self.file.keys())

    def __getitem__(self, key: str) -> Tensor:
        return self.file.get_tensor(key)

    def __contains__(self, key: object) -> bool:
        return key in self.names

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


def read_entries(path: Path) -> Mapping[str, Tensor]:
    """{name: tensor} of a checkpoint, mapped from the file. DataError if it cannot be read, or not
    without running code in it."""
    if not path.is_file():
        raise SettingsError(
            f"{path}: no such file; checkpoint names a file of FIBER's weights, which its authors no longer serve; without one set "
            "backbone.checkpoint to null and backbone.kind to flava, fiber_hub (its fusion has to be trained) or, for trials, "
            "fiber_random: VQA_and_NLVR2/README.md, section Backbones"
        )
    try:
        content = _Safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    except pickle.UnpicklingError as error:
        named = re.findall(r"GLOBAL (\S+)", str(error))
        raise _runs_code(path, named[:1] or ["unknown"]) from None
    except (
        RuntimeError,
        EOFError,
        ValueError,
        KeyError,
        struct.error,
        SafetensorError,
        zipfile.BadZipFile,
    ) as error:
        what = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise DataError(f"{path}: not a readable checkpoint ({what}); get it again") from None
    entries = (
        content["state_dict"]
        if "state_dict" in content and isinstance(content["state_dict"], Mapping)
        else content
    )
    if not isinstance(entries, _Safetensors) and not all(
        isinstance(value, Tensor) for value in entries.values()
    ):
        raise DataError(
            f"{path}: neither an entry state_dict nor a plain dict of tensors; entries: {some(map(str, entries))}"
        )
    return entries


PICKLED = b"\x80"


def _read_torch(path: Path) -> Mapping:
    mapped = zipfile.is_zipfile(path)  # else a file of a very old torch, which cannot be mapped
    with open(path, "rb") as file:
        start = file.read(16)
    if not mapped and not start.startswith(PICKLED):  # a page that says the link is dead, say
        raise ValueError(f"it begins with {start!r}" if start else "it is empty")
    names = torch.serialization.get_unsafe_globals_in_checkpoint(path) if mapped else []
    if code := [name for name in names if not name.startswith(WITHOUT_CODE)]:
        raise _runs_code(path, code)
    forgotten = [(Forgotten, name) for name in names]
    with torch.serialization.safe_globals(forgotten):
        content = torch.load(path, map_location="cpu", mmap=mapped, weights_only=True)
    if not isinstance(content, Mapping):
        raise ValueError(f"it holds a {type(content).__name__}, not a dict")
    return content


def _runs_code(path: Path, names: Iterable[str]) -> DataError:
    return DataError(
        f"{path}: it holds more than tensors and settings: {some(names)}, and no file is read by running what it says; where you "
        "trust it, save its state_dict alone and name that file"
    )


class Forgotten:
    """Stand-in for an object that a training framework left beside the weights: made of anything,
    keeps nothing, runs nothing."""

    def __new__(cls, *_: object, **__: object) -> Forgotten:
        return object.__new__(cls)

    def __init__(self, *_: object, **__: object) -> None: ...

    def __setstate__(self, state: object) -> None: ...


def some(names: Iterable[str], shown: int = 4) -> str:
    """'3 (a, b, c)', '90 (a, b, c, d, ...)'."""
    names = list(names)
    return f"{len(names)} ({', '.join([*names[:shown], *(['...'] if len(names) > shown else [])])})"
