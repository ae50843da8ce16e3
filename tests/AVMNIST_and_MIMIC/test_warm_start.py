"""A part's settings count for a warm start only where the part uses them."""

import pytest

from i2m2.errors import SettingsError


def test_a_setting_without_effect_on_a_part_does_not_refuse_its_warm_start(train):
    train("--method", "unimodal_image", "--model.frozen_factors", "true")
    train("--method", "unimodal_audio", "--model.inter_width", "5")
    assert train("--method", "intra", "--model.rank", "7").parent.name == "intra"
    inter = ("--method", "inter", "--fusion", "concat", "--model.frozen_factors", "true")
    train(*inter, "--model.fused_features", "9", "--model.unimodal_width", "4")
    assert train("--method", "i2m2", "--fusion", "concat").parent.name == "i2m2-concat"


@pytest.mark.parametrize("part, setting", [("image", "hidden"), ("audio", "unimodal_width")])
def test_one_with_an_effect_does(train, part, setting):
    train("--method", "unimodal_image", *([f"--model.{setting}", "4"] * (part == "image")))
    train("--method", "unimodal_audio", *([f"--model.{setting}", "4"] * (part == "audio")))
    with pytest.raises(SettingsError, match=f"unimodal_{part}.*: model.{setting} "):
        train("--method", "intra")


def test_low_rank_fusion_does_use_its_factors(train):
    for name in ("image", "audio"):
        train("--method", f"unimodal_{name}")
    lrtf = ("--fusion", "lrtf", "--model.rank", "2")
    train("--method", "inter", *lrtf)
    with pytest.raises(SettingsError, match="model.frozen_factors"):
        train("--method", "i2m2", *lrtf, "--model.frozen_factors", "true")
