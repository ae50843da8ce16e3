"""Parity of the backbone, the heads, their product, losses and scores with stored numbers of the
published code."""

from __future__ import annotations

import dataclasses
import math
import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from i2m2.errors import DataError
from i2m2.losses import negative_log_likelihood
from i2m2.model import product_of_experts
from VQA_and_NLVR2.backbones.fiber import FIBER, FIBERSizes, read_sizes
from VQA_and_NLVR2.backbones.fiber_checkpoint import (
    TABLE,
    adapt_table,
    load_entries,
    load_head_entries,
)
from VQA_and_NLVR2.backbones.heads import make_head
from VQA_and_NLVR2.backbones.swin import SMALLEST

TABLE_TOLERANCE = 1e-6
EPSILON, STEPS = float(np.finfo(np.float32).eps), 4  # of a single number such as a loss
IMAGES = {"vqa": ("0",), "nlvr2": ("0", "1")}  # whose vectors a task's heads get, side by side
PRODUCTS = {"intra": ("image", "text"), "i2m2": ("image", "text", "inter")}
Arrays = dict[str, Tensor]
Compared = tuple[str, float, float]  # array, largest absolute deviation, tolerance


def check_fiber(folder: Path, tolerance: float) -> tuple[list[Compared], list[str]]:
    """Every output in io.npz and position_adapt.npz against this code -> compared arrays, names of
    those not compared.

    DataError where the folder's files do not fit its config.json, or each other.
    """
    try:
        return _check(folder, tolerance)
    except (RuntimeError, ValueError, IndexError, ZeroDivisionError) as error:
        raise DataError(
            f"{folder}: inputs and weights do not fit the sizes in config.json: "
            f"{' '.join(str(error).split())[:300]}"
        ) from error


def _check(folder: Path, tolerance: float) -> tuple[list[Compared], list[str]]:
    sizes, weights = read_sizes(folder / "config.json"), read_arrays(folder / "weights.npz")
    weights = {name.removeprefix("state/"): value for name, value in weights.items()}
    stored, source = read_arrays(folder / "io.npz"), str(folder / "weights.npz")
    with torch.no_grad():
        model = FIBER(sizes).eval()
        print(load_entries(model, weights, source))
        computed = passes(model, stored)
        for task, numbers in IMAGES.items():
            given = all(f"input/image_{number}" in stored for number in numbers)
            if given and any(name.startswith(f"{task}_classifier.") for name in weights):
                computed |= classifiers(task, computed, stored, weights, source)
        computed |= {f"buffer/{name}": value for name, value in model.named_buffers()}
        found, left = _compare(stored, computed, lambda _: tolerance)
        if (folder / "position_adapt.npz").is_file():
            stored = read_arrays(folder / "position_adapt.npz")
            computed = at_another_size(sizes, stored, weights, source)
            more, more_left = _compare(stored, computed, lambda name: _of_size(name, tolerance))
            found += [(f"position_adapt/{name}", *numbers) for name, *numbers in more]
            left += [f"position_adapt/{name}" for name in more_left]
    return found, left


def _of_size(name: str, tolerance: float) -> float:
    """The tolerance at another image size: of outputs as everywhere, tighter of tables."""
    return tolerance if name.startswith("out/") else TABLE_TOLERANCE


def read_arrays(path: Path) -> Arrays:
    """Arrays of an .npz file; DataError if it cannot be read."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: torch.from_numpy(np.asarray(file[name])) for name in file.files}
    except (OSError, ValueError, TypeError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: not a readable .npz file of numbers ({error})") from None


def passes(model: FIBER, stored: Mapping[str, Tensor]) -> Arrays:
    """The text-only pass, the image-only and the fused pass of every image, and what comes in
    between, named as stored."""
    ids, mask = _needed(stored, "input/text_ids").long(), _needed(stored, "input/text_masks").bool()
    vector, text = model.encode_text(ids, mask)
    tokens = model.text_tokens(text)
    found = {"text_only/text_last_hidden": tokens, "text_only/text_cls_feats": vector}
    found["text_only/text_feats"] = model.cross_modal_text_transform_itc(tokens)
    images = [name for name in stored if name.startswith("input/image_")]
    for name in images:
        number = name.removeprefix("input/image_")
        image = stored[name].float()
        vector, state = model.encode_image(image)
        tokens = model.image_tokens(state)
        alone = {"image_last_hidden": tokens, "image_cls_feats": vector}
        alone["image_feats"] = model.cross_modal_image_transform_itc(tokens)
        fused = fused_pass(model, image, ids, mask)
        found |= {f"image_only{number}/{part}": value for part, value in alone.items()}
        found |= {f"fused{number}/{part}": value for part, value in fused.items()}
    return found


def fused_pass(model: FIBER, images: Tensor, ids: Tensor, mask: Tensor) -> Arrays:
    """The fused vector, and the outputs of the modules on the way to it."""
    vit, text = model.vit_model, model.text_transformer
    watched = {
        "image_stage0_out": vit.layers[0].downsample,
        "image_stage1_out": vit.layers[1].downsample,
        "image_stage2_downsampled": vit.layers[2].downsample,
        "image_patch_embed": vit.patch_embed,
        "text_embeddings": text.embeddings,
    }
    for k, block in enumerate(vit.blocks[model.image_alone :]):
        watched[f"image_fusion_step{k}"] = block
    for k, layer in enumerate(text.layers[model.text_alone :]):
        watched[f"text_fusion_step{k}"] = layer
    watched["cls_text"] = model.cross_modal_text_pooler
    watched["cls_image"] = model.cross_modal_image_pooler
    found: Arrays = {}
    hooks = [module.register_forward_hook(_keep(found, name)) for name, module in watched.items()]
    _, image_state = model.encode_image(images, vector=False)
    _, text_state = model.encode_text(ids, mask, vector=False)
    found |= {"image_pre_fusion": image_state.tokens, "text_pre_fusion": text_state.tokens}
    found["cls_feats"] = model.fuse(image_state, text_state)
    for hook in hooks:
        hook.remove()
    last = model.sizes.fusion_steps - 1
    found["text_feats"] = model.cross_modal_text_transform(found[f"text_fusion_step{last}"])
    found["image_feats"] = model.cross_modal_image_transform(found[f"image_fusion_step{last}"])
    return found


def _keep(found: Arrays, name: str) -> Callable[..., None]:
    def hook(module: nn.Module, inputs: object, output: Tensor) -> None:
        found[name] = output

    return hook


def classifiers(
    task: str,
    vectors: Mapping[str, Tensor],
    stored: Mapping[str, Tensor],
    weights: Mapping[str, Tensor],
    source: str,
) -> Arrays:
    """Every expert's logits and log-probabilities, their products, and the loss and score of each,
    named as stored."""
    inputs = _inputs(task, vectors)
    first, last = (f"{task}_classifier.cat_model.{part}.bias" for part in (0, 3))
    hidden, classes = len(_needed(weights, first)), len(_needed(weights, last))
    heads = {name: make_head(x.shape[1], classes, hidden) for name, x in inputs.items()}
    print(load_head_entries(heads, weights, task, source))
    logits = {name: head(inputs[name]) for name, head in heads.items()}
    log_probs = {name: z.log_softmax(dim=-1) for name, z in logits.items()}
    for name, experts in PRODUCTS.items():
        log_probs[name] = product_of_experts(log_probs[expert] for expert in experts)
    found = {f"{name}_logits": z for name, z in logits.items()}
    found |= {f"{name}_logprobs": z for name, z in log_probs.items()}
    if task == "nlvr2":
        target = _needed(stored, "input/nlvr2_labels").long()
        for name, log_prob in log_probs.items():
            found[f"loss_ce_{name}"] = negative_log_likelihood(log_prob, target).mean()
            found[f"acc_{name}"] = (log_prob.argmax(dim=-1) == target).float().mean()
    else:
        target = _needed(stored, "input/vqa_targets").float()
        for name, log_prob in log_probs.items():
            # As published: of an expert alone the logits, of a product its normalised
            # log-probabilities.
            scores = logits.get(name, log_prob)
            loss = F.binary_cross_entropy_with_logits(scores, target) * classes
            found[f"loss_bce_{name}"] = loss
            best = log_prob.argmax(dim=-1)
            found[f"score_{name}"] = target.gather(1, best[:, None]).mean()
    return {f"{task}/{name}": value for name, value in found.items()}


def _inputs(task: str, vectors: Mapping[str, Tensor]) -> Arrays:
    """What a task's heads get: the vectors of its images side by side."""
    numbers = IMAGES[task]
    images = [vectors[f"image_only{number}/image_cls_feats"] for number in numbers]
    fused = [vectors[f"fused{number}/cls_feats"] for number in numbers]
    text = vectors["text_only/text_cls_feats"]
    return {"image": torch.cat(images, dim=1), "text": text, "inter": torch.cat(fused, dim=1)}


def at_another_size(
    sizes: FIBERSizes, stored: Mapping[str, Tensor], weights: Mapping[str, Tensor], source: str
) -> Arrays:
    """Position tables adapted to the size of the stored image, and what the model then computes,
    named as stored."""
    images = _needed(stored, "input/image").float()
    swin = dataclasses.replace(sizes.swin, image_size=images.shape[-1])
    model = FIBER(dataclasses.replace(sizes, swin=swin)).eval()
    print(load_entries(model, weights, source))
    state = model.state_dict().items()
    found = {f"adapted/{name}": value for name, value in state if name.endswith(TABLE)}
    ids, mask = _needed(stored, "input/text_ids").long(), _needed(stored, "input/text_masks").bool()
    fused = fused_pass(model, images, ids, mask)
    found |= {f"out/{name}": value for name, value in fused.items()}
    found["out/fused_cls_feats"] = fused["cls_feats"]
    found["out/image_only_cls_feats"] = model.encode_image(images)[0]
    return found | _tables(stored)


def _tables(stored: Mapping[str, Tensor]) -> Arrays:
    """Tables of real size: `table_<s0>_to_<s1>/heads<h>/after`, from the `before` of the same s0
    and h."""
    pattern = re.compile(r"table_(\d+)_to_(\d+)/(heads\d+)/(before|after)")
    matches = {name: match.groups() for name in stored if (match := pattern.fullmatch(name))}
    before: dict[tuple[str, str], Tensor] = {}
    for name, (size, _, heads, which) in matches.items():
        if which == "before":
            before[size, heads] = stored[name]
    adapted = {}
    for name, (size, wanted, heads, which) in matches.items():
        if which == "after" and (size, heads) in before:
            adapted[name] = adapt_table(before[size, heads], int(wanted) // SMALLEST)
    return adapted


def _compare(
    stored: Mapping[str, Tensor], computed: Mapping[str, Tensor], tolerance: Callable[[str], float]
) -> tuple[list[Compared], list[str]]:
    """Float32 itself is coarser than a tolerance where a sum over thousands of answers is large: a
    few of its steps are allowed."""
    outputs = [name for name in stored if not name.startswith("input/")]
    outputs = [name for name in outputs if not name.endswith("/before")]
    found = []
    for name in outputs:
        if name in computed:
            value = stored[name]
            steps = STEPS * EPSILON * float(value.double().abs().max()) if value.numel() == 1 else 0
            allowed = max(tolerance(name), steps)
            found.append((name, _deviation(value, computed[name]), allowed))
    return found, [name for name in outputs if name not in computed]


def _deviation(a: Tensor, b: Tensor) -> float:
    """Largest absolute difference; infinity where the shapes differ or a number is NaN."""
    if a.shape != b.shape:
        return math.inf
    largest = (a.double() - b.double()).abs().max().item() if a.numel() else 0.0
    return math.inf if math.isnan(largest) else largest


def _needed(arrays: Mapping[str, Tensor], name: str) -> Tensor:
    if name not in arrays:
        raise DataError(f"the stored numbers lack {name}; copy the folder again")
    return arrays[name]
