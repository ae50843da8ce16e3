"""python -m fastMRI.evaluate"""

import json

from fastMRI.evaluate import main


def test_evaluation_prints_every_label_with_an_interval_that_holds_the_estimate(runs, capsys):
    main([str(runs / "inter/seed0")])
    printed = capsys.readouterr().out
    lines = [line.split() for line in printed.splitlines()]
    result = json.loads((runs / "inter/seed0/result.json").read_text())["test"]
    for label in ("others", "meniscus", "acl", "cartilage"):
        (line,) = [line for line in lines if line and line[0] == label]
        value, low, _, high, left_out, _, sensitivity, *_ = line[1:]
        assert abs(float(value) - result[f"auroc_{label}"]) < 1e-4
        assert float(low) <= float(value) <= float(high)
        assert left_out == "0"
        assert abs(float(sensitivity) - result[f"sensitivity_{label}"]) < 1e-4
    rule = "intervals: percentile bootstrap, examples only (one seed); 2,000 resamples of the 3 "
    assert rule in printed
