"""Train weights for the tiny FIBER on synthetic scenes: a stand-in for FIBER's pre-training,
minutes on 2 cores.

python -m VQA_and_NLVR2.pretrain_tiny --data data/vqa_vs-synthetic --out data/fiber_tiny.ckpt

The scenes are drawn for this alone: no picture, question or answer of a data set is read, only its
tokenizer. They have no habits (any shape has any colour), so that the weights bring no knowledge of
the data sets' language prior. What is learned:

* image-only vector: which shapes, colours, ground and time of day are there; text-only vector:
  which text it is, both for FIBER's contrastive loss;
* fused vector: the answer to a question, for FIBER's masked words, and whether a statement is true
  of the image, for its matching. Captions speak of things, hardly of the time of day, so that these
  texts do not either (`questions.UNSAID`);
* the image's tokens: what stands in each cell, for Swin's pre-training on ImageNet, and, once text
  has come in, whether it is what the text speaks of, for FIBER's second stage, which grounds
  phrases.

The file has FIBER's published layout and parameter names, and is loaded like the published one.
"""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from i2m2.errors import CommandParser, DataError, SettingsError, run_command
from i2m2.files import write_atomic

SIZES = Path(__file__).parent / "configs/fiber_tiny.json"


def main(argv: list[str] | None = None) -> None:
    """Pre-train and write the file."""
    args = _parser().parse_args(argv)
    _check(args)
    import torch  # here: it takes seconds, and the mistakes above need none of it

    from VQA_and_NLVR2.synthetic.pretraining import STEPS, TESTED, pretrain

    if args.threads is not None:
        torch.set_num_threads(args.threads)
    steps = STEPS if args.steps is None else args.steps
    model, accuracy = pretrain(args.sizes, args.data / "tokenizer", steps, args.seed)
    write_atomic(args.out, lambda path: torch.save({"state_dict": model.state_dict()}, path))
    shares = ", ".join(f"{name} {100 * value:.1f} %" for name, value in accuracy.items())
    made = f"{steps} steps, seed {args.seed}"
    print(f"SYNTHETIC pre-training ({made}); on {TESTED} scenes not trained on: {shares}")
    print(f"written: {args.out}")


def _check(args: Namespace) -> None:
    """SettingsError, DataError for what cannot be."""
    least = {"steps": 1, "threads": 1, "seed": 0}
    values = {name: getattr(args, name) for name in least}
    if any(value is not None and value < least[name] for name, value in values.items()):
        raise SettingsError(
            f"--steps {args.steps} and --threads {args.threads} must be at least 1, "
            f"--seed {args.seed} at least 0"
        )
    if args.out.exists():
        raise SettingsError(f"{args.out} exists; remove it or give another --out")
    folder = args.data / "tokenizer"
    if not folder.is_dir():
        raise DataError(
            f"{folder} is missing; make the data with python -m VQA_and_NLVR2.make_synthetic"
        )


def _parser() -> CommandParser:
    parser = CommandParser("python -m VQA_and_NLVR2.pretrain_tiny", __doc__, allow_abbrev=False)

    def add(option: str, **how: object) -> None:
        parser.add_argument(option, **how)

    about = "folder made by make_synthetic, whose tokenizer is used"
    add("--data", type=Path, required=True, metavar="DIR", help=about)
    add("--out", type=Path, required=True, metavar="FILE", help="file of weights to write")
    about = "JSON file of the model's sizes (default: configs/fiber_tiny.json)"
    add("--sizes", type=Path, default=SIZES, metavar="FILE", help=about)
    add("--steps", type=int, help="number of training steps (default: 1200)")
    add("--seed", type=int, default=0, help="seed of the weights and the scenes (default: 0)")
    add("--threads", type=int, help="number of CPU threads (default: PyTorch's choice)")
    return parser


if __name__ == "__main__":
    run_command(main)
