"""Prepare AV-MNIST: digits of MNIST with most of their PCA energy removed, and noisy spoken digits.

from MNIST and FSDD:
    python -m AVMNIST_and_MIMIC.prepare_avmnist --mnist DIR --speech DIR_OR_ZIP --out data/avmnist
by the rules of the published generator:
    python -m AVMNIST_and_MIMIC.prepare_avmnist --mnist DIR --speech DIR_OR_ZIP --variant mfas \\
        --out data/avmnist-mfas
the embedded data, no files needed:
    python -m AVMNIST_and_MIMIC.prepare_avmnist --digits
audit only, also of the published tarball's content:
    python -m AVMNIST_and_MIMIC.prepare_avmnist --check data/avmnist
MNIST, FSDD and ESC-50, from their owners:
    python -m AVMNIST_and_MIMIC.prepare_avmnist --download data/raw
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from AVMNIST_and_MIMIC.avmnist.preparation.layout import Label, summary
from AVMNIST_and_MIMIC.avmnist.preparation.rules import KINDS, Rules
from i2m2.errors import CommandParser, DataError, SettingsError, run_command

if TYPE_CHECKING:
    from AVMNIST_and_MIMIC.avmnist.preparation.build import Material

VARIANTS = {
    "calibrated": Rules(),
    # The published generator's last revision (slyviacassell/_MFAS): no noise, and validation shares
    # the training recordings.
    "mfas": Rules(
        energy_rule="within",
        add_mean=False,
        pca_fit="each",
        test_takes=tuple(range(40, 50)),
        val_takes=(),
        noise=(),
    ),
}
RESERVED = (*VARIANTS, "official", "digits")  # names whose rules a reader may rely on


def main(argv: list[str] | None = None) -> None:
    """Do what the command line asks for: prepare, check or download.

    What each of these needs is imported by itself: the help and the audit are there at once.
    """
    parser = _parser()
    args = parser.parse_args(argv)
    _refuse_useless(args, parser)
    if args.download is not None:
        from AVMNIST_and_MIMIC.avmnist.preparation.download import download

        download(args.download)
    elif args.check is not None:
        from AVMNIST_and_MIMIC.avmnist.preparation.check import check

        check(args.check or args.out or Path("data/avmnist"))
    elif args.digits:
        from AVMNIST_and_MIMIC.avmnist.digits import make_digits

        out = args.out or Path("data/avmnist-digits")
        _report(out, make_digits(out))
    else:
        _prepare(args, args.out or Path("data/avmnist"))


def _refuse_useless(args: argparse.Namespace, parser: CommandParser) -> None:
    """SettingsError for an option beside a task that does not look at it."""
    given = {name for name, value in vars(args).items() if value != parser.get_default(name)}
    for task, looked_at in (("download", set()), ("check", {"out"}), ("digits", {"out"})):
        if task in given and (useless := given - looked_at - {task}):
            option = min(useless).replace("_", "-")
            raise SettingsError(f"--{option} does nothing with --{task}; leave it out")


def _prepare(args: argparse.Namespace, out: Path) -> None:
    if args.mnist is None or args.speech is None:
        raise SettingsError(
            "--mnist DIR and --speech DIR_OR_ZIP are needed "
            "(or --digits, --check, --download; see --help)"
        )
    rules, name = rules_of(args), args.name or "custom"
    if args.seed < 0:
        raise SettingsError(f"--seed {args.seed} must be at least 0")
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", name) or name in RESERVED:
        raise SettingsError(
            f"--name {name}: give letters, digits, '.', '-' and '_', "
            f"and none of {', '.join(RESERVED)}"
        )
    material, by_order = _read(args, rules)
    variant = args.variant if is_named(rules, args.variant) and not by_order else name
    from AVMNIST_and_MIMIC.avmnist.preparation.build import build

    _report(out, build(out, material, rules, Label(variant, False, describe(rules), args.seed)))


def _read(args: argparse.Namespace, rules: Rules) -> tuple[Material, str]:
    """What is to be combined, and why takes are held out by order, if they are."""
    from AVMNIST_and_MIMIC.avmnist.preparation.audio import read_speech
    from AVMNIST_and_MIMIC.avmnist.preparation.build import Material
    from AVMNIST_and_MIMIC.avmnist.preparation.images import read_mnist
    from AVMNIST_and_MIMIC.avmnist.preparation.noise import read_noise
    from AVMNIST_and_MIMIC.avmnist.preparation.splits import choose

    train, test = read_mnist(args.mnist)
    speech = read_speech(args.speech)
    if speech.misnamed:
        print(
            f"{args.speech}: {speech.misnamed} WAVs are not named digit_speaker_take.wav "
            "and were left out"
        )
    by_order = choose(speech.recordings, rules).by_order
    if by_order and (args.test_takes is not None or args.val_takes is not None):
        raise DataError(
            f"{args.speech}: {by_order}; name others, or leave out --test-takes and --val-takes: "
            "the first takes are then held out"
        )
    if by_order:
        print(f"{args.speech}: {by_order}; of every digit the first takes are held out instead")
    noise = read_noise(Path(args.noise)) if "clips" in rules.noise else None
    digest = hashlib.sha256()
    for array in (train.images, train.labels, test.images, test.labels):
        digest.update(array)
    sha256 = {"mnist": digest.hexdigest(), "speech": speech.sha256}
    if noise:
        sha256["noise"] = noise.sha256
    if speech.silent:
        print(f"{args.speech}: {speech.silent} recordings are silent, and are kept")
    if noise and noise.silent:
        print(f"{args.noise}: {noise.silent} recordings are silent and were left out")
    inputs = (speech.recordings, sha256, speech.misnamed, noise, speech.silent)
    return Material(train, test, *inputs), by_order


def _report(out: Path, written: bool) -> None:
    print(summary(out))
    already = "already there, made of the same inputs by the same rules; nothing done"
    print(f"{'written' if written else already}: {out}")


def rules_of(args: argparse.Namespace) -> Rules:
    """The named variant's rules with the options that were given."""
    names = {field.name for field in dataclasses.fields(Rules)} - {"noise"}
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    if args.noise == "none":
        given["noise"] = ()
    elif args.noise == "generated":
        given["noise"] = args.noise_kinds or KINDS
    elif args.noise is not None:
        given["noise"] = ("clips",)
    elif args.noise_kinds is not None:
        given["noise"] = args.noise_kinds
    rules = dataclasses.replace(VARIANTS[args.variant], **given)
    if args.noise_kinds is not None and args.noise not in (None, "generated"):
        raise SettingsError(
            f"--noise-kinds {','.join(args.noise_kinds)} contradicts --noise {args.noise}: "
            "they are kinds of generated noise; leave out one of the two"
        )
    if args.noise_kinds is not None and "clips" in args.noise_kinds:
        raise SettingsError(
            f"--noise-kinds: clips are no generated noise; choose from {', '.join(KINDS)}, or give "
            "--noise the folder of the clips"
        )
    other = "speaker" if rules.split == "take" else "take"
    if useless := [name for name in (f"test_{other}s", f"val_{other}s") if name in given]:
        option = "--" + useless[0].replace("_", "-")
        raise SettingsError(
            f"{option} does nothing with --split {rules.split}; leave it out, or give "
            f"--split {other}"
        )
    return rules


def is_named(rules: Rules, variant: str) -> bool:
    """Whether these are the variant's rules.

    `calibrated` leaves open whether its noise is generated or recorded.
    """
    named = VARIANTS[variant]
    recorded = dataclasses.replace(named, noise=("clips",))
    return rules == named or (bool(named.noise) and rules == recorded)


def describe(rules: Rules) -> str:
    """One sentence: what is real and what is not."""
    noise = {(): "without added noise", ("clips",): "mixed with recorded noise"}.get(
        rules.noise, "mixed with noise generated by this project"
    )
    return (
        "real handwritten digits (MNIST, PCA-reduced), real speech (recordings named as in FSDD) "
        f"{noise}; pairs are made by label"
    )


def takes(text: str) -> tuple[int, ...]:
    """'0-4,7' -> (0, 1, 2, 3, 4, 7); 'none' -> ()."""
    if text == "none":
        return ()
    chosen: set[int] = set()
    for span in text.split(","):
        ends = [int(end) for end in span.split("-")]
        if len(ends) > 2 or ends[0] > ends[-1]:
            raise argparse.ArgumentTypeError(f"{span} is no span; give the lower take first: 0-4")
        chosen |= set(range(ends[0], ends[-1] + 1))
    return tuple(sorted(chosen))


def names(text: str) -> tuple[str, ...]:
    """'george,theo' -> ('george', 'theo'); 'all' -> ()."""
    return () if text == "all" else tuple(text.split(","))


def _parser() -> CommandParser:
    parser = CommandParser(
        "python -m AVMNIST_and_MIMIC.prepare_avmnist", __doc__, allow_abbrev=False
    )
    _add_files(parser.add_argument_group("files").add_argument)
    _add_other_tasks(parser.add_argument_group("instead of preparing MNIST and FSDD").add_argument)
    title = "rules; any that differs from the variant's makes it `custom`"
    add = parser.add_argument_group(title).add_argument
    _add_rules_of_images(add)
    _add_rules_of_speech(add)
    return parser


def _add_files(add: Callable[..., object]) -> None:
    about = "folder with MNIST's four idx files, plain or .gz"
    add("--mnist", type=Path, metavar="DIR", help=about)
    about = "recordings named digit_speaker_take.wav: FSDD's folder or zip"
    add("--speech", type=Path, metavar="DIR_OR_ZIP", help=about)
    about = "added noise: generated, none, or a folder or zip of noise WAVs such as ESC-50"
    add("--noise", metavar="WHAT", help=about)
    about = "folder to write (default: data/avmnist, with --digits data/avmnist-digits)"
    add("--out", type=Path, metavar="DIR", help=about)


def _add_other_tasks(add: Callable[..., object]) -> None:
    about = "prepare the embedded data: scikit-learn's handwritten digits, synthesised speech"
    add("--digits", action="store_true", help=about)
    about = "audit a prepared folder (default: that of --out)"
    add("--check", type=Path, nargs="?", const=False, metavar="DIR", help=about)
    add("--download", type=Path, metavar="DIR", help="fetch MNIST, FSDD and ESC-50 into DIR")


def _add_rules_of_images(add: Callable[..., object]) -> None:
    about = "rules to start from: calibrated (default), or mfas: as published"
    add("--variant", choices=VARIANTS, default="calibrated", help=about)
    about = "name under which rules of your own are recorded (default: custom)"
    add("--name", help=about)
    add("--seed", type=int, default=0, help="seed of the pairing and the noise (default: 0)")
    about = "share of the images' variance to keep, 0 to 1 (default: 0.25)"
    add("--energy", type=float, metavar="SHARE", help=about)
    about = "keep the fewest components that reach that share, or the most that stay within"
    add("--energy-rule", choices=("reach", "within"), help=about)
    about = "number of components to keep, instead of a share of the variance"
    add("--components", type=int, metavar="N", help=about)
    about = "whether to add the mean image back"
    add("--add-mean", action=argparse.BooleanOptionalAction, help=about)
    about = "fit the PCA on the training images, or on each file by itself"
    add("--pca-fit", choices=("train", "each"), help=about)
    about = "number of last rows of the train files that validate (default: a twelfth)"
    add("--val-rows", type=int, metavar="N", help=about)


def _add_rules_of_speech(add: Callable[..., object]) -> None:
    add("--speakers", type=names, metavar="A,B", help="speakers to use, or all")
    add("--split", choices=("take", "speaker"), help="what no two parts share: takes or speakers")
    add("--test-takes", type=takes, metavar="0-4", help="takes held out for test, such as 0-4")
    about = "takes held out for validation; none: validation shares the training recordings"
    add("--val-takes", type=takes, metavar="5-9", help=about)
    about = "speakers held out for test with --split speaker (default: the last by name)"
    add("--test-speakers", type=names, metavar="A", help=about)
    about = "the same for validation (default: the last by name that is left)"
    add("--val-speakers", type=names, metavar="B", help=about)
    about = f"kinds of generated noise: {','.join(KINDS)}"
    add("--noise-kinds", type=names, metavar="A,B", help=about)
    about = "lowest signal-to-noise ratio in dB; each pair's is drawn uniformly"
    add("--snr-min", type=float, metavar="DB", help=about)
    add("--snr-max", type=float, metavar="DB", help="highest signal-to-noise ratio in dB")


if __name__ == "__main__":
    run_command(main)
