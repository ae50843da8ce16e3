"""The product of experts."""

import math

import pytest
import torch
from torch import nn

from i2m2.fusion import Concat
from i2m2.model import (
    FusionExpert,
    ProductOfExperts,
    UnimodalExpert,
    _filled,
    product_of_experts,
)
from i2m2.names import experts_of
from tests.i2m2.training.toy import Heads

SIZES = {"image": 3, "audio": 4, "text": 5}


def build(modalities, head=lambda d: nn.Linear(d, 6)):
    experts = {m: UnimodalExpert(m, nn.Linear(SIZES[m], 8), head(8)) for m in modalities}
    encoders = {m: nn.Linear(SIZES[m], 7) for m in modalities}
    fusion = FusionExpert(encoders, Concat(dict.fromkeys(modalities, 7)), head(7 * len(modalities)))
    return ProductOfExperts({**experts, "inter": fusion})


def batch(modalities, n=9):
    return {m: torch.randn(n, SIZES[m]) for m in modalities}


@pytest.mark.parametrize("modalities", [("image", "audio"), ("image", "audio", "text")])
@pytest.mark.parametrize(
    "head", [lambda d: nn.Linear(d, 6), lambda d: Heads(d, 4, 2)], ids=["one label", "four labels"]
)
def test_equals_log_softmax_of_summed_logits(modalities, head):
    torch.manual_seed(0)
    model, inputs = build(modalities, head), batch(modalities)
    log_prob, by_expert = model(inputs)
    summed = sum(expert(inputs) for expert in model.experts.values())
    torch.testing.assert_close(log_prob, summed.log_softmax(-1), atol=1e-6, rtol=0)
    assert list(by_expert) == [*modalities, "inter"]
    for name, own in by_expert.items():
        torch.testing.assert_close(own, model.experts[name](inputs).log_softmax(-1))
        torch.testing.assert_close(own.exp().sum(-1), torch.ones(own.shape[:-1]))


def test_product_of_two_coins_by_hand():
    a, b = torch.tensor([0.8, 0.2]).log(), torch.tensor([0.4, 0.6]).log()
    torch.testing.assert_close(product_of_experts([a, b]).exp(), torch.tensor([0.32, 0.12]) / 0.44)


def test_uniform_expert_changes_nothing():
    p = torch.randn(5, 3).log_softmax(-1)
    torch.testing.assert_close(product_of_experts([p, torch.full_like(p, -math.log(3))]), p)


def test_every_expert_gets_gradient():
    model = build(("image", "audio"))
    log_prob, _ = model(batch(("image", "audio")))
    log_prob[:, 0].sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_absent_modality_drops_its_expert_and_the_fusion_expert_for_that_example_only():
    torch.manual_seed(0)
    model, inputs = build(("image", "audio")), batch(("image", "audio"), n=4)
    present = {"audio": torch.tensor([True, False, True, False])}
    inputs["audio"][~present["audio"]] = float("nan")
    log_prob, by_expert = model(inputs, present)
    image = model.experts["image"](inputs).log_softmax(-1)
    torch.testing.assert_close(log_prob[1::2], image[1::2])
    whole, _ = model({m: x[::2] for m, x in inputs.items()})
    torch.testing.assert_close(log_prob[::2], whole)
    torch.testing.assert_close(by_expert["inter"][1], torch.full((6,), -math.log(6)))
    log_prob.sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


class MeanOfSteps(nn.Module):
    """It divides by the length of a series, packed as recurrent layers take it."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 6)

    def forward(self, series):
        packed = nn.utils.rnn.pack_padded_sequence(
            series["x"], series["length"], batch_first=True, enforce_sorted=False
        )
        x, length = nn.utils.rnn.pad_packed_sequence(packed, batch_first=True)
        share = x / x.sum(dim=(1, 2), keepdim=True)
        return self.linear(share.sum(dim=1) / length.unsqueeze(-1))


@pytest.mark.parametrize("present", [[False, True, False, True], [False] * 4])
def test_encoders_meet_no_length_or_sum_of_zero_where_a_modality_is_absent(present):
    model = ProductOfExperts({"a": UnimodalExpert("a", MeanOfSteps(), nn.Identity())})
    present = torch.tensor(present)
    x = torch.rand(4, 5, 3) + 0.1
    x[~present] = math.nan
    length = torch.tensor([1, 5, 2, 3])
    log_prob, _ = model({"a": {"x": x, "length": length}}, {"a": present})
    assert log_prob.isfinite().all() and log_prob[~present].std() < 1e-6
    if present.any():
        log_prob[:, 0].sum().backward()
        assert all(p.grad.isfinite().all() for p in model.parameters())
        alone, _ = model({"a": {"x": x[present], "length": length[present]}})
        torch.testing.assert_close(log_prob[present], alone)


@pytest.mark.parametrize("values", [torch.randn(3, 4, 5), torch.arange(12).view(3, 4)])
def test_absent_examples_are_filled_alike_by_models_one_and_several(values):
    present = torch.tensor([[False, True, True, False], [False] * 4, [True] * 4])
    each = torch.stack([_filled(*pair) for pair in zip(values, present, strict=True)])
    assert torch.equal(_filled(values, present), each)
    assert torch.equal(torch.vmap(_filled)(values, present), each)
    nobody = torch.zeros(0, dtype=torch.bool)
    assert _filled(values[:0], nobody).shape == values[:0].shape


def test_a_modality_the_inputs_lack_is_absent_everywhere():
    model, inputs = build(("image", "audio")), batch(("image", "audio"))
    nobody = torch.zeros(9, dtype=torch.bool)
    log_prob, by_expert = model({"image": inputs["image"]})
    torch.testing.assert_close(log_prob, model(inputs, {"audio": nobody})[0])
    assert set(by_expert) == {"image", "audio", "inter"}
    with pytest.raises(ValueError, match="not enough for any expert"):
        model({})


def test_with_every_modality_absent_the_answer_is_uniform():
    model = build(("image", "audio"), lambda d: Heads(d, 4, 2))
    nobody = torch.zeros(9, dtype=torch.bool)
    log_prob, _ = model(batch(("image", "audio")), {"image": nobody, "audio": nobody})
    torch.testing.assert_close(log_prob, torch.full((9, 4, 2), -math.log(2)))


def test_with_every_modality_absent_the_answer_is_the_prior_where_it_is_known():
    prior = torch.tensor([[0.9, 0.1], [0.5, 0.5], [0.2, 0.8], [0.7, 0.3]])
    model, inputs = build(("image", "audio"), lambda d: Heads(d, 4, 2)), batch(("image", "audio"))
    first, nobody = torch.arange(9) == 0, torch.zeros(9, dtype=torch.bool)
    present = {"image": nobody, "audio": first}
    without, by_expert = model(inputs, present)
    model.set_prior(prior)
    log_prob, same_experts = model(inputs, present)
    assert torch.equal(log_prob[0], without[0])  # what an expert answers is left as it is
    torch.testing.assert_close(log_prob[1:], prior.log().expand(8, 4, 2))
    assert all(torch.equal(by_expert[name], same_experts[name]) for name in by_expert)
    assert torch.equal(model(inputs)[0], build_again(model)(inputs)[0])


def build_again(model):
    """The same experts without a prior."""
    return ProductOfExperts(dict(model.experts.items()))


def test_the_prior_is_no_part_of_what_is_saved():
    experts = {"a": UnimodalExpert("a", nn.Identity(), nn.Linear(3, 2))}
    model = ProductOfExperts(experts, prior=[3 / 4, 1 / 4])
    assert model.state_dict().keys() == ProductOfExperts(experts).state_dict().keys()
    nobody = torch.zeros(1, dtype=torch.bool)
    log_prob, _ = model({"a": torch.zeros(1, 3)}, {"a": nobody})
    torch.testing.assert_close(log_prob.exp(), torch.tensor([[3 / 4, 1 / 4]]))
    for wrong in ([-0.5, 1.5], [float("nan"), 1.0], [0.0, 0.0]):
        with pytest.raises(ValueError, match="prior must be probabilities of the answers"):
            model.set_prior(wrong)


def test_without_normalisation_the_prior_is_odds():
    experts = {"a": UnimodalExpert("a", nn.Identity(), nn.Identity())}
    model = ProductOfExperts(experts, normalise=False, prior=[0.9, 0.5])
    log_odds, _ = model({"a": torch.ones(1, 2)}, {"a": torch.tensor([False])})
    torch.testing.assert_close(log_odds, torch.tensor([[math.log(9), 0.0]]))


@pytest.mark.parametrize(
    "method, solves", [("unimodal_image", False), ("intra", False), ("inter", True), ("i2m2", True)]
)
def test_only_models_with_a_fusion_expert_fit_xor(method, solves):
    torch.manual_seed(0)
    bits = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    y = (bits.sum(1) == 1).long()
    inputs = {"image": bits[:, :1], "audio": bits[:, 1:]}

    def mlp(inside):
        return nn.Sequential(nn.Linear(inside, 16), nn.Tanh(), nn.Linear(16, 2))

    experts = {m: UnimodalExpert(m, nn.Identity(), mlp(1)) for m in inputs}
    fusion = Concat({"image": 1, "audio": 1})
    experts["inter"] = FusionExpert({m: nn.Identity() for m in inputs}, fusion, mlp(2))
    model = ProductOfExperts({name: experts[name] for name in experts_of(method, tuple(inputs))})
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    for _ in range(150):
        optimizer.zero_grad()
        nn.functional.nll_loss(model(inputs)[0], y).backward()
        optimizer.step()
    right = (model(inputs)[0].argmax(-1) == y).sum()
    assert right == 4 if solves else right < 4


def test_without_normalisation_log_odds_are_summed_and_an_absent_modality_abstains():
    """Answers that do not exclude each other: odds of a product of Bernoulli distributions are
    products of odds."""
    experts = {name: UnimodalExpert(name, nn.Identity(), nn.Identity()) for name in ("a", "b")}
    model = ProductOfExperts(experts, normalise=False)
    a, b = torch.tensor([[2.0, -1.0]]), torch.tensor([[0.5, 3.0]])
    summed, each = model({"a": a, "b": b})
    assert torch.equal(summed, a + b) and torch.equal(each["a"], a)
    odds = torch.sigmoid(summed) / (1 - torch.sigmoid(summed))
    torch.testing.assert_close(odds, a.exp() * b.exp())
    summed, each = model({"a": a, "b": b}, present={"b": torch.tensor([False])})
    assert torch.equal(summed, a) and torch.equal(each["b"], torch.zeros(1, 2))
