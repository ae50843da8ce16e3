"""Speed and memory of the FIBER backbone with random weights: python -m benchmarks.fiber [--parts
share,load,extract]

share    the vectors of a batch from three (NLVR2: five) separate passes / with shared prefixes, in
         evaluation mode
load     seconds and memory to load a file with the entries of the published pre-training
         checkpoint into the full-size model
extract  seconds per image, per text and per pair, as feature extraction computes them, on the CPU
         and on a GPU where there is one
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

from benchmarks.measuring.timing import alternate, beside, choices, machine, table
from i2m2.errors import run_command
from VQA_and_NLVR2.backbones.fiber import FIBER, FIBERSizes
from VQA_and_NLVR2.backbones.fiber_checkpoint import load_fiber
from VQA_and_NLVR2.backbones.roberta import RobertaSizes
from VQA_and_NLVR2.backbones.swin import SwinSizes

LENGTH = 50  # tokens of a text, as published
# Separate / shared at 384 pixels, 50 tokens.
GFLOP = {"VQA-VS": 216.3 / 141.0, "NLVR2": 423.9 / 273.3}
PUBLISHED = 722  # entries of the pre-training checkpoint


def sizes_of(name: str) -> FIBERSizes:
    if name == "full, 384 pixels":
        return FIBERSizes()
    swin = SwinSizes(image_size=128, embed_dim=16, num_heads=(1, 2, 4, 8))
    small = {"vocab_size": 200, "hidden_size": 48, "intermediate_size": 192}
    roberta = RobertaSizes(**small, num_attention_heads=4)
    return FIBERSizes(swin=swin, roberta=roberta, hidden_size=48)


def new_model(sizes: FIBERSizes) -> FIBER:
    torch.manual_seed(0)
    return FIBER(sizes).eval()


def batch_of(model: FIBER, size: int) -> tuple[list[Tensor], Tensor, Tensor]:
    """Two images per example, and texts without padding."""
    images = [torch.randn(size, 3, model.image_size, model.image_size) for _ in range(2)]
    ids = torch.randint(3, model.sizes.roberta.vocab_size, (size, LENGTH))
    return images, ids, torch.ones(size, LENGTH, dtype=torch.bool)


def separate(model: FIBER, images: list[Tensor], ids: Tensor, mask: Tensor) -> list[Tensor]:
    """Every vector from a pass of its own: image-only and fused for each image, text-only once."""
    found = [model.encode_text(ids, mask)[0]]
    for image in images:
        found.append(model.encode_image(image)[0])
        _, image_state = model.encode_image(image, vector=False)
        _, text_state = model.encode_text(ids, mask, vector=False)
        found.append(model.fuse(image_state, text_state))
    return found


def shared(model: FIBER, images: list[Tensor], ids: Tensor, mask: Tensor) -> list[Tensor]:
    text_vector, text = model.encode_text(ids, mask)
    found = [text_vector]
    for image in images:
        vector, state = model.encode_image(image)
        found += [vector, model.fuse(state, text)]
    return found


def cpu_seconds(call: Callable[[], object]) -> float:
    """Of all threads: on a machine that others use too it says more than the clock."""
    began = time.process_time()
    call()
    return time.process_time() - began


@torch.inference_mode()
def share_part(args: argparse.Namespace) -> str:
    rows = []
    for name, size in (("full, 384 pixels", args.batch), ("tiny, 128 pixels", 16)):
        model = new_model(sizes_of(name))
        images, ids, mask = batch_of(model, size)
        for task, used in (("VQA-VS", images[:1]), ("NLVR2", images)):
            by_flop = f"{GFLOP[task]:.2f}" if name.startswith("full") else ""
            cells, same = share_times(model, used, ids, mask, args.rounds)
            equal = "yes" if same else "NO"
            rows.append([f"{name}, batch {size}", task, *cells, by_flop, equal])
    columns = ["model", "task", "separate, s per example", "shared"]
    columns += ["separate / shared by the clock", "in CPU time", "target", "by GFLOP", "equal bits"]
    return table(f"share: {args.rounds} rounds, {LENGTH} tokens", columns, rows)


def share_times(
    model: FIBER, images: list[Tensor], ids: Tensor, mask: Tensor, rounds: int
) -> tuple[list[str], bool]:
    """-> (seconds per example of both ways, their ratio by the clock and in CPU time, its target;
    whether they give equal bits)."""
    ways = {"separate": separate, "shared": shared}
    made = [way(model, images, ids, mask) for way in ways.values()]
    same = all(torch.equal(a, b) for a, b in zip(*made, strict=True))
    cpu: dict[str, list[float]] = {name: [] for name in ways}

    def timed(name: str) -> Callable[[], None]:
        return lambda: cpu[name].append(cpu_seconds(lambda: ways[name](model, images, ids, mask)))

    # The check above was the warm-up.
    seconds = alternate({name: timed(name) for name in ways}, rounds, warmup=0)
    clock = f"{seconds['separate'] / seconds['shared']:.2f}"
    ratio = beside(median(cpu["separate"]) / median(cpu["shared"]), ">= 1.3")
    return [*(f"{seconds[name] / len(ids):.3f}" for name in ways), clock, *ratio], same


def published_file(path: Path) -> int:
    """Write a file with the entries of the pre-training checkpoint and count them; its queues and
    heads are one number each."""
    model = new_model(FIBERSizes())
    shapes: dict[str, tuple[int, ...]] = {
        "text_transformer.embeddings.position_ids": (1, 514),
        "text_transformer.pooler.dense.weight": (768, 768),
        "text_transformer.pooler.dense.bias": (768,),
        "temp": (),
        "mlm_score.bias": (50265,),
        "mlm_score.decoder.weight": (50265, 768),
        "mlm_score.transform.dense.weight": (768, 768),
        "mlm_score.transform.dense.bias": (768,),
        "mlm_score.transform.LayerNorm.weight": (768,),
        "mlm_score.transform.LayerNorm.bias": (768,),
        "itm_score.fc.weight": (2, 1536),
        "itm_score.fc.bias": (2,),
        "rank_output.weight": (1, 1536),
        "rank_output.bias": (1,),
        "image_queue": (768, 4096),
        "text_queue": (768, 4096),
        "image_input_queue": (4096, 3, 384, 384),
        "text_input_queue": (4096, 40),
        "text_input_mask_queue": (4096, 40),
        "queue_ptr": (1,),
        "queue_total": (1,),
    }
    layer = "text_transformer.encoder.layer"
    for k in range(6):
        shapes[f"{layer}.{k}.alpha_t2i"] = (1,)
        shapes[f"{layer}.{k + 6}.crossattention_t2i.output.LayerNorm.weight"] = (768,)
        shapes[f"{layer}.{k + 6}.crossattention_t2i.output.LayerNorm.bias"] = (768,)
    entries = dict(model.state_dict()) | dict(model.named_buffers())
    entries |= {name: torch.zeros(()).expand(shape) for name, shape in shapes.items()}
    torch.save({"state_dict": entries}, path)
    return len(entries)


def load_part(args: argparse.Namespace) -> str:
    """In a process of its own, so that nothing else counts towards the peak."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "fiber_pretrain.ckpt"
        entries, size = published_file(path), path.stat().st_size
        command = [sys.executable, "-m", "benchmarks.fiber", "--load", str(path)]
        command += ["--threads", str(args.threads)]
        child = subprocess.run(command, check=True, capture_output=True, text=True)
        found = json.loads(child.stdout.splitlines()[-1])
    whole = "met" if entries == PUBLISHED else "missed"
    every = "met" if found["all"] == entries else "missed"
    loading = f"{found['load']:.1f} ({found['clock']:.1f})"

    def gigabytes(number: float) -> str:
        return f"{number / 1e9:.2f}"

    rows = [
        ["entries in the file", entries, f"{PUBLISHED}: {whole}"],
        ["entries loaded, adapted, ignored by rule", found["entries"], f"all: {every}"],
        ["file (queues and left-out parts hold one number each), GB", gigabytes(size), ""],
        ["parameters, GB", gigabytes(found["parameters"]), ""],
        ["building the model with random weights, CPU s", f"{found['build']:.1f}", ""],
        ["loading, CPU s (and by the clock)", loading, ""],
        ["memory with the model built, GB", gigabytes(found["before"]), ""],
        ["peak while loading, mapped pages of the file included, GB", gigabytes(found["peak"]), ""],
        ["private memory after loading, GB", gigabytes(found["private"]), ""],
    ]
    return table("load: full size, 384 pixels, a process of its own", ["", "value", "target"], rows)


def measure_load(path: Path) -> None:
    """The child's half of `load_part`."""
    began = time.process_time()
    model = new_model(FIBERSizes())
    built, clock, before = time.process_time(), time.perf_counter(), _status("VmRSS")
    report = load_fiber(model, path)
    loaded, clock = time.process_time(), time.perf_counter() - clock
    counts = [len(report.loaded), len(report.adapted), sum(map(len, report.ignored.values()))]
    found = {
        "entries": ", ".join(map(str, counts)),
        "all": sum(counts),
        "parameters": sum(p.numel() * p.element_size() for p in model.parameters()),
        "build": built - began,
        "load": loaded - built,
        "clock": clock,
        "before": before,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "private": _status("RssAnon"),
    }
    print(json.dumps(found))


def _status(field: str) -> int:
    """Bytes that Linux counts for this process: VmRSS, all pages in memory; RssAnon, those that are
    not of a file."""
    lines = Path("/proc/self/status").read_text().splitlines()
    line = next(line for line in lines if line.startswith(f"{field}:"))
    return int(line.split()[1]) * 1024


def extract_part(args: argparse.Namespace) -> str:
    """On the CPU, and where there is a GPU also on it, in float32 and bfloat16."""
    tables = [extraction_times(args, torch.device("cpu"), None, args.batch)]
    if torch.cuda.is_available():
        for precision in (None, torch.bfloat16):
            tables.append(extraction_times(args, torch.device("cuda"), precision, args.gpu_batch))
    return "\n".join(tables)


@torch.inference_mode()
def extraction_times(
    args: argparse.Namespace, device: torch.device, precision: torch.dtype | None, size: int
) -> str:
    model = new_model(FIBERSizes())
    images, ids, mask = batch_of(model, size)
    model, pictures = model.to(device), images[0].to(device)
    ids, mask = ids.to(device), mask.to(device)

    def timed(call: Callable[[], object]) -> Callable[[], None]:
        def run() -> None:
            with torch.autocast(device.type, precision, enabled=precision is not None):
                call()
            if device.type == "cuda":
                torch.cuda.synchronize()

        return run

    _, image = model.encode_image(pictures)
    _, text = model.encode_text(ids, mask)
    ten = (ids[:, :10], mask[:, :10])
    _, short = model.encode_text(*ten)
    calls = {
        "image: state and vector": lambda: model.encode_image(pictures),
        "image: state alone": lambda: model.encode_image(pictures, vector=False),
        f"text of {LENGTH} tokens: state and vector": lambda: model.encode_text(ids, mask),
        "text of 10 tokens: state and vector": lambda: model.encode_text(*ten),
        f"pair, {LENGTH} tokens": lambda: model.fuse(image, text),
        "pair, 10 tokens": lambda: model.fuse(image, short),
    }
    tasks = {name: timed(call) for name, call in calls.items()}
    seconds = {name: value / size for name, value in alternate(tasks, args.rounds).items()}
    rows = [[name, f"{value:.4f}", f"{1 / value:.2f}"] for name, value in seconds.items()]
    where = torch.cuda.get_device_name() if device.type == "cuda" else f"{args.threads} threads"
    kind = "float32" if precision is None else "bfloat16"
    title = f"extract: full size, 384 pixels, {kind}, {where}, batch {size}, {args.rounds} rounds"
    return table(title, ["", "s each", "per second"], rows)


PARTS = {"share": share_part, "load": load_part, "extract": extract_part}


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    usual = ",".join(PARTS)
    about = "separated by commas"
    parser.add_argument("--parts", type=choices(PARTS), default=usual, help=about)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=3, help="that count, after one to warm up")
    parser.add_argument("--batch", type=int, default=2, help="of the full-size model")
    about = "the same on a GPU, where there is one"
    parser.add_argument("--gpu-batch", type=int, default=64, help=about)
    parser.add_argument("--load", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    torch.set_num_threads(args.threads)
    if args.load is not None:
        return measure_load(args.load)
    print(f"Machine: {machine()}\nData: noise; weights: random", flush=True)
    for name, part in PARTS.items():
        if name in args.parts:
            print(part(args), flush=True)


if __name__ == "__main__":
    run_command(main)
