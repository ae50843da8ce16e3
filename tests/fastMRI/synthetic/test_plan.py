"""What the plans say of findings: which part shows them, how often, and together."""

import dataclasses
import functools

import numpy as np
import pytest
from scipy.stats import ks_2samp

from fastMRI.synthetic.plan import LABELS, PLACES, TASKS, Strengths
from tests.fastMRI.synthetic.tiny_plans import ALONE, plans


@functools.cache
def sites(strengths: Strengths) -> list:
    return [site for plan in plans(200, strengths) for site in plan.sites]


def test_strengths_change_nothing_but_the_changes():
    def rest(strengths):
        return [dataclasses.replace(site, change=0.0, shift=0.0) for site in sites(strengths)]

    nothing = rest(Strengths(0, 0, 0))
    for strengths in ALONE.values():
        assert rest(strengths) == nothing


@pytest.mark.parametrize("task", TASKS)
def test_neither_margin_knows_the_label_in_the_interaction_alone(task):
    drawn = [site for site in sites(ALONE["interaction"]) if site.task == task]
    finding = np.array([site.finding for site in drawn])
    for name in ("change", "shift", "width", "height", "x", "y"):
        values = np.array([getattr(site, name) for site in drawn])
        assert ks_2samp(values[finding], values[~finding]).pvalue > 0.001
    product = np.array([site.change * site.shift for site in drawn])
    assert (product[finding] >= 0).all() and (product[~finding] <= 0).all()
    assert (product[finding] > 0).mean() == pytest.approx(0.6, abs=0.08)
    assert (product[~finding] < 0).mean() == pytest.approx(0.6, abs=0.08)


def test_each_part_alone_shows_in_its_modality_alone():
    for name, shows, other in (("magnitude", "change", "shift"), ("phase", "shift", "change")):
        drawn = sites(ALONE[name])
        assert all(getattr(site, other) == 0 for site in drawn)
        assert all(getattr(site, shows) == 0 for site in drawn if not site.finding)
        seen = [getattr(site, shows) > 0 for site in drawn if site.finding]
        assert 0.6 < np.mean(seen) < 0.9


def test_every_task_has_many_positives_and_findings_come_together():
    made = plans(200)
    tasks = [{site.task for site in plan.sites if site.finding} for plan in made]
    positive = np.array([[task in shown for task in TASKS] for shown in tasks])
    share = positive.mean(0)
    assert ((share > 0.4) & (share < 0.8)).all()
    assert (~positive.any(1)).mean() == pytest.approx(1 / 6, abs=0.05)
    assert np.corrcoef(positive.T)[np.triu_indices(4, 1)].min() > 0.05
    for plan in made:
        for task in TASKS:  # one site of every task in every slice
            runs = sorted((s.first, s.last + 1) for s in plan.sites if s.task == task)
            covered = [index for run in runs for index in range(*run)]
            assert covered == list(range(plan.slices))
    assert set(PLACES) == set(LABELS) == set(TASKS)
    grades = [{s.label for s in plan.sites if s.task == "acl"} for plan in made]
    assert all(len(labels) == 1 for labels in grades) and len(set.union(*grades)) == 2
