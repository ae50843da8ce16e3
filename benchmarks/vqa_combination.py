"""Seconds and memory to combine VQA-VS's separately trained experts afterwards: python -m
benchmarks.vqa_combination

Generated predictions of as many questions and answers as the benchmark has, as `--save-all` keeps
them; the study of them in a process of its own.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
import torch

from benchmarks.measuring.process import measure
from benchmarks.measuring.timing import machine, table
from i2m2.errors import CommandParser, run_command
from i2m2.runs import require_predictions
from VQA_and_NLVR2.vqa_vs.analysis import combination
from VQA_and_NLVR2.vqa_vs.outputs import select_all_answers

SIZES = {"val": 32_723, "test": 164_264}
ANSWERS = 3_129
EXPERTS = ("image", "text", "inter")


def write_predictions(run: Path, split: str, questions: int, answers: int, seed: int) -> None:
    """Of one expert: noise that knows a little of the ten people's answers, which are the same for
    all experts."""
    people, noise = np.random.default_rng(len(split)), np.random.default_rng(seed)
    answer = np.full((questions, 10), -1, np.int16)
    answer[:, 0] = people.integers(0, answers, questions)
    count = np.where(answer >= 0, 10, 0).astype(np.int8)
    log_prob = 2 * noise.standard_normal((questions, answers), dtype=np.float32)
    log_prob[np.arange(questions), answer[:, 0]] += 4
    log_prob = torch.from_numpy(log_prob).log_softmax(dim=1)
    outputs = select_all_answers(log_prob, {}, {"answer": torch.from_numpy(answer)})
    columns = {
        "id": np.arange(questions),
        "group": np.arange(questions) // 3,
        "answer": answer,
        "count": count,
        "answer_type": np.zeros(questions, np.int8),
    }
    columns |= {name: value.numpy() for name, value in outputs.items()}
    run.mkdir(parents=True, exist_ok=True)
    np.savez(run / f"predictions_{split}.npz", **columns)


def combine_files(folder: Path) -> None:
    """What `i2m2.results` does for one joint run; an expert stands for it."""
    val, test = (
        {name: require_predictions(folder / name, split) for name in EXPERTS} for split in SIZES
    )
    print(json.dumps(combination(val, test, require_predictions(folder / "inter", "test"))))


def main(argv: list[str] | None = None) -> None:
    parser = CommandParser("benchmarks.vqa_combination", description=__doc__.split("\n")[0])
    about = "of the benchmark's questions; default: all"
    parser.add_argument("--share", type=float, default=1.0, help=about)
    parser.add_argument("--answers", type=int, default=ANSWERS, help=f"default: {ANSWERS}")
    about = "the measured half: a folder of generated runs"
    parser.add_argument("--combine", type=Path, help=about)
    args = parser.parse_args(argv)
    if args.combine:
        return combine_files(args.combine)
    print(f"Machine: {machine()}\nData: SYNTHETIC predictions")
    sizes = {split: max(2, round(args.share * questions)) for split, questions in SIZES.items()}
    with tempfile.TemporaryDirectory() as scratch:
        for seed, name in enumerate(EXPERTS):
            for split, questions in sizes.items():
                write_predictions(Path(scratch) / name, split, questions, args.answers, seed)
        cost = measure(["benchmarks.vqa_combination", "--combine", scratch])
    columns = ["questions of val", "of test", "answers", "seconds", "of CPU", "peak, GB"]
    measured = [f"{value:.1f}" for value in (cost.seconds, cost.cpu, cost.peak)]
    number = [f"{sizes['val']:,}", f"{sizes['test']:,}", f"{args.answers:,}"]
    print(table("three experts", columns, [[*number, *measured]]))


if __name__ == "__main__":
    run_command(main)
