"""What settings say of themselves, and how two configs differ."""

import pytest

from i2m2.errors import SettingsError
from i2m2.settings import (
    RunConfig,
    config_diff,
    flatten,
    merge_preset,
    nest,
    settings_of,
    to_dict,
    with_role,
)
from tests.i2m2.report.toy_settings import ToySettings


def test_roles_of_the_settings_that_all_data_sets_share():
    assert with_role(RunConfig, "neutral") == {"out", "workers", "tracker"}
    rounding = {"device", "threads", "compile", "optim.micro_batches"}
    assert with_role(RunConfig, "rounding") == rounding
    identity = {"method", "fusion", "seed", "preset", "init", "tag"}
    assert with_role(RunConfig, "identity") == identity
    assert with_role(ToySettings, "budget") == {"optim.epochs", "data.train_size"}
    assert with_role(ToySettings, "location") == {"data.dir"}


def test_what_a_command_repeats_is_where_data_lie_and_the_budget_or_says_so():
    settings = settings_of(ToySettings).items()
    repeated = {name for name, (_, field) in settings if field.metadata.get("repeat")}
    assert repeated == {"optim.epochs", "data.dir", "data.source", "data.train_size"}


def test_settings_have_dotted_names_in_the_order_of_their_fields():
    config = ToySettings(dataset="toy", method="intra")
    assert list(flatten(to_dict(config))) == list(settings_of(ToySettings))
    assert nest(flatten(to_dict(config))) == to_dict(config)


def test_configs_differ_where_one_lacks_a_setting_too():
    first, second = {"a": 1, "optim": {"lr": 1, "name": "sgd"}}, {"a": 2, "optim": {"lr": 2}}
    differing = config_diff(first, second, ignored=frozenset({"a"}))
    assert differing == {"optim.lr": (1, 2), "optim.name": ("sgd", None)}


def test_later_parts_of_a_file_win():
    values = {
        "optim": {"lr": 1, "epochs": 1, "momentum": 0},
        "per_method": {"unimodal": {"optim": {"lr": 2}}, "unimodal_image": {"optim": {"lr": 3}}},
        "presets": {"small": {"optim": {"epochs": 5}, "per_method": {"unimodal": {"seed": 7}}}},
    }
    merged = merge_preset(values, "x.yaml", "small", {"per_method": "unimodal_image"})
    of_optim = {"optim.lr": 3, "optim.epochs": 5, "optim.momentum": 0}
    assert merged == of_optim | {"seed": 7, "preset": "small"}
    with pytest.raises(SettingsError, match="preset='big' is unknown in x.yaml; choose .* small"):
        merge_preset(values, "x.yaml", "big", {})
