"""What Parts 2 and 3 print is what theory and the installed TensorFlow say."""

import re

import numpy as np
import pytest

from notebook_runner import text_of
from test_functions import normalized

# cell: what it must print, as regular expressions, on every supported TensorFlow
PRINTED = {
    "slow-gradient": [r"loss 13\.66667; with W at 0\.001 13\.66333\n", r"dW: tape (-3\.3333), formula \1", r"db: tape (-6\.0000), formula \1"],
    "new-x": [r"normalized: y = 134\.0\n.* raw: +y = 3847\.6"],
    "answer-keras": [r"1 +25659\.0 +25659\.0 +16459\.8\n", r"21 +(\S+) +\1 +107\.9\naccuracy 0\.0, R² 0\.981"],
    "answer-evaluate": [r"5 batches: fit reports 12809, evaluate 2817"],
    "rate-hessian": [r"0\.479, 7,406, limit 2\.701e-04", r"limit 1\.000"],
    "rate-edges-run": [r"0\.99 .*-> 1\d\d\n", r"1\.01 .*-> \d\.\d+e\+06"],
    "normalize-raw": [r"300 updates: W = 2\.621, b = 0\.365\nleast squares: +W = 2\.489, b = 9\.566",
        r"39,555 updates; condition number 15,462"],
    "convert-back-run": [r"y = 2\.4890 x \+ 9\.5660, as in"],
    "fail-outside": [r"gradients: \[None, None\]\nValueError: No gradients provided",
        "RuntimeError: A non-persistent GradientTape can only be used to compute one set"],
    "fail-constant": ["tensor: None, integer variable: None", r"watched tensor: (\[\[-148\.\d+\]\]), variable: \1"],
    "fail-rebind": [r"step 1: ResourceVariable, gradient \[\[-148\.\d+\]\]",
        "step 2: EagerTensor, gradient None\nTypeError: unsupp.*\nRuntimeError:.*variable -="],
    "fail-numpy": ["AttributeError: .*_id", r"loss 25659\.0 is right; .* None"],
    "fail-raw": [r"losses: 3e\+04 1e\+10 8e\+15 4e\+21 2e\+27 1e\+33 inf .*nan"],
    "fail-sum": ["5 rows.* ends at 37", "FloatingPointError: the loss is inf after 11", "mean. True"],
    "fail-constant-feature": [r"first loss: nan\nValueError: x is constant \(7\)", "y, row 1: nan"],
    "fail-float": ["float32 without", r"(InvalidArgumentError: (.|\n)*double\s.*float(.|\n)*){2}"],
    "fail-optimizer": [r"run 1 .* 25659\nrun 2 .* 16460\n(KeyError|ValueError): .*[Uu]nknown variable",
        r"seeded once: (\S+) (?!\1)(\S+)\nseeded again: \1 \2\n"],
    "fail-pairs": ["TypeError:", "AttributeError: .*_unique_id", "moved by 28.33.*have moved by 14.82"],
    "fail-names": [r"(.*(AttributeError|ValueError): .+\n){8}"],
    "fail-shapes": [r"\(160, 160\)",
        r"-> 5599, var\(y\) 5599\nW 0\.000, b (141\.63), mean\(y\) \1\nValueError: y_true"],
    "fail-comma": [r"losses: 800\.000 512\.000 .* 0\.000\nW and b: 0\.00000 0\.00000"],
    "fail-sign": [r"_sub: loss 106", r"_add.*e\+13", r"n: loss 1\.79e.04, W 12\.4, b 23\.6"],
    "fail-test-stats": [r"training.* 8\.\d", r"its own.* 10\d\."],
    "fail-keras-run": [r"0 trainable.*25659\.0 25659\.0 25659\.0 .*not have any trainable weights",
        r"1 trainable.* 23681\.0"],
    "fail-early": [r"loss -0\.5%\nd loss/db -4\.8; W 72\.870, Part 1 74\.120"],
    "huber-figure": [r"MSE +y = 2\.4. x \+ 2", r"Huber +y = 2\.4. x \+ 10"],
    "noise-repeat": [r"99\.\d+, theory 100\.00", r"98\.\d+, theory 98\.75", "slopes 0.025.*0265", "1.5.*1.6153"],
    "noise-part-1": [r"slope +2\.4890 ± 0\.0265, planted 2\.5\nintercept 9\.5660 ± 1\.6153"],
    "pinball-figure": [r"0\.1: .* 10% of tr", r"0\.5: .* 50%", r"0\.9: .* 90%", r"swapped: below it 90%"],
    "batches-count": [r"1: 160 .* 1\n.*32: +5 .*32\n.*50: +4 .*10\n.*160: +1 .*160\n",
        r"mean of batches 1(?!05).*, weighted (105\.690), all rows \1"],
    "batches-sorted": [r"sorted.* [23]\d\d\d%", r"shuffled +\d+% above"],
    "batches-run": [r"1 row +2\d\.\d%", r"0\.03 +5\.\d%", r"32 rows +0\.\d%", r"all rows +0\.0%",
        r"decaying rate +\d\.\d% above"],
    "accumulate": [r"(W = 0\.000, ){4}W = (14\.824), by hand \2, all rows at once \2"],
    "clip": [r"first step 0\.100 long, loss at last from 12\d to 14\d, W = 2\.\d+, b = 0\.3\d of 9\.57"],
    "penalize": [r"b is held: \[74\.12\] expected 74\.120",
        r"α = 0\.5: \[ 49\.413 141\.632\] W\* / 1\.5 is 49\.413"],
    "layer-penalty": [r"\[ 74\.12  141\.632\]\n.*\[ 49\.413 141\.632\]"],
    "watched": [r"319\.71, norm nan, norm 255\.77, W = (26\.683);.* \1"],
    "early-stopping": [r"after 32: 99\.24; best 99\.18 after 27, W = 73\.94", r"wrong.* after 6: .* after 1, W = 14\.82"],
    "resume-run": [r"10 \+ 10: .*True", "W and b only: .*False"],
    "saved-model": [r"callable: False - x = 50: \[\[134\.0"],
    "same-answer": [r"(.* rows: 1\.1677\n){6}"],
    "retracing": ["traced traced traced in 3 calls: Python", "\ntraced in 3 calls: tensors",
        "\ntraced traced in 4 calls: batches", "traced traced traced in 3 calls: a new"],
    "frozen": [r"0 now: 3 times it is 6\.0\n.*\.lr = 0\.0 the rate is 0\.1\n.*rate = 0\.0 it is 0\.0\n",
        "only supports singleton tf.Variables created on the first call"],
    "compiled-run": [r"25659\.00 \d+\.\d\d \d+\.\d\d 10[56]\.\d\d"],
    "many-features": [r"shape \(20, 1\), b = (3\.9|4\.0)", "up to 0.04"],
    "mlp-figure": [r"line: RMSE 0\.[67]", r"MLP: RMSE 0\.(19|2)"],
    "machines-say": [r"one device: (W = 74\.119, b = 141\.63)\n",
        r"worker 0: 80 rows, global_mse at 0\.1, W = 74\.119, b = 141\.63\n",
        r"worker 1: 80 rows, global_mse at 0\.1, W = 74\.119, b = 141\.63\n",
        r"(80 rows, mse at 0\.6, W = -1\.50\d+e\+09, (.|\n)*){2}"],
    "keras-own-fit": [r"val_loss (\S+), by hand \1"],
}  # fmt: skip


@pytest.mark.parametrize("cell_id", PRINTED)
def test_cell_prints_what_the_text_claims(committed, cell_id):
    """Of the committed outputs; test_execution compares these with those of a fresh run."""
    (cell,) = [c for c in committed.cells if c.id == cell_id]
    for pattern in PRINTED[cell_id]:
        assert re.search(pattern, text_of(cell)), pattern


def test_an_old_failure_that_is_cured_is_noticed(nb):
    with pytest.raises(AssertionError, match="no longer does"):
        nb.caught(lambda: None)


def test_bug_table_counts_are_those_of_the_prose(committed):
    (cell,) = [c for c in committed.cells if c.id == "bug-figure"]
    counts = "{'loss falls': 11, 'first step': 8, 'answer': 1, 'path': 3, 'shapes': 12}"
    assert f"13 bugs; missed by: {counts}" in text_of(cell)
    (prose,) = [c.source for c in committed.cells if c.id == "bug-reading"]
    assert prose.startswith("In eleven of thirteen runs the loss falls; of the ten bugs in the loop itself, in eight.")


def test_gradient_routes(nb):
    X, y = normalized(k=3)
    W, b = nb.init_variables(3, "float64")
    W.assign([[1.0], [-2.0], [0.5]])
    b.assign([4.0])
    error = X @ W.numpy() + 4 - y
    expected = [2 / len(X) * X.T @ error, [2 * error.mean()]]
    by_tape, by_differences = nb.gradient_routes(X, y, [W, b])
    for routes, rtol in [(by_tape, 1e-12), (by_differences, 1e-7)]:
        for ours, theory in zip(routes, expected, strict=True):
            np.testing.assert_allclose(ours, np.reshape(theory, ours.shape), rtol=rtol)
    assert W.numpy().tolist() == [[1.0], [-2.0], [0.5]]


@pytest.mark.parametrize("rate", [0.01, 0.1, 0.5, 0.9, 1.0, 1.05])
@pytest.mark.parametrize(("dtype", "rtol"), [("float64", 1e-5), ("float32", 1e-4)])
def test_the_predicted_path(nb, rate, dtype, rtol):
    X, y = normalized(dtype=dtype)
    *_, history = nb.train(X, y, epochs=30, learning_rate=rate)
    A = np.column_stack([X, np.ones(len(X))]).astype("float64")
    best = np.linalg.lstsq(A, y.ravel().astype("float64"), rcond=None)[1][0] / len(X)
    start = np.mean(y.astype("float64") ** 2)
    theory = best + (1 - 2 * rate) ** (2 * np.arange(31)) * (start - best)
    np.testing.assert_allclose(history["loss"], theory, rtol=rtol)


@pytest.mark.parametrize("k", [1, 3])
def test_the_stable_limit_separates(nb, k):
    X, y = normalized(k=k)
    X = 5 * X + np.arange(k)
    for share, falls in [(0.99, True), (1.02, False)]:
        *_, history = nb.train(X, y, epochs=400, learning_rate=share * nb.stable_limit(X))
        assert (history["loss"][-1] < history["loss"][0]) is falls


def test_some_constants_normalize_to_one_instead_of_nan():
    """What failure 7 says of rounding: a constant column that is not caught by nan."""
    with np.errstate(invalid="ignore"):
        columns = [np.full((160, 1), c, "float32") for c in (7, 0.1, 0.3, 1.1, 3.3, 100.7)]
        ratios = [((c - c.mean()) / c.std())[0, 0] for c in columns]
    assert np.isnan(ratios[0]) and any(abs(abs(ratio) - 1) < 0.01 for ratio in ratios[1:])


def test_swapped_gradients_make_the_loss_fall_first_and_then_rise_without_end():
    """As the table of symptoms says: the sum of the distances shrinks, their difference grows."""
    W_off, b_off, excess = -74.12, -141.63, []
    for _ in range(60):
        excess.append(W_off**2 + b_off**2)
        W_off, b_off = W_off - 0.2 * b_off, b_off - 0.2 * W_off
    assert 0 < np.argmin(excess) < 10 and excess[-1] > 1e6 * excess[0]
