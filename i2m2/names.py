"""The names of methods, experts and fusions, on the command line and in every file and table."""

from __future__ import annotations

from collections.abc import Sequence

from i2m2.errors import SettingsError

INTER = "inter"  # the fusion expert, beside the experts that bear their modality's name
EXPERT = "expert_"  # prefix of an expert's own log-probabilities in saved predictions
JOINT = ("intra", "i2m2")  # methods that train several experts, which may start warm
PRODUCT = "product"  # the product of all experts, where it stands beside them

FUSIONS = ("concat", "low_rank_tensor", "tensor", "gated")  # i2m2.fusion has their classes

# Of the published code, and the paper's LF and LRTF.
METHOD_ALIASES = {
    "intra_modality": "intra",
    "inter_modality": "inter",
    "inter_and_intra_modality": "i2m2",
}
FUSION_ALIASES = {"lf": "concat", "lrtf": "low_rank_tensor"}


def methods_of(modalities: Sequence[str], baselines: Sequence[str] = ()) -> tuple[str, ...]:
    """Every method; `baselines` are modalities that only have a unimodal row."""
    return (*map(method_of, (*baselines, *modalities)), "intra", "inter", "i2m2")


def method_of(expert: str) -> str:
    """The method that trains one expert alone."""
    return INTER if expert == INTER else f"unimodal_{expert}"


def name_parts(
    method: str, fusion: str | None, preset: str, scratch: bool, tag: str | None
) -> dict[str, str]:
    """{setting: what it adds to the name of a run's folder}, in the order of the name:
    `<method>[-<fusion>][-<preset>][-scratch][-<tag>]`, without the preset `paper`."""
    parts = {
        "method": method,
        "fusion": fusion,
        "preset": None if preset == "paper" else preset,
        "init": "scratch" if scratch else None,
        "tag": tag,
    }
    return {setting: part for setting, part in parts.items() if part}


def experts_of(
    method: str, modalities: Sequence[str], baselines: Sequence[str] = ()
) -> tuple[str, ...]:
    """The experts that a method multiplies: `i2m2` -> (`image`, `audio`, `inter`)."""
    method = METHOD_ALIASES.get(method, method)
    methods = methods_of(modalities, baselines)
    if method not in methods:
        raise SettingsError(f"method={method!r} is unknown; choose one of {', '.join(methods)}")
    if method.startswith("unimodal_"):
        return (method.removeprefix("unimodal_"),)
    joint = {"intra": tuple(modalities), "inter": (INTER,), "i2m2": (*modalities, INTER)}
    return joint[method]
