"""Run the frozen backbone once over a data set, for training heads on its features.

    python -m VQA_and_NLVR2.extract_features --config VQA_and_NLVR2/configs/vqa_vs.yaml \\
        --backbone.checkpoint fiber_pretrain.ckpt
    python -m VQA_and_NLVR2.extract_features --config VQA_and_NLVR2/configs/nlvr2.yaml \\
        --preset frozen
    torchrun --nproc-per-node 4 -m VQA_and_NLVR2.extract_features --config ... --device cuda \\
        --features.precision bf16 --workers 4

It takes the settings that training takes, and training the features that it made with them. After
an interruption, the same command resumes; given several times at once, or by torchrun, the
processes share the work: each takes a part that nobody has locked. Where the file system has no
locks, `--share 1/4` to `--share 4/4` make a fixed quarter of the parts each, in any order or at
once, and the command without it then puts them together.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from i2m2.errors import SettingsError, run_command
from i2m2.training.commands import load_settings
from VQA_and_NLVR2.datasets import DATASETS
from VQA_and_NLVR2.nlvr2.settings import NLVR2Config
from VQA_and_NLVR2.vqa_vs.settings import VQAConfig

if TYPE_CHECKING:
    from VQA_and_NLVR2.features.extraction import Share
    from VQA_and_NLVR2.features.plan import Plan

PROGRAM = "VQA_and_NLVR2.extract_features"


def main(argv: list[str] | None = None) -> None:
    """Make the features that the settings describe."""
    argv, share = _without_share(sys.argv[1:] if argv is None else argv)
    purpose = "Compute the features of a data set that heads are trained on, or resume. --share K/N"
    purpose += " makes every Nth part alone."
    _, config = load_settings(DATASETS, argv, PROGRAM, purpose)
    if config.threads:
        import torch  # here and below: what needs torch comes after the settings are read

        torch.set_num_threads(config.threads)
    extract_features(config, again=True, share=share)


def _without_share(argv: list[str]) -> tuple[list[str], Share | None]:
    """The words without --share K/N, which is no setting, and (K - 1, N)."""
    words, given = [], None
    rest = iter(argv)
    for word in rest:
        if word == "--share" or word.startswith("--share="):
            given = word.partition("=")[2] or next(rest, "")
        else:
            words.append(word)
    if given is None:
        return words, None
    place, _, count = given.partition("/")
    if not (place.isdigit() and count.isdigit() and 1 <= int(place) <= int(count)):
        raise SettingsError(f"--share {given} is not possible; it takes K/N, from 1/N to N/N")
    return words, (int(place) - 1, int(count))


def extract_features(
    config: VQAConfig | NLVR2Config, again: bool = False, share: Share | None = None
) -> None:
    """The same from Python. Features that are complete are left alone, with `again` only if they
    would be the same again."""
    from VQA_and_NLVR2.features.extraction import extract_from_settings
    from VQA_and_NLVR2.features.plan import is_complete

    if again or not is_complete(config.features_folder):
        extract_from_settings(*_plan_of(config), config, share)


def _plan_of(config: VQAConfig | NLVR2Config) -> tuple[Plan, Sequence[Path | None]]:
    """What features are needed of, and the files of the images."""
    if isinstance(config, VQAConfig):
        from VQA_and_NLVR2.vqa_vs.data import plan_of

        return plan_of(config.data)
    from VQA_and_NLVR2.nlvr2.experiment import plan_of

    return plan_of(config)


if __name__ == "__main__":
    run_command(main)
