"""A small folder per data set, and the commands that read what the project writes there."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np

from i2m2.report import figures
from tests.conftest import AVMNIST_CONFIG, MIMIC_CONFIG
from tests.fuzz import Target

EPOCHS = ["--optim.epochs", "1", "--threads", "1", "--device", "cpu"]


def of_runs(world: Path) -> list[Target]:
    """Runs on MIMIC: what tables, comparisons, evaluations and later trainings read of them."""
    from AVMNIST_and_MIMIC import evaluate, prepare_mimic, train
    from AVMNIST_and_MIMIC.make_synthetic_mimic import make_raw_tables
    from i2m2 import compare, results

    figures.save_figure = lambda figure, path: []  # the slowest part, which reads nothing
    make_raw_tables(world / "raw", 60)
    prepare_mimic.extract(world / "raw", world / "runs/data")

    def train_in(folder: Path, *words: str) -> None:
        where = ["--config", MIMIC_CONFIG, "--data.dir", str(folder / "data")]
        train.main([*where, "--out", str(folder / "r"), *EPOCHS, *words])

    for words in ("unimodal_static", "unimodal_series", "unimodal_static --seed 1"):
        train_in(world / "runs", "--method", *words.split())
    results.main([str(world / "runs/r")])
    static, series = (f"r/mimic-mortality-synthetic/unimodal_{m}" for m in ("static", "series"))
    settings = [f"{static}/seed0/{name}" for name in ("config.yaml", "env.json")]
    predictions = [f"{static}/seed0/predictions_{split}.npz" for split in ("test", "val")]
    scores = [f"{static}/seed0/{name}" for name in ("result.json", "statistics.json")]
    of_folder = "r/mimic-mortality-synthetic/statistics.json"
    weights, state = f"{static}/seed0/best.safetensors", f"{static}/seed0/last.pt"

    def resume(folder: Path) -> None:
        (folder / static / "seed0/DONE").unlink()
        train_in(folder, "--method", "unimodal_static")

    def show(folder: Path) -> None:
        results.main([str(folder / "r")])

    def compare_two(folder: Path) -> None:
        compare.main([str(folder / static / "seed0"), str(folder / series / "seed0")])

    def again(folder: Path) -> None:
        run, data = folder / static / "seed0", folder / "data"
        evaluate.main([str(run), "--again", "--data.dir", str(data)])

    def join(folder: Path) -> None:
        train_in(folder, "--method", "intra")

    def check(folder: Path) -> None:
        prepare_mimic.main(["--check", str(folder / "data")])

    def load(folder: Path) -> None:
        train_in(folder, "--method", "unimodal_static", "--tag", "x")

    runs, data = world / "runs", ["data/dataset.json", "data/mimic.npz"]
    return [
        Target("results", runs, [*settings, *scores, of_folder, *predictions], show, cells),
        Target("compare", runs, [*settings, predictions[0]], compare_two, rows_of_numbers),
        Target("resume", runs, [*settings, state, weights], resume, last_line),
        Target("evaluate", runs, [*settings, weights], again, rows_of_numbers),
        Target("warm start", runs, [*settings, weights], join, last_line),
        Target("mimic check", runs, data, check),
        Target("mimic load", runs, data, load, last_line),
    ]


def of_avmnist(world: Path) -> list[Target]:
    """A prepared folder of AV-MNIST."""
    from AVMNIST_and_MIMIC import prepare_avmnist, train
    from tests.AVMNIST_and_MIMIC.tiny_avmnist import idx, tone, wav

    raw, rng = world / "av", np.random.default_rng(0)
    (raw / "speech").mkdir(parents=True)
    for part, rows in (("train", 240), ("t10k", 60)):
        images = rng.integers(0, 255, (rows, 28, 28), np.uint8)
        (raw / f"{part}-images-idx3-ubyte").write_bytes(idx(images))
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(idx(np.arange(rows, dtype=np.uint8) % 10))
    for digit, take in itertools.product(range(10), range(12)):
        sound = (tone(200 + 100 * digit, 0.15 + 0.01 * take) * 32767).astype(np.int16)
        (raw / f"speech/{digit}_ann_{take}.wav").write_bytes(wav(sound))
    words = ["--mnist", str(raw), "--speech", str(raw / "speech")]
    prepare_avmnist.main([*words, "--out", str(world / "avmnist")])

    def load(folder: Path) -> None:
        words = ["--config", AVMNIST_CONFIG, "--method", "unimodal_image", *EPOCHS]
        train.main([*words, "--data.dir", str(folder), "--out", str(folder / "r")])

    def check(folder: Path) -> None:
        prepare_avmnist.main(["--check", str(folder)])

    files = ["dataset.json"]
    labels = ["train_labels.npy", "pairs.csv", "image/test_data.npy"]
    return [
        Target("avmnist check", world / "avmnist", files + labels, check),
        Target("avmnist load", world / "avmnist", files, load, last_line),
    ]


def of_fastmri(world: Path) -> list[Target]:
    """A prepared folder of fastMRI."""
    from fastMRI import prepare
    from fastMRI.make_synthetic import make_volumes

    make_volumes(world / "fm", 12, slices=(2, 2))
    lists = ["--annotations", str(world / "fm/knee.csv")]
    lists += ["--file-list", str(world / "fm/knee_file_list.csv")]
    out = world / "fastmri"
    words = ["--raw", str(world / "fm"), *lists, "--out", str(out), "--average", "8"]
    prepare.main([*words, "--workers", "1"])
    volume = f"volumes/{min((out / 'volumes').glob('*.h5')).name}"

    def check(folder: Path) -> None:
        prepare.main(["--check", str(folder), "--workers", "1"])

    return [Target("fastmri check", out, ["dataset.json", "slices.csv", volume], check)]


def of_vqa(world: Path) -> list[Target]:
    """Features of VQA-VS, and the list of images that could be decoded."""
    from tests.VQA_and_NLVR2.tiny_vqa import arguments, extracted
    from VQA_and_NLVR2 import train
    from VQA_and_NLVR2.inputs.checked_images import unreadable
    from VQA_and_NLVR2.make_synthetic import make_synthetic

    make_synthetic(world / "vqa", "vqa_vs", 40)
    extracted(world / "vqa", world / "features")
    (world / "checked").mkdir()
    pictures = sorted((world / "vqa").rglob("*.jpg"))[:4]
    unreadable(pictures, world / "checked/checked_images.json")

    def load(folder: Path) -> None:
        words = arguments(world / "vqa", folder, "--out", str(folder / "r"))
        train.main([*words, "--method", "unimodal_text"])

    def look(folder: Path) -> None:
        print(unreadable(pictures, folder / "checked_images.json"))

    return [
        Target("features", world / "features", ["features.json", "index.npz"], load, last_line),
        Target("checked images", world / "checked", ["checked_images.json"], look),
    ]


def cells(text: str) -> list[str]:
    """The numbers of every table: the cells of its rows but the verdict."""
    rows = [line.rsplit("|", 2)[0] for line in text.splitlines() if line.startswith("| ")]
    return [row for row in rows if not row.startswith("| Inter")]


def rows_of_numbers(text: str) -> list[str]:
    """What is printed but for the first lines, which name folders."""
    return [line for line in text.splitlines() if line and "/" not in line and "data:" not in line]


def last_line(text: str) -> list[str]:
    """The score that a training ends with."""
    return [text.strip().rpartition(": test ")[2].partition(" (")[0]]
