"""Part `encoder` of benchmarks/avmnist.py: encoders and update, faster at equal results?"""

from __future__ import annotations

import copy
import itertools
import shutil
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from AVMNIST_and_MIMIC.avmnist.experiment import BLOCKS
from AVMNIST_and_MIMIC.encoders import LeNet
from benchmarks.compared.training import compare, update_row
from benchmarks.measuring.timing import table

ENCODERS = (("image", 3), ("image", 6), ("audio", 3), ("audio", 6))  # modality and width


def of_modules(encoder: LeNet) -> nn.Module:
    """A copy that is PyTorch's modules, one after the other."""
    return nn.Sequential(*copy.deepcopy(encoder).blocks, nn.Flatten())


def variants(encoder: LeNet, compiled: bool) -> dict[str, nn.Module]:
    """Ways to compute the same; the first is ours."""
    ways = {
        "ours": encoder,
        "PyTorch's modules": of_modules(encoder),
        "the same, channels_last": of_modules(encoder).to(memory_format=torch.channels_last),
    }
    if compiled:
        ways["compiled"] = copy.deepcopy(encoder)
        ways["compiled"].compile()
    return ways


def input_of(name: str, x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last) if "channels_last" in name else x


def encoder_row(
    encoder: LeNet, x: Tensor, threads: int, rounds: int, repeats: int, compiled: bool
) -> dict[str, tuple]:
    """{variant: (seconds per pass, relative difference of the features, of the gradients)}.

    Differences are from ours.
    """
    ways = variants(encoder, compiled)
    return compare(ways, {name: input_of(name, x) for name in ways}, threads, rounds, repeats)


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
        compiled = False
        note = "\n\ntorch.compile: left out, it needs a C++ compiler and there is none"
    lines = []
    for (modality, width), n in itertools.product(ENCODERS, sorted({1, threads})):
        torch.manual_seed(0)
        encoder = LeNet(width, BLOCKS[modality])
        repeats = steps if modality == "image" else max(1, steps // 5)
        row = encoder_row(encoder, inputs[modality], n, rounds, repeats, compiled)
        (ours, _, _), *others = row.values()
        cells = [f"{s / ours:.2f} ({f:.0e}, {g:.0e})" for s, f, g in others]
        name = f"{modality}, width {width}, threads {n}"
        lines.append([name, f"{ours * 1e3:.2f}", *cells])
    torch.set_num_threads(threads)
    title = (
        "encoder: forward and backward of 40 examples; "
        "others: time / ours (relative difference of features, of gradients)"
    )
    encoders = table(title, ["encoder", "ours, ms", *list(row)[1:]], lines)
    return f"{encoders}{note}\n{update_table(model, rounds, steps)}"


def update_table(model: nn.Module, rounds: int, steps: int) -> str:
    """Implementations of SGD."""
    seconds = update_row(model, rounds, steps)
    lines = [[name, f"{s * 1e6:.0f}", f"{d:.0e}"] for name, (s, d) in seconds.items()]
    columns = ["", "µs", "difference from the for-loop"]
    return table("encoder: one SGD step of i2m2 concat", columns, lines)
