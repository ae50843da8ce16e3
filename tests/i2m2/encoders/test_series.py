"""The series encoder is a GRU, by passes of its own on the CPU.

They give what `nn.GRU` gives, and anywhere else `nn.GRU` runs.
"""

import copy

import pytest
import torch

from i2m2.encoders import series
from i2m2.encoders.series import SeriesGRU


def by_torch(encoder, x):
    return encoder.projection(encoder.gru(x)[0]).flatten(1)


def output_and_gradients(forward, x, parameters):
    output = forward(x)
    weights = torch.linspace(-1, 1, output.numel(), dtype=x.dtype).view_as(output)
    return [output, *torch.autograd.grad((output * weights).sum(), [x, *parameters])]


@pytest.mark.parametrize("projection", [None, 3])
@pytest.mark.parametrize("examples, steps", [(5, 7), (1, 1), (40, 24)])
@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-12), (torch.float32, 2e-5)])
def test_values_and_all_gradients_equal_those_of_torch(
    examples, steps, projection, dtype, tolerance
):
    torch.manual_seed(0)
    encoder = SeriesGRU(12, 30, projection).to(dtype)
    x = torch.randn(examples, steps, 12, dtype=dtype, requires_grad=True)
    parameters = list(encoder.parameters())
    ours = output_and_gradients(encoder, x, parameters)
    torchs = output_and_gradients(lambda x: by_torch(encoder, x), x, parameters)
    for a, b in zip(ours, torchs, strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance * b.abs().max().item())


def test_gradients_equal_finite_differences():
    torch.manual_seed(0)
    encoder = SeriesGRU(2, 3).double()
    x = torch.randn(2, 4, 2, dtype=torch.float64, requires_grad=True)
    names, parameters = zip(*encoder.named_parameters(), strict=True)

    def forward(x, *values):
        return torch.func.functional_call(encoder, dict(zip(names, values, strict=True)), x)

    assert torch.autograd.gradcheck(forward, (x, *parameters))


def test_weights_have_the_names_and_the_start_of_torch():
    torch.manual_seed(0)
    encoder = SeriesGRU(12, 30)
    torch.manual_seed(0)
    gru = torch.nn.GRU(12, 30, batch_first=True)
    assert list(encoder.state_dict()) == [f"gru.{name}" for name in gru.state_dict()]
    assert all(
        torch.equal(encoder.gru.state_dict()[name], value)
        for name, value in gru.state_dict().items()
    )


def test_evaluation_gives_the_values_of_training():
    encoder, x = SeriesGRU(12, 30, 15), torch.randn(4, 24, 12)
    trained = encoder(x)
    with torch.inference_mode():
        assert torch.equal(encoder(x), trained)


def test_frozen_weights_get_no_gradient_and_the_input_does():
    encoder, x = SeriesGRU(12, 30), torch.randn(4, 24, 12, requires_grad=True)
    encoder.requires_grad_(False)
    encoder(x).sum().backward()
    assert x.grad.abs().sum() > 0 and all(p.grad is None for p in encoder.parameters())


def test_update_after_a_change_in_place_is_refused():
    encoder = SeriesGRU(12, 30)
    output = encoder(torch.randn(4, 24, 12)).sum()
    with torch.no_grad():
        encoder.gru.weight_hh_l0.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        output.backward()


def test_torch_runs_under_autocast_and_when_compiled(monkeypatch):
    encoder, x = SeriesGRU(12, 30), torch.randn(4, 24, 12)
    expected = by_torch(copy.deepcopy(encoder), x)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(encoder(x).float(), expected, rtol=0.1, atol=0.05)
        monkeypatch.setattr(series, "GRUOnCPU", None)  # from here on, to use it is an error
        encoder(x)
    with pytest.raises(AttributeError):
        encoder(x)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert torch.equal(encoder(x), expected)
