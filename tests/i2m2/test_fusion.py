"""Fusions of two and three modalities."""

import pytest
import torch

from i2m2.errors import SettingsError
from i2m2.fusion import FUSIONS, LowRankTensorFusion, TensorFusion, build_fusion

SIZES = {2: {"image": 3, "audio": 4}, 3: {"image": 3, "audio": 4, "text": 5}}


def features(sizes, n):
    return {m: torch.randn(n, d, requires_grad=True) for m, d in sizes.items()}


@pytest.mark.parametrize("name", FUSIONS)
def test_half_precision_gives_nearly_the_same(name):
    torch.manual_seed(0)
    fusion, x = build_fusion(name, SIZES[2]), features(SIZES[2], 5)
    with torch.autocast("cpu", torch.bfloat16):
        half = fusion({modality: h.bfloat16() for modality, h in x.items()})
    torch.testing.assert_close(half.float(), fusion(x), rtol=0.05, atol=0.05)


@pytest.mark.parametrize("n", [1, 7])
@pytest.mark.parametrize("modalities", [2, 3])
@pytest.mark.parametrize("name", FUSIONS)
def test_shape_and_a_gradient_for_every_parameter_and_input(name, modalities, n):
    torch.manual_seed(0)
    fusion, x = build_fusion(name, SIZES[modalities]), features(SIZES[modalities], n)
    out = fusion(x)
    assert out.shape == (n, fusion.out_features)
    (out * torch.randn_like(out)).sum().backward()
    for tensor in (*fusion.parameters(), *x.values()):
        assert tensor.grad is not None and tensor.grad.abs().sum() > 0


@pytest.mark.parametrize("modalities", [2, 3])
@pytest.mark.parametrize("name", FUSIONS)
def test_state_dict_round_trip_gives_the_same_output(name, modalities):
    one, other = (build_fusion(name, SIZES[modalities]) for _ in range(2))
    x = features(SIZES[modalities], 5)
    other.load_state_dict(one.state_dict())
    assert torch.equal(one(x), other(x))
    assert set(one.state_dict()) == {key for key, _ in one.named_parameters()}


def test_low_rank_tensor_fusion_equals_the_sum_over_ranks_written_out():
    torch.manual_seed(0)
    fusion, x = LowRankTensorFusion(SIZES[3], out_features=6, rank=2), features(SIZES[3], 5)
    expected = fusion.bias
    for r in range(2):
        product = torch.ones(5, 6)
        for name, h in x.items():
            product = product * (torch.cat([torch.ones(5, 1), h], dim=1) @ fusion.factors[name][r])
        expected = expected + fusion.weights[0, r] * product
    torch.testing.assert_close(fusion(x), expected)


def test_low_rank_tensor_fusion_has_the_published_size_and_start():
    torch.manual_seed(0)
    fusion = LowRankTensorFusion({"image": 48, "audio": 192})
    assert sum(p.numel() for p in fusion.parameters()) == 1_161_760
    assert fusion.factors["image"].shape == (40, 49, 120)
    assert fusion.factors["image"].std().item() == pytest.approx(0.0137, rel=0.01)
    assert fusion.factors["audio"].std().item() == pytest.approx(0.00846, rel=0.01)
    assert fusion.weights.std().item() == pytest.approx(0.2209, rel=0.3)  # of 40 numbers


def test_frozen_factors_are_saved_but_not_trained():
    fusion = LowRankTensorFusion(SIZES[2], frozen_factors=True)
    assert not any(p.requires_grad for p in fusion.parameters())
    assert len(fusion.state_dict()) == 4


def test_tensor_fusion_holds_every_product_and_every_feature_itself():
    image, audio = torch.tensor([[2.0, 3.0, 5.0]]), torch.tensor([[7.0, 11.0, 13.0, 17.0]])
    fused = TensorFusion(SIZES[2])({"image": image, "audio": audio})
    assert fused.view(4, 5).tolist() == [
        [1, 7, 11, 13, 17],
        [2, 14, 22, 26, 34],
        [3, 21, 33, 39, 51],
        [5, 35, 55, 65, 85],
    ]


def test_unknown_fusion_and_a_single_modality_are_refused():
    assert type(build_fusion("lrtf", SIZES[2])) is LowRankTensorFusion
    with pytest.raises(SettingsError, match="'sum' is unknown; choose one of concat"):
        build_fusion("sum", SIZES[2])
    with pytest.raises(SettingsError, match="two or more modalities, not image"):
        build_fusion("concat", {"image": 3})
