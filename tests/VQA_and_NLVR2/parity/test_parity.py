"""Parity of the backbone with stored numbers of the published code."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pytest
import torch

from i2m2.errors import DataError, SettingsError
from VQA_and_NLVR2.check_parity import deviations, main
from VQA_and_NLVR2.parity.fiber import _compare


def test_every_stored_array_of_the_published_code_is_met(shared):
    found, uncompared = deviations(shared / "parity/fiber", 5e-5, None)
    assert {name: value for name, value, tolerance in found if not value <= tolerance} == {}
    assert uncompared == [] and len(found) > 100


def test_parity_names_what_deviates_and_what_it_does_not_know(shared, tmp_path, capsys):
    for name in ("config.json", "weights.npz"):
        shutil.copy(shared / "parity/fiber" / name, tmp_path)
    with np.load(shared / "parity/fiber/io.npz") as file:
        arrays = dict(file)
    arrays["fused0/cls_feats"][0, 0] += 1e-3
    np.savez(tmp_path / "io.npz", **arrays, **{"fused0/something_else": np.zeros(3)})
    with pytest.raises(
        FloatingPointError, match=r"1 of \d+ arrays deviate too much: fused0/cls_feats$"
    ):
        main([str(tmp_path)])
    assert "not compared: fused0/something_else" in capsys.readouterr().out
    main([str(tmp_path), "--tolerance", "2e-3"])
    np.savez(
        tmp_path / "io.npz",
        **{name: value for name, value in arrays.items() if name != "input/image_1"},
    )
    with pytest.raises(
        FloatingPointError,
        match=r"\d+ could not be compared because inputs or weights are missing: fused1/",
    ):
        main([str(tmp_path), "--tolerance", "2e-3"])
    np.savez(
        tmp_path / "io.npz",
        **arrays | {"input/image_0": arrays["input/image_0"].astype(np.float16)},
    )
    with pytest.raises(
        FloatingPointError, match="arrays deviate too much"
    ):  # half precision is read, and is not enough
        main([str(tmp_path)])
    np.savez(tmp_path / "io.npz", **arrays | {"input/text_ids": arrays["input/text_ids"] + 10_000})
    with pytest.raises(DataError, match="inputs and weights do not fit the sizes in config.json"):
        main([str(tmp_path)])


def test_parity_of_a_backbone_without_heads(shared, tmp_path, capsys):
    shutil.copy(shared / "parity/fiber/config.json", tmp_path)
    with np.load(shared / "parity/fiber/io.npz") as file:
        np.savez(
            tmp_path / "io.npz",
            **{name: file[name] for name in file.files if not name.startswith(("vqa/", "nlvr2/"))},
        )
    with np.load(shared / "parity/fiber/weights.npz") as file:
        np.savez(
            tmp_path / "weights.npz",
            **{name: file[name] for name in file.files if "classifier" not in name},
        )
    main([str(tmp_path)])
    assert re.search(
        r"parity: \d+ arrays within their tolerance, 0 not compared", capsys.readouterr().out
    )


def test_a_loss_over_thousands_of_answers_may_differ_by_what_float32_cannot_tell():
    stored = {"loss": torch.tensor(2169.0), "vector": torch.full((3,), 2169.0)}
    computed = {name: value + 3e-4 for name, value in stored.items()}
    found = {
        name: deviation <= tolerance
        for name, deviation, tolerance in _compare(stored, computed, lambda _: 5e-5)[0]
    }
    assert found == {"loss": True, "vector": False}


def test_parity_refuses_a_folder_of_another_layout(tmp_path):
    with pytest.raises(SettingsError, match="no folder of stored numbers"):
        main([str(tmp_path)])
