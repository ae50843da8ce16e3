"""Products of separately trained networks (Fig. 3)."""

import json

import numpy as np

from fastMRI import controls


def test_products_of_separate_networks_are_kept_beside_the_runs(runs, capsys):
    controls.main([str(runs)])
    printed = capsys.readouterr().out
    why = "because finished seeds are missing (unimodal_phase: 0)"
    assert f"product-3x_phase: not made, {why}" in printed
    assert 'SEEDS="0 1 2" ROWS="unimodal_phase" bash scripts/fastmri.sh' in printed
    made = sorted(str(path.parent.relative_to(runs)) for path in runs.glob("product-*/*/DONE"))
    assert made == [
        "product-3x_magnitude/seed0",
        "product-magnitude-phase-inter/seed0",
        "product-magnitude-phase/seed0",
    ]
    magnitude, phase, product = (
        np.load(runs / name / "seed0/predictions_test.npz")["log_prob"].astype(float)
        for name in ("unimodal_magnitude", "unimodal_phase", "product-magnitude-phase")
    )
    by_hand = np.exp(magnitude + phase)
    np.testing.assert_allclose(np.exp(product), by_hand / by_hand.sum(-1, keepdims=True), atol=1e-6)
    env = json.loads((runs / "product-3x_magnitude/seed0/env.json").read_text())
    assert [path.split("/")[-1] for path in env["product_of"]] == ["seed0", "seed1", "seed2"]


def test_products_fill_fig_3(runs, capsys):
    from i2m2 import results

    controls.main([str(runs)])
    capsys.readouterr()
    results.main([str(runs.parent)])
    printed = capsys.readouterr().out
    fig3 = printed[printed.index("## Fig. 3") : printed.index("## Fig. 4")]
    assert "| 3 x magnitude | " in fig3 and "| 3 x phase | missing" in fig3
    assert f"`python -m fastMRI.controls {runs}`" in fig3
    assert "### Further runs" not in printed  # the products stand in their own table
    assert "## Fig. 4: WideResNet-20-3" in printed
    assert "### None of its own runs is finished" in printed


def test_three_networks_of_one_kind_come_from_seeds_in_a_circle():
    five = controls.members_of(("a", "a", "a"), {"a": [0, 1, 2, 3, 4]})
    assert len(five) == 5 and five[3] == [("a", 3), ("a", 4), ("a", 0)]
    assert list(controls.members_of(("a", "a", "a"), {"a": [4, 5, 6]})) == [4]
