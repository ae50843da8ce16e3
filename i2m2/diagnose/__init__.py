"""Does this data need inter-modality modelling, intra-modality modelling, or both?

    from i2m2 import diagnose
    print(diagnose({"static": table, "series": array}, y, groups=patient))

or `python -m i2m2.diagnose TABLE --target COLUMN --modality NAME=COLUMNS ...`. The module itself
may be called, so that `from i2m2 import diagnose` gives the same whether or not it was imported
before.

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
