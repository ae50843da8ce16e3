"""The order of a table's runs, where they lie, how long they will take."""

import json

import pytest

from i2m2.errors import SettingsError
from i2m2.sweep import plan as planning
from i2m2.sweep.plan import plan, rows_of
from i2m2.training.commands import seeds_of
from tests.conftest import AVMNIST_CONFIG

ROWS = [
    "unimodal_image",
    "unimodal_audio",
    "inter --fusion concat",
    "inter --fusion low_rank_tensor",
    "intra",
    "i2m2 --fusion concat",
]
TRAIN = "AVMNIST_and_MIMIC.train"
DIGITS = ["--config", "AVMNIST_and_MIMIC/configs/avmnist_digits.yaml"]


def test_joint_rows_wait_for_the_rows_they_start_from_and_for_no_others():
    jobs = {job.name: job for job in plan(ROWS, ["0", "1"], TRAIN, DIGITS, ["--tag", "x"])}
    assert len(jobs) == 12
    assert jobs["intra seed 1"].needs == ["unimodal_image seed 1", "unimodal_audio seed 1"]
    assert jobs["i2m2 --fusion concat seed 0"].needs == [
        "unimodal_image seed 0",
        "unimodal_audio seed 0",
        "inter --fusion concat seed 0",
    ]
    assert jobs["inter --fusion low_rank_tensor seed 0"].needs == []
    words = f"{' '.join(DIGITS)} --method intra --seed 1 --tag x"
    assert jobs["intra seed 1"].command == f"python -m {TRAIN} {words}"
    for scratch in (["--init", "scratch"], ["--init=scratch"]):
        assert not any(job.needs for job in plan(ROWS, ["0"], TRAIN, DIGITS, scratch))


@pytest.mark.parametrize(
    "parts, joint",
    [
        ("inter --fusion concat", "i2m2 --fusion concat --optim.lr 0.01 --tag x"),
        ("inter --fusion concat --tag x", "i2m2 --tag x --fusion concat"),
        ("inter --fusion concat", "i2m2"),
        ("inter", "i2m2 --fusion lf"),
        ("inter --fusion=concat", "i2m2 --fusion concat"),
        ("inter_modality", "inter_and_intra_modality"),
        ("unimodal_image --tag x, unimodal_audio", "intra_modality --optim.lr 0.01 --tag x"),
    ],
)
def test_what_a_row_starts_from_is_told_by_settings_and_not_by_words(parts, joint):
    others = ["inter --fusion gated", "inter --tag y", "inter --preset official_code"]
    # Where there is a run of the same tag, that without one is none of the parts.
    others += set(rows_of(parts.replace(" --tag x", ""))) - set(rows_of(parts))
    config = ["--config", AVMNIST_CONFIG]
    job, *_ = plan([joint, *others, *rows_of(parts)], ["0"], TRAIN, config, [])
    assert job.needs == [f"{row} seed 0" for row in rows_of(parts)]


def test_a_row_that_starts_from_scratch_waits_for_none():
    *_, scratch, warm = plan([*ROWS[:2], "intra --init scratch", "intra"], ["0"], TRAIN, DIGITS, [])
    assert not scratch.needs and len(warm.needs) == 2


MIMIC = ["--config", "AVMNIST_and_MIMIC/configs/mimic.yaml"]
LRTF = "inter --fusion low_rank_tensor"


def test_seeds_of_a_row_are_one_job_where_they_are_faster_at_once():
    rows = ["unimodal_static", LRTF, "unimodal_series", "intra"]
    jobs = plan(rows, ["0", "3"], TRAIN, MIMIC, [], together=True)
    names = ["unimodal_static seeds 0 3", f"{LRTF} seed 0", "unimodal_series seeds 0 3"]
    assert [job.name for job in jobs] == [*names, "intra seeds 0 3", f"{LRTF} seed 3"]
    assert jobs[3].needs == ["unimodal_static seeds 0 3", "unimodal_series seeds 0 3"]
    assert [config.seed for config in jobs[3].configs] == [0, 3]
    assert jobs[0].command.endswith("--method unimodal_static --seeds 0 3")
    for settings in (["--precision", "bf16"], ["--compile", "true"]):
        assert len(plan(rows, ["0", "3"], TRAIN, MIMIC, settings, together=True)) == 8


@pytest.mark.parametrize(
    "program, rows, seeds, overrides, message",
    [
        (TRAIN, ["unimodal_smell"], ["0"], [], "method='unimodal_smell'"),
        (TRAIN, ["intra"], ["0"], ["--optim.lr", "-1"], "optim.lr=-1"),
        (TRAIN, ["intra", "inter --seed 3"], ["0"], [], "--rows 'inter --seed 3': the seeds of"),
        (TRAIN, ["inter --seeds=0..4"], ["0"], [], "the seeds of all rows are --seeds"),
        (TRAIN, ["intra"], ["0"], ["--seed=3"], "command line: the seeds of all rows"),
        (TRAIN, ["intra", LRTF], ["0"], ["--fusion", "lf"], f"--fusion would .* --rows '{LRTF}'"),
        (TRAIN, ["intra"], ["0"], ["--method=inter"], "--method would replace what --rows 'intra'"),
        ("AVMNIST_and_MIMIC.trian", ["intra"], ["0"], [], "there is no such module"),
        ("", ["intra"], ["0"], [], "--train '' is no module's name; give one such as"),
        (".train", ["intra"], ["0"], [], "--train '.train' is no module's name"),
    ],
)
def test_a_mistake_in_any_run_is_found_before_the_first_begins(
    program, rows, seeds, overrides, message
):
    with pytest.raises(SettingsError, match=message):
        plan(rows, seeds, program, DIGITS, overrides)


def test_a_row_or_seed_given_twice_is_one_job():
    assert seeds_of("0..2 1 00 10,010", "SEEDS") == [0, 1, 2, 10]
    assert rows_of("intra, intra,inter --fusion lf") == ["intra", "inter --fusion lf"]
    same = ["inter --fusion=lf", "inter  --fusion concat", "inter_modality", "inter --tag ''"]
    rows = ["i2m2", "inter", *same, "inter --tag x", "inter_and_intra_modality"]
    i2m2, *others = plan(rows, ["0"], TRAIN, DIGITS, [])
    assert [job.name for job in others] == ["inter seed 0", "inter --tag x seed 0"]
    assert i2m2.needs == ["inter seed 0"]


def test_hours_are_those_of_a_run_that_differs_in_seed_and_number_of_epochs_alone(train, tmp_path):
    words = ["--device", "cpu", "--threads", "1", "--out", str(tmp_path)]
    folder = train("--method", "unimodal_audio", "--seed", "3", "--tag", "old", *words)
    files = ["--data.dir", "elsewhere"]
    config = ["--config", "AVMNIST_and_MIMIC/configs/avmnist.yaml"]
    epoch = json.loads((folder / "metrics.jsonl").read_text())
    (folder / "metrics.jsonl").write_text(json.dumps(epoch | {"seconds": 90.0}))
    epochs = ["--optim.epochs", "80"]
    rows = ["unimodal_audio", "unimodal_image"]
    audio, image = plan(rows, ["0"], TRAIN, config, [*words, *files, *epochs])
    assert planning.hours_of(audio.configs) == 80 * 90 / 3600
    assert planning.hours_of(image.configs) is None
    assert not audio.finished
    same = [*words, "--tag", "old", "--optim.epochs", "1"]
    jobs = plan(["unimodal_audio"], ["3", "4"], TRAIN, config, [*same, *files])
    assert [job.finished for job in jobs] == [True, False]
    text = planning.show([audio, image, jobs[0]]).splitlines()
    assert [line.split()[-1] for line in text[1:4]] == ["2", "?", "finished"]
    assert text[-1] == "2.0 hours one after the other, without those that are not known"
    (short,) = plan(rows[:1], ["0"], TRAIN, config, [*words, *files, "--optim.epochs", "2"])
    assert planning.show([short]).endswith("\n3 min one after the other")


def test_what_comes_first_is_shared_by_torchrun_or_by_jobs_and_one_that_puts_the_parts_together():
    here = planning.first("m.extract", ["--config", "a/b.yaml"], 3, as_jobs=False)
    assert [job.command for job in here] == [
        "python -m torch.distributed.run --nproc-per-node=3 -m m.extract --config a/b.yaml"
    ]
    *parts, whole = planning.first("m.extract", ["--config", "a/b.yaml"], 3, as_jobs=True)
    assert [job.arguments[2:] for job in parts] == [["--share", f"{k}/3"] for k in (1, 2, 3)]
    assert whole.needs == [job.name for job in parts] and whole.arguments == parts[0].arguments[:2]
    assert {job.stage for job in (*parts, whole)} == {"first"}
    assert len(planning.first("m.extract", [], 1, as_jobs=True)) == 1
