"""Part `encoder` of benchmarks/avmnist.py: can the encoders and the update run faster at equal
results?"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from AVMNIST_and_MIMIC.avmnist.experiment import BLOCKS
from AVMNIST_and_MIMIC.encoders import LeNet, MaxPool2x2
from benchmarks.timing import table
from benchmarks.training import compare, replaced, update_row

ENCODERS = (("image", 3), ("image", 6), ("audio", 3), ("audio", 6))  # modality and width


def with_torch_pooling(encoder: nn.Module) -> nn.Module:
    """A copy with `nn.MaxPool2d` where ours pools."""
    return replaced(encoder, MaxPool2x2, lambda _: nn.MaxPool2d(2))


def variants(encoder: nn.Module, compiled: bool) -> dict[str, nn.Module]:
    """Ways to compute the same; the first is ours."""
    found = {"ours": encoder, "nn.MaxPool2d": with_torch_pooling(encoder)}
    found["channels_last"] = copy.deepcopy(encoder).to(memory_format=torch.channels_last)
    found["MaxPool2d, channels_last"] = with_torch_pooling(encoder).to(
        memory_format=torch.channels_last
    )
    if compiled:
        found["compiled"] = copy.deepcopy(encoder)
        found["compiled"].compile()
    return found


def input_of(name: str, x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last) if "channels_last" in name else x


def encoder_row(
    encoder: nn.Module, x: Tensor, threads: int, rounds: int, repeats: int, compiled: bool
) -> dict[str, tuple]:
    """{variant: (seconds per pass, relative difference from ours of the features, of the
    gradients)}."""
    found = variants(encoder, compiled)
    return compare(found, {name: input_of(name, x) for name in found}, threads, rounds, repeats)


def encoder_tables(
    inputs: Mapping[str, Tensor],
    model: nn.Module,
    threads: int,
    rounds: int,
    steps: int,
    compiled: bool = False,
) -> str:
    """Encoders per thread count and variant, then the update of `model`, as Markdown."""
    note = ""
    if compiled and not any(map(shutil.which, ("c++", "g++", "clang++"))):
        compiled, note = (
            False,
            "\n\ntorch.compile: left out, it needs a C++ compiler and there is none",
        )
    lines = []
    for modality, width in ENCODERS:
        torch.manual_seed(0)
        encoder = LeNet(width, BLOCKS[modality])
        for n in sorted({1, threads}):
            found = encoder_row(
                encoder,
                inputs[modality],
                n,
                rounds,
                steps if modality == "image" else max(1, steps // 5),
                compiled,
            )
            ours = found["ours"][0]
            cells = [
                f"{ours * 1e3:.2f}",
                *(f"{s / ours:.2f} ({f:.0e}, {g:.0e})" for s, f, g in list(found.values())[1:]),
            ]
            lines.append([f"{modality}, width {width}, threads {n}", *cells])
    others = list(found)[1:]
    torch.set_num_threads(threads)
    title = "encoder: forward and backward of 40 examples; others: time / ours (relative difference of features, of gradients)"
    encoders = table(title, ["encoder", "ours, ms", *others], lines)
    updates = [
        [name, f"{s * 1e6:.0f}", f"{d:.0e}"]
        for name, (s, d) in update_row(model, rounds, steps).items()
    ]
    return (
        encoders
        + note
        + "\n"
        + table(
            "encoder: one SGD step of i2m2 concat",
            ["", "µs", "difference from the for-loop"],
            updates,
        )
    )
