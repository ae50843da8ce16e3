"""Tokenizers that cannot be loaded: what is wrong, and what to do that can work."""

import json

import pytest

from i2m2.errors import DataError, SettingsError
from VQA_and_NLVR2.backbones.build import build_backbone
from VQA_and_NLVR2.backbones.settings import BackboneSettings
from VQA_and_NLVR2.backbones.tokenizer import load_tokenizer, make_tiny_tokenizer


@pytest.fixture
def folder(tmp_path):
    make_tiny_tokenizer(["what is it"]).save_pretrained(tmp_path / "tokenizer")
    return tmp_path / "tokenizer"


@pytest.mark.parametrize("content", ["{}", "", "[1]", '{"a":', '{"model": 3, "added_tokens": [3]}'])
def test_a_damaged_tokenizer_is_named(folder, content):
    (folder / "tokenizer.json").write_text(content)
    line = "tokenizer/tokenizer.json is damaged .*; copy the tokenizer's files there again"
    with pytest.raises(DataError, match=line):
        load_tokenizer(str(folder))


def test_a_folder_with_other_damaged_files_is_named(folder):
    (folder / "tokenizer_config.json").write_text(json.dumps([1]))
    with pytest.raises(DataError, match="tokenizer: no tokenizer that can be loaded .*; copy the"):
        load_tokenizer(str(folder))


def test_a_folder_that_is_not_there_is_no_name_on_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    for name in (str(tmp_path / "none"), "./none", "data/none"):
        with pytest.raises(SettingsError, match=f"tokenizer {name}: no such folder; give one"):
            load_tokenizer(name)


def test_a_file_where_a_folder_belongs_is_named(folder):
    file = folder / "tokenizer.json"
    with pytest.raises(SettingsError, match="tokenizer.json: is a file; give a folder that holds"):
        load_tokenizer(str(file))
    with pytest.raises(SettingsError, match="flava .*tokenizer.json: is a file; give a folder"):
        build_backbone(BackboneSettings(kind="flava", flava=str(file)))


def test_a_tokenizer_without_its_padding_asks_for_both_of_its_files(folder):
    (folder / "tokenizer_config.json").unlink()
    with pytest.raises(SettingsError, match="holds both tokenizer.json and tokenizer_config.json"):
        load_tokenizer(str(folder))
