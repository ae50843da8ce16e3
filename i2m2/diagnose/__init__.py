"""Does this data need inter-modality modelling, intra-modality modelling, or both?

    from i2m2 import diagnose
    print(diagnose({"static": table, "series": array}, y, groups=patient))

or `python -m i2m2.diagnose TABLE --target COLUMN --modality NAME=COLUMNS ...`. Every row (single
modalities, intra, inter, I2M2, references) is trained and scored on the same group-wise stratified
folds, `seeds` times over. What comes back is a `Diagnosis`: printed, it is the answer.

Arguments, all but the first two by name:
    X, modalities, kinds, experts, interactions, network: as of `I2M2Classifier`
    y: labels or targets [n] or [n, L]
    groups: rows of one group [n] are never on both sides of a split, and resampled together
    ids: names of the examples [n] in saved predictions; default: their numbers
    task: `classify` or `regress`; default: regress numbers that are not whole, or of more than 20
        values
    metric: nll (nats; default), accuracy, auroc, ...; of a regression nll or r2
    margin: a difference that does not matter, in fractions or nats; default: one point, or 1 % of
        H(y)
    folds, seeds: parts of the data (5), and repetitions with other folds and starts (3)
    further: also each modality's own part, shuffled modalities and the fused expert's additive
        projection
    jobs: processes at once; default: the processor's cores
    out: folder for the answer (text, JSON, HTML, figure) and the predictions, as a folder of runs;
        a run that was killed goes on from there
    progress: whether to show a progress bar
    name: what the answer calls the data

Raises InputError for data that cannot be used, SettingsError for settings.

The module itself may be called, so that `from i2m2 import diagnose` gives the same whether or not
it was imported before. Its parts:

    tables, modalities              a user's files, read as blocks
    rows                            all rows' predictions of one fold
    folds                           every fold and seed, resumable
    predicted                       which row stands for several
    answer, words                   predictions to information and decisions, and one sentence
    saturated                       what columns in pairs may know that no expert finds
    pages, runs                     text, HTML, JSON, figure; the predictions as runs
    finished                        the same answer from runs that are there already
    api                             `diagnose`
"""

import sys
from types import ModuleType
from typing import Any


class _Callable(ModuleType):
    def __call__(self, *args: Any, **options: Any) -> Any:
        from i2m2.diagnose.api import diagnose  # here: it loads torch

        return diagnose(*args, **options)


sys.modules[__name__].__class__ = _Callable
