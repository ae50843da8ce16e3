"""VQA-VS heads on cached features against the frozen backbone run again in every step: python -m
benchmarks.vqa

Generated pictures and questions, the tiny FIBER of the synthetic configuration with random weights,
one process. The backbone that is run again shares its prefixes too, so that the ratio to the
published way, three passes, is larger.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.measuring.timing import alternate, beside, machine, table
from i2m2.errors import CommandParser, run_command
from i2m2.losses import binary_cross_entropy
from i2m2.training.config import load_config
from i2m2.training.data import Data, seed_everything, to_device
from i2m2.training.optimizers import build_optimizer
from VQA_and_NLVR2.backbones.build import build_backbone
from VQA_and_NLVR2.backbones.heads import make_head
from VQA_and_NLVR2.backbones.tokenizer import load_tokenizer, tokenize
from VQA_and_NLVR2.extract_features import extract_features
from VQA_and_NLVR2.features.frozen import Frozen, Pictures
from VQA_and_NLVR2.make_synthetic import make_synthetic
from VQA_and_NLVR2.vqa_vs.data import plan_of
from VQA_and_NLVR2.vqa_vs.experiment import build_model, load, loss_of, parameters, soft_target
from VQA_and_NLVR2.vqa_vs.settings import VQAConfig

ROOT = Path(__file__).resolve().parents[1]
CONFIG = str(ROOT / "VQA_and_NLVR2/configs/vqa_vs_synthetic.yaml")
CPU = torch.device("cpu")
# Of the real data set; of its distinct questions it is only known that 75 % of Val's are.
IMAGES, QUESTIONS, TRAINING, ANSWERS = 123_287, 658_111, 461_124, 3_129
WIDTHS = {"image": 768, "text": 768, "fused": 1536}  # FIBER's


def config_of(folder: Path, dtype: str = "float32") -> VQAConfig:
    given = {
        "backbone.kind": "fiber_random",
        "backbone.checkpoint": "null",
        "backbone.sizes": ROOT / "VQA_and_NLVR2/configs/fiber_tiny.json",
        "backbone.tokenizer": folder / "data/tokenizer",
        "init": "scratch",
        "method": "i2m2",
        "data.source": "files",
        "data.dir": folder / "data",
        "features.dir": folder / dtype,
        "features.dtype": dtype,
    }
    words = [word for name, value in given.items() for word in (f"--{name}", str(value))]
    return load_config(VQAConfig, ["--config", CONFIG, *words], "benchmark")


class Uncached:
    """The same examples without a cache: pictures, questions, and the backbone."""

    def __init__(self, config: VQAConfig, data: Data, in_memory: bool) -> None:
        self.split = data.splits["train"]
        plan, paths = plan_of(config.data)
        seed_everything(0)
        backbone = build_backbone(config.backbone)
        self.frozen = Frozen(backbone, CPU, batch_size=config.optim.batch_size)
        tokenizer = load_tokenizer(backbone.tokenizer)
        self.ids, self.mask, _ = tokenize(tokenizer, plan.texts, backbone.max_text_length)
        self.pictures = Pictures(paths, backbone.image_size)
        self.decoded = self.pictures[0, np.arange(len(paths))]["images"] if in_memory else None

    @torch.no_grad()
    def inputs(self, positions: np.ndarray) -> dict[str, Tensor]:
        """The vectors of these examples."""
        image, text = (self.split.rows[kind][positions, 0] for kind in ("image", "text"))
        if self.decoded is None:
            pictures = self.pictures[0, image]["images"]
        else:
            pictures = self.decoded[torch.from_numpy(image)]
        image_vector, image_state = self.frozen.images(pictures)
        rows = np.arange(len(positions))
        text_vector, text_state = self.frozen.texts(self.ids[text], self.mask[text], rows >= 0)
        return {
            "image": image_vector,
            "text": text_vector,
            "fused": self.frozen.pairs(image_state, rows, text_state, rows),
        }


def updates(
    config: VQAConfig, data: Data, inputs: Callable[[np.ndarray], dict[str, Tensor]], steps: int
) -> Callable[[], None]:
    """So many updates of I2M2's heads, each on the next batch."""
    seed_everything(0)
    model, loss = build_model(config), loss_of(config, data, CPU)
    optimizer = build_optimizer(parameters(config, model), config.optim)
    train = data.splits["train"]
    batches = np.array_split(np.arange(steps * config.optim.batch_size) % len(train), steps)

    def run() -> None:
        for positions in batches:
            y = {name: torch.from_numpy(array[positions]) for name, array in train.y.items()}
            loss(model(inputs(positions))[0], y).mean().backward()
            optimizer.step()
            optimizer.zero_grad()

    return run


def cached_inputs(data: Data) -> Callable[[np.ndarray], dict[str, Tensor]]:
    train = data.splits["train"]
    return lambda positions: to_device(train[positions], CPU, train.prepare)["inputs"]


def speed_rows(
    config: VQAConfig, data: Data, steps: int, cached_steps: int, rounds: int
) -> list[list[str]]:
    """Seconds of an epoch, by updates of the same batch size."""
    ways: Mapping[str, tuple[Callable, int]] = {
        "cached": (cached_inputs(data), cached_steps),
        "again, decoded images in memory": (Uncached(config, data, in_memory=True).inputs, steps),
        "again, images decoded too": (Uncached(config, data, in_memory=False).inputs, steps),
    }
    tasks = {name: updates(config, data, inputs, n) for name, (inputs, n) in ways.items()}
    seconds = alternate(tasks, rounds)
    epoch = -(-len(data.splits["train"]) // config.optim.batch_size)
    times = {name: seconds[name] / n * epoch for name, (_, n) in ways.items()}
    rows = []
    for name, value in times.items():
        ratio = ["", ""] if name == "cached" else beside(value / times["cached"], ">= 20", 1)
        rows.append([name, f"{value:.2f}", *ratio])
    return rows


def deviations(config: VQAConfig, data: Data, half: Data, examples: int) -> list[list[str]]:
    """Largest difference of cached features, and of the heads' logits on them, from those of the
    backbone's own vectors."""
    seed_everything(0)
    model = build_model(config).eval()
    questions = len(data.splits["train"])
    positions = np.arange(0, questions, max(1, questions // examples))
    uncached = Uncached(config, data, in_memory=False).inputs(positions)

    def logits(inputs: dict[str, Tensor]) -> Tensor:
        experts = model.experts.values()
        with torch.no_grad():
            return torch.stack([e.head(inputs[e.modalities[0]]) for e in experts])

    rows = []
    for name, stored in (("float32", data), ("float16", half)):
        cached = cached_inputs(stored)(positions)
        features = max((cached[kind] - uncached[kind]).abs().max().item() for kind in uncached)
        off = (logits(cached) - logits(uncached)).abs().max().item()
        target = "<= 1e-5: " + ("met" if off <= 1e-5 else "missed") if name == "float32" else ""
        rows.append([name, f"{features:.1e}", f"{off:.1e}", target])
    return rows


def size_rows(folder: Path) -> list[list[str]]:
    """Bytes here, and what the real data set takes by FIBER's widths."""
    rows = []
    for dtype, size in (("float32", 4), ("float16", 2)):
        shapes = {kind: np.load(folder / dtype / f"{kind}.npy", mmap_mode="r") for kind in WIDTHS}
        for kind, array in shapes.items():
            per = array.nbytes // len(array)
            assert per == array.shape[1] * size
            number = IMAGES if kind == "image" else QUESTIONS
            whole = WIDTHS[kind] * size
            most = f"{whole * number / 1e9:.2f}"
            total = f"0.00..{most}" if kind == "text" else most
            name = f"{kind}, {dtype}"
            rows.append([name, len(array), per, f"{whole:,}", f"{number:,}", total])
        every = sum(WIDTHS.values()) * size
        once = (WIDTHS["image"] * IMAGES + WIDTHS["fused"] * QUESTIONS) * size / 1e9
        text = WIDTHS["text"] * QUESTIONS * size / 1e9
        rows.append([f"all, {dtype}", "", "", "", "", f"{once:.2f}..{once + text:.2f}"])
        name, total = f"all with every question, {dtype}", f"{every * QUESTIONS / 1e9:.2f}"
        rows.append([name, "", "", f"{every:,}", f"{QUESTIONS:,}", total])
    return rows


def full_step(rounds: int, batch: int = 512) -> list[str]:
    """An update of I2M2's heads at real size, on random features."""
    heads = nn.ModuleList(make_head(width, ANSWERS) for width in WIDTHS.values())
    optimizer = torch.optim.AdamW(heads.parameters(), fused=True)
    features = [torch.randn(batch, width) for width in WIDTHS.values()]
    y = {"answer": torch.randint(-1, ANSWERS, (batch, 10)), "score": torch.full((batch, 10), 0.3)}

    def update() -> None:
        log_prob = sum(head(x) for head, x in zip(heads, features, strict=True)).log_softmax(dim=1)
        binary_cross_entropy(log_prob, soft_target(y, ANSWERS)).mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    seconds = alternate({"update": update}, rounds)["update"]
    return [f"{batch}", f"{seconds:.2f} s", f"{seconds * -(-TRAINING // batch) / 60:.0f} min"]


def main(argv: list[str] | None = None) -> None:
    """Print four tables."""
    args = parse(argv)
    torch.set_num_threads(args.threads)
    print(f"{machine()}; generated data")
    log = io.StringIO()
    with tempfile.TemporaryDirectory() as temporary, contextlib.redirect_stdout(log):
        folder = Path(temporary)
        make_synthetic(folder / "data", "vqa_vs", args.scenes)
        seconds, loaded = {}, {}
        for dtype in ("float32", "float16"):
            began = time.perf_counter()
            extract_features(config_of(folder, dtype), again=True)
            seconds[dtype] = time.perf_counter() - began
            loaded[dtype] = load(config_of(folder, dtype))
        config, data = config_of(folder), loaded["float32"]
        speed = speed_rows(config, data, args.steps, args.cached_steps, args.rounds)
        logits = deviations(config, data, loaded["float16"], 200)
        sizes = size_rows(folder)
        step = full_step(max(1, args.rounds // 2))
    assert "complete" in log.getvalue()
    epoch = f"{len(data.splits['train']):,} questions in batches of {config.optim.batch_size}"
    title = f"An epoch of I2M2's heads, {epoch}, medians of {args.rounds} rounds"
    print(table(title, ["", "seconds", "of cached", "target"], speed))
    once = f"{seconds['float32']:.1f} s, once for all rows, seeds and epochs"
    print(f"\nthe features themselves: {once}")
    columns = ["stored as", "features", "logits", "target for logits"]
    print(table("Cached against uncached, largest differences", columns, logits))
    columns = ["", "rows here", "bytes each here", "bytes each, FIBER", "VQA-VS"]
    columns.append("GB, VQA-VS (text: by how many are distinct)")
    print(table("Storage", columns, sizes))
    columns = ["batch", "update", f"epoch of {TRAINING:,}"]
    print(table("I2M2's heads at real size, on this CPU", columns, [step]))


def parse(argv: list[str] | None) -> Namespace:
    parser = CommandParser("benchmarks.vqa", __doc__)

    def number(option: str, default: int, about: str = "") -> None:
        parser.add_argument(option, type=int, default=default, help=f"{about}default: {default}")

    number("--scenes", 400, "to generate, six questions each; ")
    number("--steps", 3, "updates with the backbone per round; ")
    number("--cached-steps", 40, "updates on cached features per round; ")
    number("--rounds", 5)
    number("--threads", 1)
    return parser.parse_args(argv)


if __name__ == "__main__":
    run_command(main)
