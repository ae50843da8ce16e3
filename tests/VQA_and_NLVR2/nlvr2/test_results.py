"""NLVR2's table of the paper."""

from __future__ import annotations

import json

from i2m2.report.paper import read_specs
from i2m2.training.config import load_config
from tests.conftest import ROOT
from tests.VQA_and_NLVR2.tiny_nlvr2 import METHODS, settings, train
from VQA_and_NLVR2.backbones.build import build_backbone
from VQA_and_NLVR2.nlvr2.settings import NLVR2Config


def test_the_table_of_the_paper_asks_for_what_runs_record(nlvr2_files, tmp_path):
    run = train(nlvr2_files, tmp_path, "--method", "unimodal_text")
    result = json.loads((run / "result.json").read_text())["test"]
    name = build_backbone(settings(nlvr2_files).backbone).name
    for folder in ("nlvr2", "nlvr2-synthetic"):
        (spec,) = read_specs()[folder]
        config = load_config(NLVR2Config, ["--config", str(ROOT / spec.config)], "train")
        assert config.backbone.kind == "fiber"
        assert set(spec.metrics) <= set(result)
        assert spec.analysis == "VQA_and_NLVR2.nlvr2.analysis"
        assert spec.settings == "VQA_and_NLVR2.nlvr2.settings.NLVR2Config"
        assert sorted(row.run for row in spec.rows) == sorted(METHODS)
        assert name.startswith(spec.backbone.partition(",")[0])
