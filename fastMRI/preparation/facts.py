"""What the preparation records: of a volume, in its file's attributes; of them all, in
dataset.json. The fields stand in the order of the files."""

from __future__ import annotations

import msgspec

Settings = dict[str, str | int]  # of the volumes: recipe, geometry, scale, average, rss


class _Facts(msgspec.Struct, frozen=True, omit_defaults=True):
    """A deviation that was not measured is None, and is not written."""


class VolumeFacts(_Facts, kw_only=True):
    """What is known of a volume beside its arrays.

    `acquired`: the columns [left, right) of k-space that were measured; the others hold zeros.
    `esc_deviation`, `rss_deviation`: of our image and our RSS from the stored reconstruction, where
    they were compared. `scale`: by which image and RSS were divided.
    """

    width: int
    acquisition: str
    patient_id: str
    header_width: int
    acquired: tuple[int, int]
    esc_deviation: float | None = None
    rss_deviation: float | None = None
    scale: float
    source: str
    source_bytes: int


class PreparedVolume(VolumeFacts, kw_only=True):
    """The attributes of a prepared volume, and its number of slices.

    `source_digest`: see `cache.digest_of`; None in files of earlier versions.
    """

    source_digest: str | None = None
    settings: Settings
    settings_hash: str
    crc32: int
    slices: int


class Positives(_Facts):
    """How many slices and volumes have a label."""

    slices: int
    volumes: int


class Annotated(_Facts):
    """How many rows of knee.csv say something, and of how many slices and volumes."""

    rows: int
    slices: int
    volumes: int


class StudyLevel(_Facts):
    """Rows about a whole study, and their volumes."""

    rows: int
    volumes: int


class PartAnnotations(_Facts):
    """What is annotated of the listed volumes of one part."""

    volumes: int
    annotated_volumes: int
    annotated_slices: int
    sha256: str
    labels: dict[str, Positives]


class LabelAudit(_Facts):
    """Counts of the annotations, and of the listed volumes' parts, split by volume; without the
    study-level rows.

    `labels`: of every label, and of `any`. `findings`: of every string of the file, the most
    frequent first.
    """

    volumes: int
    labels: dict[str, Annotated]
    findings: dict[str, Annotated]
    parts: dict[str, PartAnnotations]
    slices_with_both: dict[str, int]
    slices_by_number_of_labels: dict[int, int]
    volumes_by_number_of_labels: dict[int, int]
    volumes_without_rows: int
    volumes_without_findings: int
    annotated_volumes_not_listed: list[str]
    study_level: StudyLevel
    duplicates: int
    trailing_blanks: int
    unknown_labels: dict[str, int]
    stray_lines: list[str]


class SplitFacts(_Facts):
    """How the volumes were split into parts, and which they are."""

    by: str  # volume or patient
    patients: int
    patients_with_several_volumes: int
    patients_crossing_parts_by_volume: int
    listed_by_volume_sha256: dict[str, str]
    prepared_sha256: dict[str, str]


class Deviation(_Facts):
    """The largest deviation among the volumes that were compared, and the volume it is of."""

    volumes: int
    worst: float
    of: str


class Checks(_Facts):
    """Worst deviations from the stored reconstructions, and volumes whose header announces another
    width than theirs."""

    header_width_differs: list[str]
    esc_deviation: Deviation | None = None
    rss_deviation: Deviation | None = None


class Audit(_Facts):
    """Volumes given, missing, dropped (and why) and prepared, what they are, and the annotations
    behind their labels."""

    raw_volumes: int
    dropped: dict[str, str]
    prepared_volumes: int
    listed_volumes_without_raw_file: int
    slices: int
    widths: dict[str, int]
    acquisitions: dict[str, int]
    annotations: LabelAudit


class PartCounts(_Facts):
    """Volumes and slices of one part as prepared, and those of them that have each label."""

    volumes: int
    slices: int
    others: Positives
    meniscus: Positives
    acl: Positives
    cartilage: Positives

    def of(self, label: str) -> Positives:
        return getattr(self, label)


class DatasetFacts(_Facts):
    """dataset.json: what the prepared folder is, its settings, counts and audit.

    `class_counts`: {part: {label: [negative slices, positive slices]}}. `slices_csv_sha256`: of the
    table beside it. `sources`: what stands for the content of the raw volumes; None in
    folders of earlier versions.
    """

    dataset: str
    variant: str
    synthetic: bool
    description: str
    labels: list[str]
    settings: Settings
    settings_hash: str
    labelled_with: dict[str, str]
    split: SplitFacts
    checks: Checks
    audit: Audit
    counts: dict[str, PartCounts]
    class_counts: dict[str, dict[str, list[int]]]
    slices_csv_sha256: str
    sources: str | None = None
