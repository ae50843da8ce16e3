"""fastMRI's networks: published sizes, memory settings, mixed precision."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fastMRI.models import build_model, make_norm, preact_resnet18, wide_resnet20_3
from fastMRI.settings import FastMRIConfig
from i2m2.errors import SettingsError
from i2m2.training.config import load_config
from tests.fastMRI.tiny_fastmri import CONFIG


def config(*arguments: str) -> FastMRIConfig:
    return load_config(FastMRIConfig, ["--config", CONFIG, *arguments], "train")


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    "method, count",
    [
        ("unimodal_rss", 11_574_472),
        ("unimodal_magnitude", 11_574_472),
        ("unimodal_phase", 11_574_472),
        ("inter", 11_575_048),
        ("intra", 23_148_944),
        ("i2m2", 34_723_992),
    ],
)
def test_models_have_the_published_numbers_of_parameters(method, count):
    with torch.device("meta"):
        assert parameters(build_model(config("--method", method))) == count


def test_a_fusion_that_would_change_nothing_is_refused():
    with pytest.raises(SettingsError, match="fusion=low_rank_tensor is not possible"):
        config("--method", "inter", "--fusion", "lrtf")


def test_stages_have_the_published_numbers_of_parameters():
    with torch.device("meta"):
        network = preact_resnet18(1)
    assert parameters(network.stem) == 576
    counts = [parameters(stage) for stage in network.stages]
    assert counts == [147_968, 525_184, 2_098_944, 8_392_192]


def test_the_full_size_takes_a_step_on_the_cpu():
    network = preact_resnet18(1, width=64, checkpointed=1)
    network(torch.rand(1, 1, 320, 320)).mean().backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters())


def test_wide_resnet_has_twenty_layers_of_three_times_the_width():
    network = wide_resnet20_3(1)
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    layers = [module for module in convolutions if module.kernel_size == (3, 3)]
    assert len(layers) + 1 == 20  # and the classifier
    assert [stage[-1].conv2.out_channels for stage in network.stages] == [48, 96, 192]
    assert network(torch.rand(1, 1, 40, 40)).shape == (1, 192 * 100)


def test_a_block_is_pre_activated_and_its_plain_shortcut_is_the_input_itself():
    block = preact_resnet18(1, width=8).stages[0][0]
    x = torch.randn(2, 8, 6, 6)
    nn.init.zeros_(block.conv2.weight)
    assert torch.equal(block(x), x)


@pytest.mark.parametrize("options", [{"checkpointed": 2}, {"channels_last": True}])
def test_memory_settings_change_no_value_and_no_gradient(options):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, 2, 40, 40, dtype=torch.float64, generator=generator)
    results = []
    for given in ({}, options):
        torch.manual_seed(0)
        network = preact_resnet18(2, width=8, **given).double()
        y = network(x)
        y.square().mean().backward()
        results.append((y, [p.grad for p in network.parameters()]))
    torch.testing.assert_close(results[0], results[1], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("network, width", [(preact_resnet18, 7), (wide_resnet20_3, 2)])
def test_widths_that_crash_pytorch_in_channels_last_are_refused(network, width):
    with pytest.raises(SettingsError, match="model.channels_last=true with [67] channels"):
        network(1, width=width, channels_last=True)
    network(1, width=width)
    network(1, width=width + 1, channels_last=True)


@pytest.mark.parametrize("dtype, rtol", [(torch.bfloat16, 2**-7), (torch.float32, 1e-3)])
def test_group_norm_keeps_the_type_of_its_input_under_mixed_precision(dtype, rtol):
    norm = make_norm("group", 64)
    nn.init.normal_(norm.weight)
    x = (100 + torch.randn(2, 64, 9, 7)).to(dtype)
    with torch.autocast("cpu", torch.bfloat16):
        normed = norm(x)
    assert normed.dtype == dtype
    expected = F.group_norm(x.double(), 32, norm.weight.double(), norm.bias.double())
    torch.testing.assert_close(normed.double(), expected, rtol=rtol, atol=1e-3)
