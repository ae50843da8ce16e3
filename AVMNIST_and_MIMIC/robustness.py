"""python -m AVMNIST_and_MIMIC.robustness results/mimic-mortality: finished runs on corrupted test data and without a modality"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from AVMNIST_and_MIMIC.avmnist.corruptions import avmnist_corruptions
from AVMNIST_and_MIMIC.datasets import DATASETS
from AVMNIST_and_MIMIC.mimic.corruptions import mimic_corruptions
from i2m2 import results
from i2m2.errors import CommandParser, DataError, SettingsError, run_command
from i2m2.files import write_atomic, write_text
from i2m2.metrics import accuracy
from i2m2.report.notes import about, data_kind
from i2m2.report.tables import read_entries
from i2m2.runs import RunRecord
from i2m2.settings import RunConfig
from i2m2.training import robustness
from i2m2.training.commands import DatasetSpec, dataset_of
from i2m2.training.config import load_config
from i2m2.training.data import Data
from i2m2.training.evaluate import predict
from i2m2.training.experiment import Experiment
from i2m2.training.loop import make_accelerator
from i2m2.training.run import Run

PROGRAM = "AVMNIST_and_MIMIC.robustness"
CORRUPTIONS = {"avmnist": avmnist_corruptions, "mimic": mimic_corruptions}


def main(argv: list[str] | None = None) -> None:
    args = _parse(argv)
    finished = robustness.finished_runs(args.results)
    spec = dataset_of(DATASETS, ["--config", str(finished[0].dir / "config.yaml")])
    runs = [Run(run.dir, _config(run, spec, args)) for run in finished]
    dataset = spec.experiment()
    groups = _by_data(runs, dataset)
    accelerator = make_accelerator(replace(runs[0].config, tracker=None, precision="no"))

    def evaluate(model: nn.Module, split: Any) -> robustness.Answer:
        predictions = predict(model, split, accelerator, runs[0].config.step_size)
        value = accuracy(predictions["y"], predictions["log_prob"])
        return robustness.Answer(value, robustness.uniform_answers(predictions["log_prob"]))

    corruptions, points = CORRUPTIONS[runs[0].config.dataset](args.seed), []
    for data, members in groups:
        models = {
            (run.dir.parent.name, run.config.seed): _model(run, dataset).to(accelerator.device)
            for run in members
        }
        points += robustness.measure(
            models, data.splits["test"], corruptions, evaluate, args.levels
        )
    _report(args, finished, points, groups[0][0], corruptions)


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = CommandParser(
        prog=f"python -m {PROGRAM}",
        description="Accuracy of finished runs on corrupted test data and without a modality; writes robustness.csv, "
        "robustness_summary.csv, robustness.png and robustness.pdf into the results folder.",
    )
    parser.add_argument(
        "results", type=Path, help="folder that holds <run>/seed<k>, such as results/avmnist"
    )
    parser.add_argument(
        "--data.dir",
        dest="data_dir",
        metavar="DIR",
        help="where the data lie now, if no longer where the runs say",
    )
    parser.add_argument(
        "--levels", type=float, nargs="+", default=robustness.LEVELS, help="rising levels from 0 (clean) to at most 1; default: "
        "0.0 0.1 ... 1.0, with which alone the two robustness scores are comparable with others'"
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="of the corruptions; default: 0")
    parser.add_argument(
        "--baseline",
        default="inter-concat",
        help="run that effective robustness compares with; default: %(default)s",
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto")
    args = parser.parse_args(argv)
    levels = args.levels
    if (
        levels[0] != 0
        or levels[-1] > 1
        or len(levels) < 2
        or not all(a < b for a, b in zip(levels, levels[1:], strict=False))
    ):
        raise SettingsError(
            f"--levels {' '.join(map(str, levels))}: they must rise from 0 to at most 1, such as 0 0.5 1"
        )
    if args.seed < 0:
        raise SettingsError(f"--seed {args.seed} must be at least 0")
    return args


def _config(run: RunRecord, dataset: DatasetSpec, args: argparse.Namespace) -> RunConfig:
    """The settings a run was trained with, but for where the data lie and the device."""
    if DATASETS.get(run.config.get("dataset")) is not dataset:
        raise SettingsError(
            f"{run.dir} is a run of {run.config.get('dataset')}, unlike others there; keep data sets in separate folders"
        )
    config = load_config(
        dataset.config, ["--config", str(run.dir / "config.yaml"), "--device", args.device], PROGRAM
    )
    return replace(config, data=replace(config.data, dir=args.data_dir or config.data.dir))


def _by_data(runs: Iterable[Run], dataset: Experiment) -> list[tuple[Data, list[Run]]]:
    """The runs by their data settings (another standardisation, say, is another test split), each
    group with its data. DataError if they are gone, have changed, or are not the same files for
    all."""
    groups: dict[Any, tuple[Data, list[Run]]] = {}
    for run in runs:
        settings = run.config.data
        try:
            data, members = groups.get(settings) or (dataset.load(run.config), [])
        except DataError as error:
            raise DataError(
                f"the data of {run.dir} cannot be read; if they lie elsewhere now, add --data.dir: {error}"
            ) from error
        run.refuse_other_data(data.facts)
        groups[settings] = (data, [*members, run])
    if len({data.facts["fingerprint"] for data, _ in groups.values()}) > 1:
        places = ", ".join(str(settings.folder) for settings in groups)
        raise DataError(
            f"the runs read different data ({places}), so they cannot stand in one table; keep them in separate folders"
        )
    return list(groups.values())


def _model(run: Run, dataset: Experiment) -> nn.Module:
    model = dataset.build_model(run.config)
    model.load_state_dict(run.load_best())
    return model


def _report(
    args: argparse.Namespace,
    finished: list[RunRecord],
    points: list[robustness.Point],
    data: Data,
    corruptions: robustness.Corruptions,
) -> None:
    """Write the files and print the summary; rows in the paper's order, then the other runs."""
    folder, test = args.results, data.splits["test"]
    entry = results.entries_of(folder.resolve().name, read_entries(), finished)[0]
    names = {run.name for run in finished}
    table = {row.run: row.label for row in entry.rows if row.run in names}
    rows = table | {name: name for name in sorted(names - set(table))}
    order = [*corruptions, *(robustness.MISSING + modality for modality in test.inputs)]
    points = sorted(
        points,
        key=lambda point: (list(rows).index(point.run), point.seed, order.index(point.corruption)),
    )
    summary = robustness.summarise(points, args.baseline)
    what = about(folder.resolve().name, data_kind(entry, finished), finished)
    figure = robustness.draw(
        points, table or rows, corruptions, f"Robustness of models trained on clean data\n{what}"
    )
    write_text(folder / "robustness.csv", robustness.points_csv(points, rows))
    write_text(folder / "robustness_summary.csv", robustness.summary_csv(summary, rows))
    for kind in ("png", "pdf"):
        write_atomic(folder / f"robustness.{kind}", partial(figure.savefig, format=kind))
    print(f"## Robustness ({what})\n\n{robustness.summary_markdown(summary, rows)}\n")
    print("\n".join(f"- {note}" for note in _notes(args, rows, points, data)))
    print(
        "written:",
        *(folder / f"robustness{end}" for end in (".csv", "_summary.csv", ".png", ".pdf")),
        sep="\n  ",
    )


def _notes(
    args: argparse.Namespace, rows: dict[str, str], points: list[robustness.Point], data: Data
) -> list[str]:
    seeds = {
        run: {point.seed for point in points if point.run == run} for run in (*rows, args.baseline)
    }
    lacking = [label for run, label in rows.items() if seeds[run] - seeds[args.baseline]]
    silent = {(p.run, p.corruption): p.uniform for p in points if p.uniform}
    where = [
        f"{rows[run]} without {name.removeprefix(robustness.MISSING)} ({count})"
        for (run, name), count in silent.items()
    ]
    notes = [
        f"{len(data.splits['test'])} test examples; accuracy in percent, mean ± sample standard deviation over the seeds (number "
        "of seeds).",
        "relative: area under accuracy (as a fraction) against the level; effective: sum over the levels of what is kept beyond "
        f"{args.baseline} of the same seed, shifted to the same clean accuracy. Neither is rescaled.",
        f"levels {' '.join(map(str, args.levels))}; seed of the corruptions {args.seed}.",
    ]
    if baseline := data.facts.get("baseline"):
        notes.append(
            f"The majority class of the training split alone: {100 * baseline['accuracy']:.1f} % accuracy."
        )
    if lacking:
        notes.append(
            f"No effective robustness for some seeds of {', '.join(lacking)}: {args.baseline} lacks them."
        )
    if where:
        notes.append(
            f"Examples with no expert left are answered uniformly, which counts as the first class: {', '.join(where)}."
        )
    return notes


if __name__ == "__main__":
    run_command(main)
