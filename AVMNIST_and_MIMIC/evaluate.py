"""python -m AVMNIST_and_MIMIC.evaluate results/avmnist/i2m2-concat/seed0 --split test"""

from __future__ import annotations

from pathlib import Path

from AVMNIST_and_MIMIC.datasets import dataset_of
from i2m2.config import load_config
from i2m2.errors import CommandParser, SettingsError, run_command
from i2m2.evaluate import predict, scores_of, table_of
from i2m2.run import Run
from i2m2.train import make_accelerator


def main(argv: list[str] | None = None) -> None:
    about = "Score a run: the product and each of its experts."
    parser = CommandParser(prog="python -m AVMNIST_and_MIMIC.evaluate", description=about)
    parser.add_argument("run", type=Path, help="folder of the run, such as results/avmnist/i2m2-concat/seed0")
    parser.add_argument("--split", choices=("train", "val", "test"), default="test")
    parser.add_argument("--combine", choices=("product", "mixture"), default="product", help="mixture: their mean probability")
    parser.add_argument("--data.dir", dest="data_dir", metavar="DIR", help="where the data lie, if not where the run found them")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto")
    parser.add_argument("--again", action="store_true", help="predict again from the weights instead of scoring saved predictions")
    args = parser.parse_args(argv)
    if not (args.run / "config.yaml").exists():
        raise SettingsError(f"{args.run} has no config.yaml; give a run's folder such as results/avmnist/i2m2-concat/seed0")
    stored = ["--config", str(args.run / "config.yaml")]
    here = ["--device", args.device, "--tracker", "null", *(["--data.dir", args.data_dir] if args.data_dir else [])]
    dataset = dataset_of(stored)
    config = load_config(dataset.config, [*stored, *here], "AVMNIST_and_MIMIC.train")
    run = Run(args.run, config)
    predictions = None if args.again else run.load_predictions(args.split)
    if predictions is None:
        data = dataset.load(config)
        run.refuse_other_data(data.facts)
        model = dataset.build_model(config)
        model.load_state_dict(run.load_best())
        accelerator = make_accelerator(config)
        predictions = predict(model.to(accelerator.device), data.splits[args.split], accelerator, config.step_size)
        if run.done:  # of a run still in training they would soon be out of date
            run.save_predictions(args.split, predictions)
    print(f"{args.run}, {args.split} split, {len(predictions['y'])} examples, data: {run.facts['description']}")
    print(table_of(scores_of(predictions, combine=args.combine)))


if __name__ == "__main__":
    run_command(main)
