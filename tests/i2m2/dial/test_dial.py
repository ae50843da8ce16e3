"""The dial's exact values against a table added up cell by cell, and its samples against both."""

import json
from itertools import product

import numpy as np
import pytest
from scipy.special import log_softmax, rel_entr
from scipy.stats import chisquare

from i2m2.dial import EXACT, KINDS, Dial, drop_modalities, render, tables, templates
from i2m2.dial.__main__ import main
from i2m2.errors import DataError, SettingsError

# (classes, alpha, beta, prior), then intra and inter nats, and the accuracies of x1, intra and all;
# computed cell by cell, with a projection by iterative scaling.
CHECK_VALUES = [
    ((4, (1, 1), 0, None), (0.224391, 0, 0.475367, 0.475367, 0.475367)),
    ((4, (0, 0), 2, None), (0, 0.468011, 0.25, 0.25, 0.711235)),
    ((4, (1, 2), 1.5, None), (0.539521, 0.153457, 0.475367, 0.711235, 0.743589)),
    ((3, (1, 0.5), 1, (0.6, 0.3, 0.1)), (0.119382, 0.083369, 0.64567, 0.655763, 0.70558)),
    ((3, (1, 1, 1), 2, None), (0.32282, 0.289762, 0.576117, 0.665051, 0.812734)),
    ((2, (1.3, 0), 1, (0.8, 0.2)), (0.113688, 0.054722, 0.8, 0.8, 0.86882)),
]

PLAIN = [
    Dial(3, (1, 0.5), 1, prior=(0.6, 0.3, 0.1)),
    Dial(2, (1, 0, 2), 1.5, prior=(0.7, 0.3)),
    Dial(2, (1, 0.3, 2), 1.5, pairs=("x1", "x3")),
]
COPIED = [
    Dial(3, (1, 2), 1.5, prior=(0.6, 0.3, 0.1), copy=0.4),
    Dial(3, (2, 1), 0.5, copy=1),
    Dial(2, (1, 0.3, 2), 1, prior=(0.7, 0.3), copy=0.7, pairs=("x2", "x3")),
]


def full_table(dial: Dial) -> np.ndarray:
    """p(y, b_1, c_1, b_2, c_2, .. | v = 1), one axis each, straight from the definition."""
    K, M = dial.classes, len(dial.alpha)
    table = np.zeros((K,) * (1 + 2 * M))
    in_sum = [name in dial.pairs for name in dial.modalities]
    for cell in product(range(K), repeat=1 + 2 * M):
        y, b, c = cell[0], cell[1::2], cell[2::2]
        p = [np.exp(a * (k == y)) / (np.exp(a) + K - 1) for a, k in zip(dial.alpha, c, strict=True)]
        p[1] = (1 - dial.copy) * p[1] + dial.copy * (c[0] == c[1])
        total = sum(k for k, member in zip(b, in_sum, strict=True) if member) % K
        selected = np.exp(dial.beta * ((total == y) - 1))
        table[cell] = dial.prior[y] * np.prod(p) * selected
    return table / table.sum()


def seen(table: np.ndarray, *axes: int) -> np.ndarray:
    """p(y, those axes), [K, cells]."""
    others = tuple(a for a in range(1, table.ndim) if a not in axes)
    return table.sum(axis=others).reshape(len(table), -1)


def information(table: np.ndarray, *axes: int) -> float:
    """I(y; those axes)."""
    joint = seen(table, *axes)
    return rel_entr(joint, joint.sum(0) * joint.sum(1, keepdims=True)).sum()


def symbol_table(dial: Dial) -> np.ndarray:
    """p(y, x_1, .., x_M), [K, K*K, .., K*K]."""
    K, M = dial.classes, len(dial.alpha)
    return full_table(dial).reshape(K, *(K * K,) * M)


def every_symbol(dial: Dial) -> dict[str, np.ndarray]:
    """All combinations of symbols, in the order of `symbol_table`."""
    places = np.indices((dial.classes**2,) * len(dial.alpha)).reshape(len(dial.alpha), -1)
    return dict(zip(dial.modalities, places, strict=True))


def moment(table: np.ndarray, m: int) -> np.ndarray:
    """p(y, x_m) with the other axes kept at length 1."""
    others = tuple(a for a in range(1, table.ndim) if a != m + 1)
    return table.sum(axis=others, keepdims=True)


def project(table: np.ndarray, sweeps: int = 3000) -> np.ndarray:
    """The best log q(y | x) that is a sum of functions of (y, x_m): generalised iterative scaling
    of all functions at once, b's and c's alike, from 0."""
    M = table.ndim - 1
    logits = np.zeros_like(table)
    for _ in range(sweeps):
        model = table.sum(0) * np.exp(log_softmax(logits, axis=0))
        ratios = [np.log(moment(table, m) / moment(model, m)) for m in range(M)]
        logits = logits + sum(ratios) / M
    return log_softmax(logits, axis=0)


@pytest.mark.parametrize("settings, expected", CHECK_VALUES)
def test_exact_values_are_the_known_ones(settings, expected):
    exact = Dial(*settings).exact()
    keys = ("intra", "inter", "intra_accuracy", "bayes_accuracy")
    intra, inter, intra_accuracy, bayes_accuracy = (exact[key] for key in keys)
    found = intra, inter, exact["modality_accuracy"]["x1"], intra_accuracy, bayes_accuracy
    np.testing.assert_allclose(found, expected, atol=5.1e-7)


@pytest.mark.parametrize("dial", PLAIN + COPIED)
def test_exact_values_equal_the_table_cell_by_cell(dial):
    exact, table = dial.exact(), full_table(dial)
    everything = range(1, table.ndim)
    pairs = [(2 * m + 1, 2 * m + 2) for m in range(len(dial.alpha))]
    alone = [information(table, *axes) for axes in pairs]
    accuracy = [seen(table, *axes).max(0).sum() for axes in pairs]
    np.testing.assert_allclose(list(exact["modality"].values()), alone, atol=1e-9)
    np.testing.assert_allclose(list(exact["modality_accuracy"].values()), accuracy, atol=1e-9)
    assert exact["best_modality"] == dial.modalities[int(np.argmax(alone))]
    entropy = -sum(p * np.log(p) for p in dial.prior)
    total = information(table, *everything)
    best = seen(table, *everything).max(0).sum()
    found = [exact[key] for key in ("label_entropy", "total", "bayes_nll", "bayes_accuracy")]
    np.testing.assert_allclose(found, [entropy, total, entropy - total, best], atol=1e-9)
    assert exact["prior_accuracy"] == max(dial.prior)


@pytest.mark.parametrize("dial", PLAIN + COPIED)
def test_intra_is_the_projection_on_sums_of_functions_of_one_modality(dial):
    exact, table = dial.exact(), symbol_table(dial)
    log_q = project(table)
    nll = -(table * log_q).sum()
    right = np.isclose(log_q, log_q.max(0), atol=1e-6, rtol=0)
    accuracy = (table * right / right.sum(0)).sum()
    found = [exact[key] for key in ("intra_nll", "intra", "inter", "intra_accuracy")]
    intra = exact["label_entropy"] - nll
    expected = [nll, intra, exact["total"] - intra, accuracy]
    np.testing.assert_allclose(found, expected, atol=1e-9)


@pytest.mark.parametrize("dial", PLAIN + COPIED)
def test_the_best_product_meets_the_moment_conditions_of_every_symbol(dial):
    table = symbol_table(dial)
    log_q = dial.intra_log_prob(every_symbol(dial)).T.reshape(table.shape)
    model = table.sum(0) * np.exp(log_q)
    for m in range(len(dial.alpha)):
        np.testing.assert_allclose(moment(model, m), moment(table, m), atol=1e-9)


@pytest.mark.parametrize("dial", PLAIN)
def test_without_copies_intra_is_what_the_cs_know_and_inter_what_the_bs_add(dial):
    exact, table = dial.exact(), full_table(dial)
    intra = information(table, *range(2, table.ndim, 2))
    inter = information(table, *range(1, table.ndim)) - intra
    np.testing.assert_allclose([exact["intra"], exact["inter"]], [intra, inter], atol=1e-9)


@pytest.mark.parametrize("dial", PLAIN + COPIED)
def test_sampled_frequencies_are_the_tables(dial):
    n = 40_000
    data = dial.sample(n, seed=1)
    assert data.y.dtype == data.symbols["x1"].dtype == np.int64
    p = symbol_table(dial)
    cell = np.ravel_multi_index((data.y, *data.symbols.values()), p.shape)
    counts = np.bincount(cell, minlength=p.size)
    possible = p.ravel() > 0
    assert counts[~possible].sum() == 0
    assert chisquare(counts[possible], n * p.ravel()[possible]).pvalue > 0.01


def test_the_same_seed_draws_the_same_examples():
    first, again, other = (Dial(3, (1, 1), 1).sample(50, seed=seed) for seed in (0, 0, 1))
    assert (first.y == again.y).all() and (first.symbols["x2"] == again.symbols["x2"]).all()
    assert (first.symbols["x2"] != other.symbols["x2"]).any()


@pytest.mark.parametrize("dial", [Dial(4, (1, 2), 1.5), COPIED[0], COPIED[2]])
def test_log_probs_lose_what_the_exact_values_say(dial):
    data, exact = dial.sample(200_000, seed=0), dial.exact()
    for log_prob, name in [(dial.log_prob, "bayes"), (dial.intra_log_prob, "intra")]:
        table = log_prob(data.symbols)
        loss = -table[np.arange(len(data.y)), data.y]
        error = loss.std() / np.sqrt(len(loss))
        assert abs(loss.mean() - exact[f"{name}_nll"]) < 4 * error
        right = exact[f"{name}_accuracy"]
        error = np.sqrt(right * (1 - right) / len(loss))
        assert abs((table.argmax(1) == data.y).mean() - right) < 4 * error


@pytest.mark.parametrize("dial", PLAIN + COPIED)
def test_every_cell_has_the_probability_of_the_table(dial):
    symbols, joint = dial.cells()
    pairs = [divmod(symbols[name], dial.classes) for name in dial.modalities]
    table = full_table(dial)
    for y in range(dial.classes):
        expected = table[y][tuple(x for pair in pairs for x in pair)]
        np.testing.assert_allclose(joint[:, y], expected, atol=1e-15)
    assert len(joint) == dial.classes ** (2 * len(dial.alpha))
    np.testing.assert_allclose(joint.sum(), 1)


def test_too_many_cells_are_not_listed():
    with pytest.raises(SettingsError, match="at most 20,000,000"):
        Dial(4, (1,) * 7, 1).cells()


@pytest.mark.parametrize("dial", PLAIN + COPIED)
def test_log_prob_of_the_modalities_that_are_present_is_the_tables(dial):
    table, symbols = symbol_table(dial), every_symbol(dial)
    n = len(symbols["x1"])
    for mask in product([True, False], repeat=len(dial.alpha)):
        present = {name: np.full(n, here) for name, here in zip(symbols, mask, strict=True)}
        absent = tuple(m + 1 for m, here in enumerate(mask) if not here)
        joint = np.broadcast_to(table.sum(axis=absent, keepdims=True), table.shape)
        joint = joint.reshape(dial.classes, n)
        possible = joint.sum(0) > 0
        posterior = (joint[:, possible] / joint[:, possible].sum(0)).T
        found = np.exp(dial.log_prob(symbols, present))[possible]
        np.testing.assert_allclose(found, posterior, atol=1e-12)


def test_beta_moves_inter_alone():
    values = [Dial(4, (1, 2), beta).exact() for beta in (0, 0.5, 1, 2)]
    assert values[0]["inter"] < 1e-12
    inter = [value["inter"] for value in values]
    assert inter == sorted(inter) and inter[1] > 0.01
    for key in ("intra", "intra_accuracy", "modality", "modality_accuracy"):
        assert all(value[key] == values[0][key] for value in values)


def test_alpha_moves_what_its_modality_knows():
    values = [Dial(4, (alpha, 1), 0).exact() for alpha in (0, 0.5, 1, 2)]
    x1 = [value["modality"]["x1"] for value in values]
    assert x1[0] == 0 and x1 == sorted(x1) and x1[1] > 0.01
    assert all(value["modality"]["x2"] == values[0]["modality"]["x2"] for value in values)
    assert all(value["inter"] < 1e-12 for value in values)
    assert Dial(4, (0, 0), 2).exact()["intra"] < 1e-12


def test_of_three_modalities_a_pair_alone_holds_the_sum():
    table = full_table(Dial(2, (1, 0.3, 2), 1.5, pairs=("x1", "x2")))
    b1, c1, b2, c2, b3, c3 = range(1, 7)
    everything = information(table, b1, c1, b2, c2, b3, c3)
    cs = information(table, c1, c2, c3)
    assert information(table, b1, c1, b2, c2, c3) == pytest.approx(everything, abs=1e-12)
    assert information(table, c1, b2, c2, b3, c3) == pytest.approx(cs, abs=1e-12)
    assert everything > cs + 0.05


def test_large_tables_and_strong_dials_stay_finite():
    exact = Dial(4, (1000, 0), 1000).exact()
    assert exact["intra"] == pytest.approx(np.log(4)) and exact["inter"] < 1e-12
    assert Dial(10, (1, 1, 1, 1), 1).exact()["intra"] > 0
    with pytest.raises(SettingsError, match="20,000,000"):
        Dial(10, (1,) * 8, 1).exact()


def test_a_projection_that_is_not_found_says_so(monkeypatch):
    monkeypatch.setattr(tables, "MOST_SWEEPS", 5)
    with pytest.raises(FloatingPointError, match="within 5 sweeps; with copies"):
        Dial(4, (12, 1), 1, copy=0.5).exact()


def test_wrong_symbols_are_refused():
    dial = Dial(2, (1, 1), 1)
    good = dial.sample(3).symbols
    for change, words in [({"x1": good["x1"] + 4}, "0 to 3"), ({"x1": good["x1"][:2]}, "length")]:
        with pytest.raises(DataError, match=words):
            dial.log_prob(good | change)
    with pytest.raises(DataError, match="no symbols of x2"):
        dial.log_prob({"x1": good["x1"]})
    with pytest.raises(DataError, match="x9"):
        dial.log_prob(good, {"x9": np.ones(3, dtype=bool)})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("classes", [2, 5])
def test_every_block_shows_its_symbol(kind, classes):
    data = Dial(classes, (1, 1), 1).sample(500, seed=0)
    blocks = render(data.symbols, kind, classes, seed=3)
    for name, symbols in data.symbols.items():
        block, known = blocks[name], templates(kind, classes)
        if kind in ("onehot", "words"):
            assert (block == known[symbols]).all()
            continue
        assert block.dtype == np.float32 and (block != known[symbols]).any()
        distance = ((block[:, None] - known[None]) ** 2).reshape(500, classes**2, -1).sum(-1)
        assert (distance.argmin(axis=1) == symbols).all()


def test_blocks_have_the_shapes_that_encoders_read():
    shapes = {"onehot": (9,), "vector": (16,), "picture": (6, 6), "series": (8, 3), "words": ()}
    assert {kind: templates(kind, 3).shape[1:] for kind in KINDS} == shapes
    assert len(set(templates("words", 3))) == 9
    assert (templates("onehot", 3).argmax(axis=1) == np.arange(9)).all()


def test_kinds_per_modality_and_noise():
    symbols = Dial(3, (1, 1), 1).sample(20).symbols
    blocks = render(symbols, {"x1": "vector", "x2": "words"}, classes=3, noise=0)
    assert (blocks["x1"] == templates("vector", 3)[symbols["x1"]]).all()
    assert blocks["x2"][0].startswith("box")
    with pytest.raises(SettingsError, match="smell"):
        render(symbols, "smell", classes=3)
    with pytest.raises(SettingsError, match="noise is -1"):
        render(symbols, "vector", classes=3, noise=-1)
    first, second = (render(symbols, "vector", 3, seed=seed)["x1"] for seed in (0, 1))
    assert (first != second).all()


def test_missing_modalities_are_rows_of_nothing():
    symbols = Dial(3, (1, 1), 1).sample(5000).symbols
    whole = render(symbols, {"x1": "series", "x2": "words"}, classes=3)
    blocks, present = drop_modalities(whole, 0.3, seed=0)
    assert not np.isnan(whole["x1"]).any()
    assert (np.isnan(blocks["x1"]).all(axis=(1, 2)) == ~present["x1"]).all()
    assert ([text is None for text in blocks["x2"]] == ~present["x2"]).all()
    assert (blocks["x1"][present["x1"]] == whole["x1"][present["x1"]]).all()
    for mask in present.values():
        assert abs(mask.mean() - 0.7) < 0.03
    both = (present["x1"] & present["x2"]).mean()
    assert abs(both - 0.49) < 0.03
    with pytest.raises(SettingsError, match="rate"):
        drop_modalities(whole, 1)


COMMAND = ["--classes", "3", "--alpha", "1", "0.5", "--beta", "1"]


def test_the_command_prints_the_exact_values(capsys):
    options = ["--prior", "0.6", "0.3", "0.1", "--copy", "0.2", "--pairs", "x1", "x2", "--exact"]
    main([*COMMAND, *options])
    dial = Dial(3, (1, 0.5), 1, prior=(0.6, 0.3, 0.1), copy=0.2, pairs=("x1", "x2"))
    printed = json.loads(capsys.readouterr().out)
    assert printed == dial.exact() and list(printed) == list(EXACT)


def test_more_examples_than_memory_holds_are_refused(tmp_path, monkeypatch):
    def too_many(*_):
        raise MemoryError

    monkeypatch.setattr("i2m2.dial.__main__.save", too_many)
    words = ["--classes", "2", "--alpha", "1", "1", "--beta", "1", "--n", "99999999999"]
    with pytest.raises(SettingsError, match="--n 99999999999: so many .* memory .*; give fewer"):
        main([*words, "--out", str(tmp_path / "x.npz")])


def test_the_command_writes_data_that_need_no_pickle(tmp_path, capsys):
    out = tmp_path / "new/data.npz"
    options = ["--out", str(out), "--n", "400", "--seed", "7", "--missing", "0.25"]
    main([*COMMAND, *options, "--render", "picture", "words"])
    assert "400 examples" in capsys.readouterr().out
    assert sorted(path.name for path in out.parent.iterdir()) == ["data.json", "data.npz"]
    dial = Dial(3, (1, 0.5), 1)
    data = dial.sample(400, seed=7)
    with np.load(out, allow_pickle=False) as arrays:
        assert sorted(arrays) == ["x1", "x2", "y"]
        assert (arrays["y"] == data.y).all()
        gone = np.isnan(arrays["x1"]).any(axis=(1, 2)).mean(), (arrays["x2"] == "").mean()
        told = arrays["x2"] != ""
        assert (arrays["x2"][told] == templates("words", 3)[data.symbols["x2"]][told]).all()
    assert all(0.15 < rate < 0.35 for rate in gone)
    facts = json.loads(out.with_suffix(".json").read_text())
    assert facts["exact"] == dial.exact() and facts["n"] == 400 and facts["seed"] == 7
    assert Dial(**facts["dial"]) == dial
    assert facts["render"] == {"x1": "picture", "x2": "words"} and facts["missing"] == 0.25


@pytest.mark.parametrize(
    "changes, words",
    [
        ("", "nothing to do"),
        ("--classes 1 --exact", "classes is 1"),
        ("--alpha 1 --exact", "alpha has 1 value"),
        ("--alpha 1 -1 --exact", "alpha is -1"),
        ("--alpha 1 inf --exact", "alpha is inf"),
        ("--beta nan --exact", "beta is nan"),
        ("--beta -2 --exact", "beta is -2"),
        ("--beta much --exact", "invalid float value"),
        ("--prior 0.5 0.5 --exact", "2 values for 3 classes"),
        ("--prior 0.5 0.4 0.3 --exact", "sums to 1.2"),
        ("--prior 1.5 -0.5 0 --exact", "above 0"),
        ("--prior nan nan nan --exact", "above 0"),
        ("--copy 1.5 --exact", "copy is 1.5"),
        ("--copy nan --exact", "copy is nan"),
        ("--pairs x1 x7 --exact", "pairs names x7; the modalities are x1, x2"),
        ("--pairs x1 --exact", "at least two"),
        ("--pairs x1 x1 --exact", "each once"),
        ("--out {}.npz", "belong together"),
        ("--exact --n 10", "belong together"),
        ("--out {}.npz --n 0", "n is 0"),
        ("--out {}.npz --n 5 --seed -1", "seed is -1"),
        ("--out {}.npz --n 5 --missing 1.2", "missing is 1.2"),
        ("--out {}.npz --n 5 --render smell", "invalid choice: 'smell'"),
        ("--out {}.npz --n 5 --render onehot words onehot", "3 kinds for 2 modalities"),
        ("--out {}.csv --n 5", "ends in .npz"),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(tmp_path, changes, words):
    with pytest.raises(SettingsError, match=words) as error:
        main([*COMMAND, *changes.format(tmp_path / "data").split()])
    assert "\n" not in str(error.value) and error.value.exit_code == 2
    assert not list(tmp_path.iterdir())
