"""The estimators keep scikit-learn's conventions."""

from __future__ import annotations

from sklearn.utils.estimator_checks import parametrize_with_checks

from i2m2 import I2M2Classifier, I2M2Regressor

QUICK = {"folds": 2, "network": {"epochs": 5, "width": 4, "hidden": 4}}


@parametrize_with_checks([I2M2Classifier(**QUICK), I2M2Regressor(**QUICK)])
def test_conventions(estimator, check):
    check(estimator)
