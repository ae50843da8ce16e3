"""YAML against what version 1.2 of its specification says."""

import pytest
import yaml

from i2m2.reading.yaml12 import YamlError, dump_yaml, load_yaml

CORE = {  # text -> value, of the core schema
    "010": 10, "0o17": 15, "0x1F": 31, "-12": -12, "1e-3": 0.001, ".5": 0.5, "12.": 12.0,
    "1:30": "1:30", "1_000": "1_000", "no": "no", "off": "off", "2026-01-01": "2026-01-01",
    "true": True, "null": None, "~": None, "'010'": "010",
}  # fmt: skip


@pytest.mark.parametrize("text, value", CORE.items())
def test_scalars_are_those_of_the_core_schema(text, value):
    found = load_yaml(f"a: {text}")["a"]
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    "text", ["1e-4", "010", "1:30", "no", "null", "0x1f", "2026-01-01", "a: b"]
)
def test_what_is_written_is_read_as_the_same_by_both_versions(text):
    written = dump_yaml({"tag": text, "lr": 1e-5, "out": None})
    assert load_yaml(written) == yaml.safe_load(written) == {"tag": text, "lr": 1e-5, "out": None}


@pytest.mark.parametrize(
    "text, message",
    [
        ("a: 1\nb: 2\na: 3", r"a occurs twice \(lines 1 and 3\)"),
        ("a:\n  b: 1\n  'b': 2", r"b occurs twice \(lines 2 and 3\)"),
        ("- {x: 1, x: 1}", r"x occurs twice \(lines 1 and 1\)"),
        ("a: &a\n  b: *a", "refers to itself"),
        ("&a [1, *a]", "refers to itself"),
        ("[" * 3000, "nested too deeply"),
        ("{a: " * 2000, "nested too deeply"),
        ("a: " + "9" * 5000, "not valid YAML"),
        ("a: [1", "not valid YAML"),
        ("a: 1\n---\nb: 2", "not valid YAML"),
        ("a: !!bool maybe", "not valid YAML"),
        ("a: !!timestamp never", "not valid YAML"),
        ("a:\n  <<: {b: 1}\n  <<: {b: 2}", r"<< occurs twice \(lines 2 and 3\)"),
        ("a: !!python/name:os.system", "not valid YAML"),
    ],
)
def test_what_is_no_plain_text_is_refused_in_one_line(text, message):
    with pytest.raises(YamlError, match=message) as error:
        load_yaml(text)
    assert "\n" not in str(error.value)


def test_aliases_stand_for_what_they_name_but_not_for_a_million_of_it():
    assert load_yaml("a: &x {b: 1}\nc: *x\nd: {<<: *x, e: 2}")["d"] == {"b": 1, "e": 2}
    bomb = "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n"
    bomb += "".join(f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 10)}]\n" for k in range(1, 8))
    with pytest.raises(YamlError, match="too large"):
        load_yaml(bomb)
