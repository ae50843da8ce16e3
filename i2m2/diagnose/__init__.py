"""Does this data need inter-modality modelling, intra-modality modelling, or both?

    from i2m2 import diagnose
    print(diagnose({"static": table, "series": array}, y, groups=patient))

or `python -m i2m2.diagnose TABLE --target COLUMN --modality NAME=COLUMNS ...`. The module itself
may be called, so that `from i2m2 import diagnose` gives the same whether or not it was imported
before.

    tables    a user's files, read as blocks      rows      all rows' predictions of one fold
    folds     every fold and seed, resumable      answer    predictions to information and decisions
    pages     text, HTML, JSON, figure, runs      api       `diagnose`
"""

import sys
from types import ModuleType
from typing import Any


class _Callable(ModuleType):
    def __call__(self, *args: Any, **options: Any) -> Any:
        from i2m2.diagnose.api import diagnose  # here: it loads torch

        return diagnose(*args, **options)


sys.modules[__name__].__class__ = _Callable
