"""Values read by their schema: the error names file, field, what was expected and what to do."""

from typing import TypedDict

import pytest

from i2m2.errors import DamagedError
from i2m2.reading.records import read_record


class Sizes(TypedDict):
    train: int
    scores: dict[str, float | None]


@pytest.mark.parametrize("suffix", ["json", "yaml"])
@pytest.mark.parametrize(
    "text, message",
    [
        ('{"train": "3", "scores": {}}', "train: expected int, got str"),
        ('{"train": 3, "scores": {"a": [1]}}', "scores.*: expected float .* got array"),
        ('{"train": 3}', "required field scores"),
        ("[3]", "expected object, got array"),
        ("null", "expected object, got null"),
        ("", "is damaged"),
        ("[" * 100_000, "is damaged"),
        ('{"train": 3, "scores": {"a": 1', "is damaged"),
    ],
)
def test_a_record_of_another_form_is_damaged(suffix, text, message, tmp_path):
    path = tmp_path / f"sizes.{suffix}"
    path.write_text(text)
    with pytest.raises(DamagedError, match=message) as error:
        read_record(path, Sizes, "make it again")
    assert str(path) in str(error.value) and str(error.value).endswith("; make it again")


def test_a_record_of_the_right_form_and_one_that_is_no_text(tmp_path):
    path = tmp_path / "sizes.json"
    path.write_text('{"train": 3, "scores": {"a": null, "b": 0.5}, "more": 1}')
    assert read_record(path, Sizes, "") == {"train": 3, "scores": {"a": None, "b": 0.5}}
    path.write_bytes(b'{"train": 3, "scores": {"\xff": 1}}')
    with pytest.raises(DamagedError, match="codec"):
        read_record(path, Sizes, "")
