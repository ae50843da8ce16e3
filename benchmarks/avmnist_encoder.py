"""Part `encoder` of benchmarks/avmnist.py: can the encoders and the update run faster at equal results?"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from AVMNIST_and_MIMIC.avmnist import BLOCKS
from AVMNIST_and_MIMIC.encoders import LeNet, MaxPool2x2
from benchmarks.timing import alternate, table

ENCODERS = (("image", 3), ("image", 6), ("audio", 3), ("audio", 6))  # modality and width
UPDATES = {"for-loop": {"foreach": False}, "foreach": {"foreach": True}, "fused": {"fused": True}}


def with_torch_pooling(encoder: nn.Module) -> nn.Module:
    """A copy with `nn.MaxPool2d` where ours pools."""
    encoder = copy.deepcopy(encoder)
    for parent in list(encoder.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, MaxPool2x2):
                setattr(parent, name, nn.MaxPool2d(2))
    return encoder


def variants(encoder: nn.Module, compiled: bool) -> dict[str, nn.Module]:
    """Ways to compute the same; the first is ours."""
    found = {"ours": encoder, "nn.MaxPool2d": with_torch_pooling(encoder)}
    found["channels_last"] = copy.deepcopy(encoder).to(memory_format=torch.channels_last)
    found["MaxPool2d, channels_last"] = with_torch_pooling(encoder).to(memory_format=torch.channels_last)
    if compiled:
        found["compiled"] = copy.deepcopy(encoder)
        found["compiled"].compile()
    return found


def input_of(name: str, x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last) if "channels_last" in name else x


def passes(encoder: nn.Module, x: Tensor, repeats: int, threads: int) -> Callable[[], None]:
    """Forward and backward passes in training mode."""

    def run() -> None:
        torch.set_num_threads(threads)
        for _ in range(repeats):
            encoder.zero_grad()
            encoder(x).sum().backward()

    return run


def result(encoder: nn.Module, x: Tensor) -> list[Tensor]:
    """Features and gradients of one pass; the features' weights differ, so that no gradient cancels out."""
    encoder.zero_grad()
    features = encoder(x)
    (features * torch.linspace(-1, 1, features.numel()).view_as(features)).sum().backward()
    return [features.detach(), *(p.grad.clone() for p in encoder.parameters())]


def difference(a: list[Tensor], b: list[Tensor]) -> float:
    """The largest absolute difference, relative to the largest value of each tensor."""
    return max(((x - y).abs().max() / x.abs().max().clamp_min(1e-12)).item() for x, y in zip(a, b, strict=True))


def encoder_row(encoder: nn.Module, x: Tensor, threads: int, rounds: int, repeats: int, compiled: bool) -> dict[str, tuple]:
    """{variant: (seconds per pass, relative difference from ours of the features, of the gradients)}."""
    torch.set_num_threads(threads)
    found = variants(encoder, compiled)
    results = {name: result(module, input_of(name, x)) for name, module in found.items()}
    tasks = {name: passes(module, input_of(name, x), repeats, threads) for name, module in found.items()}
    seconds = alternate(tasks, rounds)
    return {name: (seconds[name] / repeats, *_apart(results["ours"], results[name])) for name in found}


def _apart(ours: list[Tensor], other: list[Tensor]) -> tuple[float, float]:
    """Differences of the features, and of the gradients."""
    return difference(ours[:1], other[:1]), difference(ours[1:], other[1:])


def update_row(model: nn.Module, rounds: int, repeats: int) -> dict[str, tuple]:
    """{implementation of SGD: (seconds per step, relative difference of the weights from the for-loop after one step)}."""
    torch.manual_seed(0)
    gradients = [torch.randn_like(p) for p in model.parameters()]
    tasks, weights = {}, {}
    for name, options in UPDATES.items():
        copied = copy.deepcopy(model)
        optimizer = torch.optim.SGD(copied.parameters(), lr=0.05, weight_decay=1e-4, **options)
        for p, gradient in zip(copied.parameters(), gradients, strict=True):
            p.grad = gradient.clone()
        optimizer.step()
        weights[name] = [p.detach().clone() for p in copied.parameters()]
        tasks[name] = lambda step=optimizer.step: [step() for _ in range(repeats)]
    seconds = alternate(tasks, rounds)
    return {name: (seconds[name] / repeats, difference(weights["for-loop"], weights[name])) for name in tasks}


def encoder_tables(
    inputs: Mapping[str, Tensor], model: nn.Module, threads: int, rounds: int, steps: int, compiled: bool = False
) -> str:
    """Encoders per thread count and variant, then the update of `model`, as Markdown."""
    note = ""
    if compiled and not any(map(shutil.which, ("c++", "g++", "clang++"))):
        compiled, note = False, "\n\ntorch.compile: left out, it needs a C++ compiler and there is none"
    lines = []
    for modality, width in ENCODERS:
        torch.manual_seed(0)
        encoder = LeNet(width, BLOCKS[modality])
        for n in sorted({1, threads}):
            found = encoder_row(
                encoder, inputs[modality], n, rounds, steps if modality == "image" else max(1, steps // 5), compiled
            )
            ours = found["ours"][0]
            cells = [f"{ours * 1e3:.2f}", *(f"{s / ours:.2f} ({f:.0e}, {g:.0e})" for s, f, g in list(found.values())[1:])]
            lines.append([f"{modality}, width {width}, threads {n}", *cells])
    others = list(found)[1:]
    torch.set_num_threads(threads)
    title = "encoder: forward and backward of 40 examples; others: time / ours (relative difference of features, of gradients)"
    encoders = table(title, ["encoder", "ours, ms", *others], lines)
    updates = [[name, f"{s * 1e6:.0f}", f"{d:.0e}"] for name, (s, d) in update_row(model, rounds, steps).items()]
    return (
        encoders + note + "\n" + table("encoder: one SGD step of i2m2 concat", ["", "µs", "difference from the for-loop"], updates)
    )
