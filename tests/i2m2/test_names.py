"""Names of methods, their experts and fusions."""

import pytest

from i2m2 import fusion, model, names
from i2m2.errors import SettingsError
from i2m2.names import experts_of, methods_of

MODALITIES = ("image", "audio", "text")


def test_methods_and_their_experts():
    unimodal = ("unimodal_image", "unimodal_audio", "unimodal_text")
    assert methods_of(MODALITIES) == (*unimodal, "intra", "inter", "i2m2")
    assert experts_of("unimodal_audio", MODALITIES) == ("audio",)
    assert experts_of("intra", MODALITIES) == MODALITIES
    assert experts_of("inter", MODALITIES) == ("inter",)
    assert experts_of("i2m2", MODALITIES) == (*MODALITIES, "inter")
    with pytest.raises(SettingsError, match="'late' is unknown; choose one of unimodal_image"):
        experts_of("late", MODALITIES)


def test_the_published_code_s_names_of_methods_serve_too():
    for alias, method in names.METHOD_ALIASES.items():
        assert experts_of(alias, MODALITIES) == experts_of(method, MODALITIES)
    assert set(names.METHOD_ALIASES.values()) == {"intra", "inter", "i2m2"}


def test_a_baseline_has_a_unimodal_row_and_no_part_in_the_joint_ones():
    methods = methods_of(("magnitude", "phase"), baselines=("rss",))
    assert methods[0] == "unimodal_rss"
    assert experts_of("i2m2", ("magnitude", "phase"), ("rss",)) == ("magnitude", "phase", "inter")


def test_what_was_imported_from_the_method_still_is():
    assert model.INTER == names.INTER and model.METHOD_ALIASES is names.METHOD_ALIASES
    assert model.experts_of is experts_of and model.methods_of is methods_of
    assert fusion.FUSION_ALIASES is names.FUSION_ALIASES


def test_the_names_of_fusions_are_those_there_are():
    assert set(names.FUSIONS) == set(fusion.FUSIONS)
    assert set(names.FUSION_ALIASES.values()) <= set(names.FUSIONS)
