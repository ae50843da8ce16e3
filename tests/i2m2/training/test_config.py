"""Settings: precedence, names of runs, and what is refused."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, Optional

import pytest
import yaml

from AVMNIST_and_MIMIC.avmnist.settings import AVMNISTConfig
from AVMNIST_and_MIMIC.mimic.settings import MIMICConfig
from i2m2.errors import SettingsError
from i2m2.settings import RunConfig, setting, to_dict
from i2m2.training.config import load_config, read_words, shell_command
from tests.conftest import AVMNIST_CONFIG


def load(*arguments, config=AVMNIST_CONFIG):
    words = ["--config", str(config), *arguments]
    return load_config(AVMNISTConfig, words, "AVMNIST_and_MIMIC.train")


def test_the_command_line_wins_over_the_file():
    config = load("--optim.lr", "1e-3", "--data.train_size=100", "--method", "inter")
    assert (config.optim.lr, config.data.train_size, config.optim.weight_decay) == (1e-3, 100, 1e-4)


@pytest.mark.parametrize(
    "method, preset, lr, epochs, patience, frozen",
    [
        ("i2m2", "paper", 0.05, 25, None, False),
        ("i2m2", "official_code", 0.01, 30, 11, True),
        ("inter", "official_code", 0.1, 30, 11, True),
        ("intra_modality", "official_code", 0.1, 30, 11, True),
        ("unimodal_audio", "official_code", 0.01, 30, None, True),
    ],
)
def test_presets_are_the_table_of_the_paper_and_the_published_code(
    method, preset, lr, epochs, patience, frozen
):
    config = load("--method", method, "--preset", preset)
    assert (config.optim.lr, config.optim.epochs, config.optim.patience) == (lr, epochs, patience)
    assert config.model.frozen_factors == frozen
    shared = (config.optim.batch_size, config.optim.clip_norm, config.optim.select)
    assert shared == (40, 8.0, "accuracy")


@pytest.mark.parametrize(
    "arguments, name",
    [
        ("--method unimodal_image --init scratch", "unimodal_image"),
        ("--method intra", "intra"),
        ("--method inter --fusion lrtf", "inter-low_rank_tensor"),
        ("--method inter_and_intra_modality --fusion=lf", "i2m2-concat"),
        (
            "--method i2m2 --init scratch --tag lr0.1 --preset official_code",
            "i2m2-concat-official_code-scratch-lr0.1",
        ),
    ],
)
def test_a_run_is_named_by_what_sets_it_apart(arguments, name):
    assert load(*arguments.split()).run_name == name


@dataclass(frozen=True, kw_only=True)
class OwnConfig(RunConfig):
    modalities: ClassVar[tuple[str, ...]] = ("image", "audio")
    hidden: int = 8
    extra: int = 0
    blocks: int = setting(2, least=0)


def test_a_whole_number_may_be_0_where_its_setting_says_so_or_has_it_as_default():
    words = ["--dataset", "own", "--method", "intra"]
    config = load_config(OwnConfig, [*words, "--blocks", "0"])
    assert (config.blocks, config.extra, config.seed) == (0, 0, 0)
    with pytest.raises(SettingsError, match="hidden=0 must be at least 1"):
        load_config(OwnConfig, [*words, "--hidden", "0"])
    with pytest.raises(SettingsError, match="blocks=-1 must be at least 0"):
        load_config(OwnConfig, [*words, "--blocks", "-1"])
    with pytest.raises(SettingsError, match=r"data.dir is not a setting\. Settings: blocks, "):
        load_config(OwnConfig, [*words, "--data.dir", "x"])


def test_aliases_serve_in_a_file_too_and_print_config_shows_what_is_in_force(tmp_path, capsys):
    (tmp_path / "x.yaml").write_text("dataset: avmnist\nmethod: inter_modality\nfusion: lf")
    with pytest.raises(SystemExit):
        load("--print_config", "--seed", "3", config=tmp_path / "x.yaml")
    shown = yaml.safe_load(capsys.readouterr().out)
    settings = (shown["method"], shown["fusion"], shown["seed"], shown["optim"]["epochs"])
    assert settings == ("inter", "concat", 3, 25)


def test_a_runs_config_yaml_repeats_exactly_that_run(tmp_path):
    given = "--method i2m2 --preset official_code --tag x --optim.lr 0.3"
    config = load(*given.split(), "--out", str(tmp_path))
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(to_dict(config)))
    assert load(config=path) == config


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            "--optim.weigth_decay 3",
            "command line: optim.weigth_decay is not a setting. Did you mean optim.weight_decay?",
        ),
        ("--optim.lr fast", "optim.lr=fast is not possible; it takes a number"),
        (
            "--fusion sum",
            "fusion=sum is not possible; it takes one of concat, low_rank_tensor, tensor, gated",
        ),
        (
            "--method late",
            "method='late' is unknown; "
            "choose one of unimodal_image, unimodal_audio, intra, inter, i2m2",
        ),
        ("--preset fast", "preset='fast' is unknown in .*choose one of paper, official_code"),
        ("--optim.epochs 0", "optim.epochs=0 must be at least 1"),
        ("--optim.lr 0", "optim.lr=0.0 must be above 0"),
        ("--optim.lr .nan", "optim.lr=nan must be a finite number above 0"),
        ("--optim.clip_norm .inf", "optim.clip_norm=inf must be a finite number above 0"),
        ("--optim.weight_decay .inf", "weight_decay=inf must be a finite number at least 0"),
        ("--config other.yaml", "command line: --config is given twice; give one file"),
        ("--config=other.yaml", "command line: --config is given twice; give one file"),
        ("--seed -1", "seed=-1 must be at least 0"),
        ("--threads -1", "threads=-1 must be at least 1"),
        ("--data.train_size -5", "data.train_size=-5 must be at least 1"),
        ("--optim.warmup 1", "optim.warmup=1.0 must be below 1"),
        (
            "--optim.select acuracy",
            "optim.select='acuracy' is not a metric; choose one of accuracy",
        ),
        ("--dataset mimic", "dataset=mimic is not possible"),
        ("--tag a/b", "tag='a/b' becomes part of a folder's name"),
        ("--optim {lr:null}", "optim is a group; name its settings, as in --optim.name"),
        ("--model.hidden 10000000000000000000000", "must be at most 9223372036854775807"),
        ("--optim.lr 1e300", r"optim.lr=1e\+300 must be at most 1e\+30"),
        ("extra", "unrecognized arguments: extra"),
    ],
)
def test_wrong_settings_are_refused_with_the_way_out(arguments, message):
    with pytest.raises(SettingsError, match=message):
        load(*arguments.split())


def test_wrong_keys_and_values_in_a_file_are_refused_with_its_name(tmp_path):
    path = tmp_path / "x.yaml"
    for text, message in {
        "epoch: 3": "x.yaml: epoch is not a setting",
        "optim: {lr: 1e-4, batch_size: many}": "x.yaml: optim.batch_size=many is not possible",
        "presets: {slow: {optim: {speed: 3}}}": "presets.slow: optim.speed is not a setting",
        "presets: {slow: {epoch: 3}}": "presets.slow: epoch is not a setting",
        "presets: x": "x.yaml: presets must hold settings",
        "per_method: {intra: null}": "per_method.intra must hold settings",
        "optim: 3": "optim",
        "seed: {}": "x.yaml: seed={} is not possible; it takes an integer",
        "optim: {lr: {}}": "x.yaml: optim.lr={} is not possible; it takes a number",
        "presets: {paper: {optim: {lr: 1}, optim.lr: 2}}": "presets.paper: optim.lr is given",
        "optim: {lr: 1}\noptim.lr: 2": "x.yaml: optim.lr is given twice, in a group and by",
        "preset: fast": "preset='fast' is unknown in .*x.yaml; choose one of paper$",
        "preset: fast\npresets: {slow: {}}": "preset='fast' is unknown in .*; choose .* slow",
    }.items():
        path.write_text(f"dataset: avmnist\nmethod: intra\n{text}")
        with pytest.raises(SettingsError, match=message):
            load(config=path)
    whole = to_dict(load("--method", "intra")) | {"preset": 3}  # as of a run
    path.write_text(yaml.safe_dump(whole))
    assert load(config=path).preset == "3"
    with pytest.raises(SettingsError, match="preset='4' is unknown .*; choose one of 3, paper"):
        load("--preset", "4", config=path)
    with pytest.raises(SettingsError, match="--out: expected one argument"):
        load("--out", "--seed=3")
    for text, message in {"- 1": "must hold settings", "a: [": "not valid YAML"}.items():
        path.write_text(text)
        with pytest.raises(SettingsError, match=message):
            load(config=path)
    with pytest.raises(SettingsError, match="No such file"):
        load(config=Path("nowhere.yaml"))


def test_a_rate_has_not_the_limit_of_integers():
    assert load("--method", "intra", "--optim.lr", "1e20").optim.lr == 1e20


def test_a_method_that_fuses_needs_a_fusion(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("dataset: avmnist\nmethod: inter\nfusion: null")
    message = "fusion=null is not possible with inter; it takes one of concat, .*, gated$"
    with pytest.raises(SettingsError, match=f"^{path}: {message}"):
        load(config=path)
    with pytest.raises(SettingsError, match=f"^{message}"):
        load("--method", "inter", "--fusion", "null")
    assert load("--method", "intra", config=path).fusion is None


def test_a_folder_may_begin_with_the_sign_for_ones_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada")
    path = tmp_path / "x.yaml"
    path.write_text("{method: intra, out: ~/results}")
    config = load_config(AVMNISTConfig, ["--config", str(path), "--data.dir=~/avmnist"])
    assert (config.out, config.data.dir) == ("/home/ada/results", "/home/ada/avmnist")
    assert load_config(AVMNISTConfig, ["--method", "intra", "--out=~"]).out == "/home/ada"


def test_an_empty_tag_is_none(tmp_path):
    assert load("--method", "intra", "--tag", "") == load("--method", "intra")
    path = tmp_path / "x.yaml"
    path.write_text("dataset: avmnist\nmethod: intra\ntag: ''")
    assert load(config=path).tag is None


@pytest.mark.parametrize(
    "tag", ["scratch", "scratch-x", "official_code", "official_code-x", "paper"]
)
def test_a_tag_is_refused_that_would_make_a_folder_s_name_that_of_another_run(tag, tmp_path):
    message = f"^tag='{tag}' would mean --(init scratch|preset .*) in the name of a run's folder"
    with pytest.raises(SettingsError, match=message):
        load("--method", "intra", "--tag", tag)
    path = tmp_path / "x.yaml"
    path.write_text(
        f"dataset: avmnist\nmethod: intra\ntag: {tag}\npresets: {{official_code: {{}}}}"
    )
    with pytest.raises(SettingsError, match=f"^{path}: tag='{tag}'"):
        load(config=path)


def test_a_tag_may_begin_like_the_name_of_a_preset_and_a_run_of_any_tag_is_repeated(tmp_path):
    for tag in ("scratch2", "official_code2", "paper-x"):
        assert load("--method", "intra", "--tag", tag).run_name == f"intra-{tag}"
    with pytest.raises(SettingsError, match="^tag='scratch'"):
        load_config(AVMNISTConfig, ["--method", "intra", "--tag", "scratch"])
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(to_dict(load("--method", "intra")) | {"tag": "scratch"}))
    assert load(config=path).tag == "scratch"


def test_a_file_may_leave_the_method_to_the_command_line_and_its_own_mistakes_come_first(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("dataset: avmnist\nseed: 3")
    assert load("--method", "intra", config=path).run_name == "intra"
    missing = "method is not given; give --method, one of unimodal_image, unimodal_audio, intra"
    with pytest.raises(SettingsError, match=f"x.yaml: {missing}"):
        load(config=path)
    with pytest.raises(SettingsError, match=f"command line: {missing}"):
        load_config(AVMNISTConfig, [])
    path.write_text("dataset: avmnist\noptim: {name: adam}")
    with pytest.raises(SettingsError, match="x.yaml: optim.name=adam is not possible"):
        load(config=path)


@dataclass(frozen=True, kw_only=True)
class Required(AVMNISTConfig):
    width: int
    kind: Literal["flat", "deep"]
    rate: float | None
    size: Optional[int]  # noqa: UP045 - as some write it
    norm: Literal["l1"] | None
    pair: tuple[int, int]


def test_a_file_may_leave_any_setting_without_a_default_to_the_command_line(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("method: intra")
    words = ["--config", str(path), "--width", "3", "--kind", "deep"]
    words += ["--size", "2", "--norm", "l1", "--pair", "[1, 2]"]
    found = load_config(Required, [*words, "--rate", "0.5"])
    assert (found.width, found.kind, found.rate) == (3, "deep", 0.5)
    assert (found.size, found.norm, found.pair) == (2, "l1", (1, 2))
    with pytest.raises(SettingsError, match="x.yaml: rate is not given; give --rate"):
        load_config(Required, words)


def test_settings_of_a_part_that_is_not_there_are_refused_and_the_usual_task_has_its_own(
    tmp_path,
):
    path = tmp_path / "x.yaml"

    def read(text):
        path.write_text(f"dataset: mimic\nmethod: intra\n{text}")
        return load_config(MIMICConfig, ["--config", str(path)])

    for text, message in {
        "per_task: {icd: {seed: 3}}": "x.yaml: per_task.icd is no task; choose one of mortality, "
        "icd9, icd9_0, icd9_1",
        "presets: {fast: {per_task: {icd9_20: {seed: 3}}}}": "presets.fast: per_task.icd9_20 is no",
        "per_task: {icd9_7: {optim.rl: 3}}": "per_task.icd9_7: optim.rl is not a setting. Did you",
        "presets: {fast: {per_method: {inter: {sed: 3}}}}": "per_method.inter: sed is not a set",
        "presets: {fast: 3}": "x.yaml: presets.fast must hold settings",
        "per_method: {late: {seed: 3}}": "per_method.late is no method; choose one of unimodal, "
        "unimodal_static, unimodal_series, intra",
    }.items():
        with pytest.raises(SettingsError, match=re.escape(message)):
            read(text)
    path.write_text("dataset: avmnist\nmethod: intra\nper_task: {icd9: {seed: 3}}")
    with pytest.raises(SettingsError, match="per_task.icd9 is no task; there are none here"):
        load(config=path)
    assert read("per_task: {mortality: {seed: 3}, icd9: {seed: 4}}").seed == 3
    assert read("task: icd9_1\nper_task: {mortality: {seed: 3}, icd9: {seed: 4}}").seed == 4


def test_the_words_of_a_command_are_read_in_one_place():
    words = read_words(["--fusion", "lf", "--seed=1", "--seed", "2", "--help", "x", "--tag"])
    settings = {"--fusion": "concat", "--seed": "2"}
    assert words == settings | {"--help": None, "x": None, "--tag": None}
    # An option without a value does not swallow the next one.
    assert read_words(["--out", "--seed=3"]) == {"--out": None, "--seed": "3"}
    command = shell_command(["--out", "my results", "--seed=2"], "toy.train")
    assert command == "python -m toy.train --out 'my results' --seed 2"


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("method", "unimodal_sta", "method='unimodal_sta' is unknown"),
        ("workers", -1, "workers=-1 must be at least 0"),
        ("optim", {"lr": -1.5}, "optim.lr=-1.5 must be above 0"),
    ],
)
def test_an_error_names_the_file_in_which_the_setting_stands(tmp_path, key, value, message):
    path = tmp_path / "config.yaml"
    values = yaml.safe_load(Path(AVMNIST_CONFIG).read_text())
    path.write_text(yaml.safe_dump(values | {"method": "intra", key: value}))
    with pytest.raises(SettingsError) as raised:
        load(config=path)
    assert str(raised.value).startswith(f"{path}: {message}")
    with pytest.raises(SettingsError) as raised:
        load("--method", "intra", "--optim.lr", "-2")
    assert str(raised.value).startswith("optim.lr=-2")
