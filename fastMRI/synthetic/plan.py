"""What the synthetic knees contain, before any image is made: shapes, findings, places, sizes and
signs.

Every volume has for every task one *site* at a time, for runs of 3 to 5 adjacent slices. At a site,
and only there, the image is multiplied by (1 + g * change) * exp(i * g * shift), with a bump g of
the site's size:

    change = finding * seen_m * magnitude + present * sign             * interaction * UNIT_CHANGE
    shift  = finding * seen_p * phase     + present * sign * agreement * interaction * UNIT_SHIFT
    agreement = 2 * finding - 1

`finding` (0 or 1) is the label. All other letters are drawn independently of it: sites without a
finding are as frequent, as large and in the same places, and their distractors (`present`) too. So
the change's distribution knows the label through `magnitude` alone, the shift's through `phase`
alone, and only the two together through `interaction`: whether their signs agree.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import chain

import numpy as np

TASKS = ("others", "meniscus", "acl", "cartilage")
# Columns of k-space, in turn: below, at and above 400, one odd, one the crop's own
WIDTHS = (368, 372, 320, 369, 386, 400, 404)
FIRST_NAME = 9_000_000  # the real set's numbers start with 1
HEALTHY = 1 / 6  # share of volumes without any finding; 203 of 1,172 in the real set
# Of a site in a volume that is not healthy
PREVALENCE = {"others": 0.50, "meniscus": 0.55, "acl": 0.40, "cartilage": 0.50}
# Standard deviation, in logits, of what a volume's findings have in common: they come together
SEVERITY = 0.7
RUN = (3, 5)  # slices of a site
SEEN_MAGNITUDE, SEEN_PHASE = 0.8, 0.7  # probability that a finding shows in the modality
# Probability that a site carries the interaction's pair of changes, whatever its label
PRESENT = 0.6
# Of the interaction at strength 1: share of the tissue's magnitude, radians
UNIT_CHANGE, UNIT_SHIFT = 0.30, 0.90

# Centres (x, y) and box sizes (width, height) in the annotations' frame (320 x 320, upside down),
# after the real boxes' medians; spread: standard deviation of the centre. Others lie in the bones,
# clear of the three other tasks.
PLACES = {
    "others": (((121, 98), (199, 98), (124, 244), (196, 244)), (37, 53), (8, 7)),
    "meniscus": (((76, 192), (244, 192)), (25, 15), (4, 3)),
    "acl": (((160, 160),), (20, 35), (5, 6)),
    "cartilage": (((124, 188), (196, 188)), (31, 12), (9, 2)),
}

# Label strings as in the real file, irregular as they are, with their numbers of rows there as
# weights.
LABELS = {
    "others": {
        "Joint Effusion ": 1311,
        "Bone-Fracture/Contusion/dislocation": 1060,
        "Bone- Subchondral edema": 986,
        "Periarticular cysts": 864,
        "Ligament - MCL Low-Mod Grade Sprain": 285,
        "Displaced Meniscal Tissue": 232,
        "Bone - Lesion": 183,
        "Ligament - PCL Low-Mod grade sprain": 142,
        "LCL Complex - Low-Mod Grade Sprain": 130,
        "Soft Tissue Lesion": 90,
        "Muscle Strain": 65,
        "Joint Bodies": 38,
        "Patellar Retinaculum - High grade sprain": 24,
        "Ligament - PCL High Grade": 18,
        "LCL Complex- High Grade Sprain": 14,
        "Ligament - MCL High Grade sprain": 11,
    },
    "meniscus": {"Meniscus Tear": 5658},
    "acl": {"Ligament - ACL Low Grade sprain": 765, "Ligament - ACL High Grade Sprain": 678},
    "cartilage": {
        "Cartilage - Partial Thickness loss/defect": 2985,
        "Cartilage - Full Thickness loss/defect": 615,
    },
}


@dataclass(frozen=True)
class Strengths:
    """How loudly a finding speaks. Zero switches a part off; with two at zero the third is alone.

    magnitude: relative change of the tissue's brightness; phase: shift in radians; interaction: in
    units of ±30 % together with ±0.9 rad, of equal sign at a finding and of opposite sign
    elsewhere.
    """

    magnitude: float = 0.70
    phase: float = 1.40
    interaction: float = 0.70


# At the usual strengths magnitude and phase say about as much. The interaction alone is louder:
# ±53 % and ±1.6 rad, a right angle, beyond which the two signs come closer together again.
SIGNALS = {
    "all": Strengths(),
    "magnitude": Strengths(phase=0, interaction=0),
    "phase": Strengths(magnitude=0, interaction=0),
    "interaction": Strengths(magnitude=0, phase=0, interaction=1.75),
}


@dataclass(frozen=True)
class Site:
    """One place of one task in adjacent slices `first` to `last`.

    x, y, width and height in pixels of the annotations' frame.
    """

    task: str
    first: int
    last: int
    x: float
    y: float
    drift: tuple[float, float]  # of the centre, pixels per slice
    width: float
    height: float
    finding: bool
    change: float  # of the magnitude at the centre: 0.3 is 30 % brighter
    shift: float  # of the phase at the centre, radians
    label: str

    def centre(self, index: int | np.ndarray) -> tuple[float | np.ndarray, float | np.ndarray]:
        """(x, y) in the given slice or slices."""
        steps = index - (self.first + self.last) / 2
        return self.x + self.drift[0] * steps, self.y + self.drift[1] * steps


@dataclass(frozen=True)
class Plan:
    """One volume. `acquired` columns of k-space about its centre were measured, the others are
    zero."""

    index: int
    name: str
    patient: str
    slices: int
    width: int
    acquired: int
    fat_suppressed: bool
    knee: tuple[float, float]  # where the knee's centre lies, (x, y) pixels off the image's centre
    sites: tuple[Site, ...]


def plan_volumes(
    volumes: int, seed: int, strengths: Strengths, slices: tuple[int, int]
) -> list[Plan]:
    """What every volume holds; the strengths change nothing but the sites' `change` and `shift`."""
    healthy = max(round(volumes * HEALTHY), volumes > 1)
    severities = np.where(np.arange(volumes) < healthy, -math.inf, 0.0)
    severities = np.random.default_rng((seed, 0)).permutation(severities).tolist()
    return [
        _plan(index, severity, seed, strengths, slices) for index, severity in enumerate(severities)
    ]


def _plan(
    index: int, severity: float, seed: int, strengths: Strengths, slices: tuple[int, int]
) -> Plan:
    rng = np.random.default_rng((seed, 1, index))
    width = WIDTHS[index % len(WIDTHS)]
    # Columns of zeros, in every third volume
    unmeasured = 2 * int(rng.integers(8, 25)) if index % 3 == 1 else 0
    # The sixth of ten volumes is the fifth's patient.
    patient = index - 1 if index % 10 == 5 else index
    knee = tuple(rng.uniform(-6, 6, 2).tolist())
    count = int(rng.integers(slices[0], slices[1] + 1))
    severity += rng.normal(0, SEVERITY)
    fat_suppressed = bool(rng.random() < 0.5)
    sites = [_sites(task, count, severity, knee, strengths, rng) for task in TASKS]
    return Plan(
        index=index,
        name=f"file{FIRST_NAME + index}",
        patient=np.random.default_rng((seed, 2, patient)).bytes(32).hex(),
        slices=count,
        width=width,
        acquired=width - unmeasured,
        fat_suppressed=fat_suppressed,
        knee=knee,
        sites=tuple(chain(*sites)),
    )


def _sites(
    task: str,
    slices: int,
    severity: float,
    knee: tuple[float, float],
    strengths: Strengths,
    rng: np.random.Generator,
) -> list[Site]:
    """Runs of slices that fill the volume, each with its own site; the first may begin before slice
    0."""
    sites, start = [], -int(rng.integers(0, RUN[0]))
    labels = list(LABELS[task])
    weights = np.array(list(LABELS[task].values()), float)
    share = weights / weights.sum()
    grade = rng.choice(labels, p=share)  # of the whole volume, for ACL: its grades never share one
    while start < slices:
        end = start + int(rng.integers(RUN[0], RUN[1] + 1))
        label = str(grade if task == "acl" else rng.choice(labels, p=share))
        first, last = max(start, 0), min(end, slices) - 1
        sites.append(_site(task, first, last, severity, knee, strengths, label, rng))
        start = end
    return sites


def _site(
    task: str,
    first: int,
    last: int,
    severity: float,
    knee: tuple[float, float],
    strengths: Strengths,
    label: str,
    rng: np.random.Generator,
) -> Site:
    """Everything is drawn in the same order and number whatever the label, so that nothing but the
    formulas depends on it."""
    centres, size, spread = PLACES[task]
    x, y = np.array(centres[rng.integers(len(centres))]) + rng.normal(0, spread) + knee
    width, height = size * np.exp(rng.normal(0, 0.12, 2))
    drift = rng.normal(0, 0.7, 2)
    chance, seen_magnitude, seen_phase, present = rng.random(4)
    loud_magnitude, loud_phase = rng.uniform(0.8, 1.2, 2)
    sign = rng.choice((-1, 1))
    odds = PREVALENCE[task] / (1 - PREVALENCE[task]) * math.exp(severity)
    finding = bool(chance * (1 + odds) < odds)
    change = finding * (seen_magnitude < SEEN_MAGNITUDE) * loud_magnitude * strengths.magnitude
    shift = finding * (seen_phase < SEEN_PHASE) * loud_phase * strengths.phase
    pair = sign * strengths.interaction * (present < PRESENT)
    agreement = 1 if finding else -1
    return Site(
        task=task,
        first=first,
        last=last,
        x=float(x),
        y=float(y),
        drift=(float(drift[0]), float(drift[1])),
        width=float(width),
        height=float(height),
        finding=finding,
        change=float(change + pair * UNIT_CHANGE),
        shift=float(shift + pair * UNIT_SHIFT * agreement),
        label=label,
    )
