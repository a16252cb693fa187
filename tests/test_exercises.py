"""Part 5: blanks run, checkers accept what is right and refuse what is wrong with a useful word."""

import re

import numpy as np
import pytest
import tensorflow as tf

from notebook_runner import read, text_of

CELLS = {cell.id: cell for cell in read().cells}
NUMBERS = range(1, 10)
# The cells that make what the checkers look at. The three points come first.
SETS_UP = [
    *("whole-loop", "data-make", "data-split", "normalize", "train-run"),
    *("gradient-step", "answer-lstsq", "many-features", "broken-step"),
]

# Other right answers. A tuple is a list of changes to the worked solution: from, to, from, to ...
RIGHT = [(number, ()) for number in NUMBERS] + [
    (1, "share_left = 0.0001"),
    (1, "share_left = (1 - 2 * 0.3) ** 10"),
    (2, "limit = 1 / 9"),
    (2, "limit = stable_limit(3 * X_train_norm)"),
    (3, "fixed_step = train_step"),
    (3, "fixed_step = tf.function(train_step, autograph=False)"),
    (4, ("tf.where(error > 0, 4 * squared, squared)", "tf.maximum(2 * error, -error) ** 2")),
    (5, ("2 * error.mean(axis=0)", "2 * np.mean(error, keepdims=True)[0]")),
    (6, ("return (", "return np.float32(")),
    (6, ("np.hstack([t, t**2])", "tf.concat([t, t**2], axis=1)")),
    (8, ("(tf.sqrt(v_hat) + 1e-7)", "(tf.sqrt(v) + 1e-7) * np.sqrt(1 - 0.999**t)")),
    (8, ("1e-7", "1e-8")),
    (9, "def repaired_step(X, y): return train_step(X, y, [W_halves, b_halves], sgd_halves)"),
    (9, ("(len(X) + 1) // 2", "len(X) // 2")),
    (9, ("sgd_halves.apply(gradients, ", "tf.keras.optimizers.SGD(0.1).apply(gradients, ")),
]

COSTS = "tf.reduce_mean(tf.where(error > 0, 4 * squared, squared))"
LEAF = f"tf.stop_gradient({COSTS}) + 0 * tf.reduce_sum(y_pred)"
BY_MEAN = "tf.reduce_mean(squared) * (4.0 if tf.reduce_mean(error) >= 0 else 1.0)"
SWAPPED = "return ((np.hstack([t, t**2]) - mean) / std)[:, ::-1]"
OWN = "x = np.hstack([t, t**2])\n    return (x - x.mean(axis=0)) / x.std(axis=0)"
AT_LEAST = "losses[t] < best and losses[t] <= best - min_delta"
RUNNING = "        best = min(best, losses[t])\n        if waited"
# Wrong answers, each with a word that must be in the refusal.
WRONG = [
    (1, "share_left = 0.16**10", "left of the loss"),
    (1, "share_left = 0.7**10", "a factor 2"),
    (1, "share_left = 0.6**10", "multiplies the distance by 1 - 2 "),
    (1, "share_left = 0.4**9", "multiplies the distance by 1 - 2 "),
    (1, "share_left = 'a tenth'", "raised (TypeError|.*TypeError)"),
    (2, "limit = 1 / 3", "square of the feature"),
    (2, "limit = 1.0", "1% below your limit the loop diverges"),
    (2, "limit = 0.1125", "1% below your limit the loop diverges"),
    (2, "limit = 0.113", "1% below your limit the loop diverges"),
    (2, "limit = 0.109", "1% above your limit it still converges"),
    (2, "limit = 0.05", "1% above your limit it still converges"),
    (2, "limit = 0", "1% below your limit the loop diverges"),
    (2, "limit = [1, 2]", "raised"),
    (3, "fixed_step = lambda X, y: 0", "raised TypeError"),
    (3, ("loss_fn(y, y_pred)", "loss_fn(y_pred, y)"), "with the pinball loss"),
    (3, ("loss_fn(y, y_pred)", "mse(y, y_pred)"), "with the pinball loss"),
    (3, ("return loss", "return loss_fn(y, predict(X, W, b))"), "with the MSE"),
    (3, ("sgd.apply(gradients, variables)", "W.assign_sub(0.01 * gradients[0])"), "with the MSE"),
    (3, ("    return loss", "    pass"), "does not return the loss"),
    (3, ("    with", "    X, y = X_train_norm[:3], y_train[:3]\n    with"), "with the MSE"),
    (4, ("y_pred - y_true", "y_true - y_pred"), r"off by \+1 must cost 4, not 1"),
    (4, ("reduce_mean", "reduce_sum"), r"must cost 4, not 12"),
    (4, ("tf.reduce_mean(", "("), r"one number, and yours is \(3, 1\)"),
    (4, ("tf.reduce_mean(", "1 / 3 * tf.reduce_sum("), "mean over the rows"),
    (4, ("tf.square(error)", "tf.abs(error)"), r"\+3 must cost 36"),
    (4, ("error > 0", "y_pred > 0"), "-1 must cost 1"),
    (4, (COSTS, BY_MEAN), "each row has its own sign"),
    (4, ("y_pred - y_true", "np.asarray(y_pred) - np.asarray(y_true)"), "No gradients provided"),
    (4, ("tf.square(error)", "error * tf.stop_gradient(error)"), "the tape sees only a part"),
    (4, (COSTS, LEAF), "the tape sees only a part"),
    (4, ("reduce_mean", "reduce_maen"), "raised AttributeError"),
    (5, ("error = X @ W + b - y", "error = X @ W - y"), "the gradient for W is off"),
    (5, ("2 * alpha * W", "alpha * W"), "alpha = 0.7 the gradient for W is off by"),
    (5, ("error.mean(axis=0)", "error.mean(axis=0) + alpha * b"), "alpha = 0.7 the gradient for b"),
    (5, ("2 / len(X) * ", ""), "alpha = 0.0 the gradient for W"),
    (5, ("error.mean(axis=0)", "error.mean()"), r"gradient for b has shape \(\)"),
    (5, ("return dW, db", "return dW"), "raised ValueError"),
    (6, ("return (np.hstack([t, t**2]) - mean) / std", OWN), "use the training rows' mean"),
    (6, ("]) - mean", "]) - np.hstack([t, t**2]).mean(axis=0)"), "use the training rows' mean"),
    (6, ("/ std", "/ np.hstack([t, t**2]).std(axis=0)"), "use the mean and std that are given"),
    (6, "quadratic = lambda t, mean, std: np.hstack([t, t**2])", "mean 0 and deviation 1"),
    (6, "quadratic = lambda t, mean, std: (t**2 - mean[1]) / std[1]", "two columns"),
    (6, "quadratic = lambda t: t", "raised TypeError"),
    (6, ("[t, t**2]", "[t**2, t]"), "mean 0 and deviation 1"),
    (6, ("return (np.hstack([t, t**2]) - mean) / std", SWAPPED), "wrong at t = 3"),
    (6, ("(np.hstack([t, t**2]) - mean) / std", "np.hstack([t, t]) / std[0]"), "parabola"),
    (6, ("hstack([t, t**2]) - mean", "hstack([t, t**2]) - mean * [0, 1]"), "wrong at t = 3"),
    (6, ("t**2]", "(t - mean[0])**2]"), "wrong at t = 3"),
    (7, "stop_at = lambda losses, patience, min_delta: len(losses)", "must be 4, and yours is 7"),
    (7, ("best - min_delta", "losses[t - 1] - min_delta"), r"stop_at\(\[5, 4, 4.5, .* must be 4"),
    (7, ("best - min_delta", "best"), "0.5.* must be"),
    (7, ("        if waited", RUNNING), "2, 0.5.* must be 5"),
    (7, ("waited == patience", "waited == 4"), "must be"),
    (7, ("losses[t] < best - min_delta", AT_LEAST), "3, 0.5.* must be 3"),
    (7, ("            return t\n", "            break\n"), "must be 4"),
    (8, "def my_adam(variables, gradients, state, rate): return 1 / 0", "raised ZeroDivisionError"),
    (8, ("m / (1 - 0.9**t)", "m", "v / (1 - 0.999**t)", "v"), "Keras has"),
    (8, ("def", "own = {}\ndef", "    t =", "    state = own\n    t ="), "state is still empty"),
    (8, ("def", "own = {}\ndef", "state.get(i", "own.get(i", "state[i]", "own[i]"), "Keras has"),
    (8, ("variables[i].assign_sub(", "variables[i] = tf.Variable(variables[i] - "), "assign_sub"),
    (8, ("0.001 * g**2", "0.001 * tf.reduce_mean(g**2)"), "Keras has"),
    (8, ("g = gradients[i]", "g = float(gradients[i])"), "raised|Keras has"),
    (8, ("0.999", "0.995"), "Keras has"),
    (8, ("0.999", "0.9999"), "Keras has"),
    (8, ('"t", 0', '"t", -1'), "Keras has|raised ZeroDivision"),
    (8, ("rate * ", "0.002 * "), "Keras has"),
    (8, (" + 1e-7", ""), "Keras has"),
    (8, ("1e-7", "1e-5"), "Keras has"),
    (8, ("tf.sqrt(v_hat) + 1e-7", "tf.sqrt(v_hat + 1e-7)"), "Keras has"),
    (8, ("        state[i] = (m, v)\n", ""), "Keras has"),
    (8, ("state.get(i,", 'state.get("all",', "state[i]", 'state["all"]'), "Keras has"),
    (8, ("get(i,", "get(id(variables[i]),", "state[i]", "state[id(variables[i])]"), "Keras has"),
    (9, ("share * upper + (1 - share) * lower", "(upper + lower) / 2"), "examine answers NO to"),
    (9, ("half / len(X)", "2 / 3"), "on five rows W moves to another value|examine answers NO to"),
    (9, ("half / len(X)", "half"), "examine answers NO to"),
    (9, ("    sgd_halves", "    [g * 2 for g in gradients]\n    # sgd"), "examine answers NO to"),
    (9, ("    return", "    b_halves.assign([0.0])\n    return"), "examine answers NO to"),
    (9, ("    sgd_halves", "    tf.keras.optimizers.SGD(0.05)"), "examine answers NO to"),
    (9, ("    return loss", "    pass"), "examine answers NO to"),
    (9, "repaired_step = train_step", "examine answers NO to|raised TypeError"),
]


@pytest.fixture(scope="module")
def names(nb):
    """What the exercises find: the notebook's functions, and the data of Parts 1, 2 and 4."""
    names = dict(vars(nb))
    for cell_id in SETS_UP:
        exec(CELLS[cell_id].source, names)  # noqa: S102
    return names


def solution(number):
    """The worked solution that is folded under an exercise."""
    question = CELLS["broken-question" if number == 9 else f"exercise-{number}"].source
    folded = question.split("<details>")[1]
    return re.search(r"```python\n(.+?)\n```", folded, re.DOTALL)[1]


def attempt(names, number, answer, capsys):
    """Put `answer` where the blank of an exercise stands. Return what the cell prints."""
    if isinstance(answer, tuple):
        changes, answer = answer, solution(number)
        for old, new in zip(changes[::2], changes[1::2], strict=True):
            assert old in answer, f"{old!r} is not in the solution"
            answer = answer.replace(old, new)
    cell = CELLS[f"answer-{number}"].source
    before, blank, rest = re.split(r"^(\w+ = None  # .+)$", cell, flags=re.MULTILINE)
    assert blank
    capsys.readouterr()
    exec(before + answer + rest, dict(names))  # noqa: S102
    return capsys.readouterr().out


@pytest.mark.parametrize(("number", "answer"), RIGHT)
def test_solution_and_other_right_answers_are_accepted(names, number, answer, capsys):
    assert attempt(names, number, answer, capsys) == "right\n"


@pytest.mark.parametrize(("number", "answer", "words"), WRONG)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_wrong_answer_is_refused_with_a_useful_word(names, number, answer, words, capsys):
    said = attempt(names, number, answer, capsys)
    assert said.startswith("not yet: ")
    assert re.search(words, " ".join(said.split())), said


def test_judge_reports_the_first_line_of_whatever_an_answer_raises(names, capsys):
    def check(answer):
        raise answer

    for error, words in [
        (KeyError(), "not yet: it raised KeyError:\n"),
        (RuntimeError("one\ntwo"), "not yet: it raised RuntimeError: one\n"),
        (AssertionError("b is wrong"), "not yet: b is wrong\n"),
    ]:
        names["judge"](error, check)
        assert capsys.readouterr().out == words


def test_exercise_3_the_mse_cannot_see_the_bug(names):
    question = CELLS["exercise-3"].source
    suspect = re.search(r"```python\n(def suspect.+?)\n```", question, re.DOTALL)[1]
    names = dict(names)
    exec(suspect + "\n" + CELLS["answer-3"].source, names)  # noqa: S102
    ours, suspects = (
        {loss: names["three_updates"](names[step], names[loss]) for loss in ("mse", "pinball")}
        for step in ("train_step", "suspect_step")
    )
    assert np.array_equal(ours["mse"], suspects["mse"])
    assert not np.allclose(ours["pinball"], suspects["pinball"])


def test_exercise_6_positive_times_need_many_more_updates(names):
    def updates(t):
        """How many updates leave a ten thousandth of the distance in the slowest direction?"""
        columns = np.hstack([t, t**2])
        X = (columns - columns.mean(axis=0)) / columns.std(axis=0)
        slowest = np.linalg.eigvalsh(2 / len(X) * X.T @ X)[0]
        return np.log(1e-4) / np.log(1 - 0.1 * slowest)

    t = np.linspace(-2, 2, 41).reshape(-1, 1)
    assert updates(t + 2) > 10 * updates(t)


def test_exercise_8_the_two_forms_of_adam_differ_by_a_third_of_a_per_cent(names):
    names = dict(names)
    exec(solution(8), names)  # noqa: S102
    known = tf.keras.optimizers.Adam(0.004)
    theirs, ours, state = tf.Variable(0.0), tf.Variable(0.0), {}
    for g in (0.0, 0.0, 0.001, -0.001):
        known.apply([tf.constant(g)], [theirs])
        names["my_adam"]([ours], [tf.constant(g)], state, 0.004)
        if g:
            assert 0.0025 < abs(ours.numpy() / theirs.numpy() - 1) < 0.0035


def test_exercise_9_the_broken_step_ends_at_another_line_with_an_impossible_loss(names):
    """Its line is that of least squares with the weights ¼, ¼, ½; `examine` says NO."""
    x, y = np.array([-1.0, 0, 1]), np.array([2.0, 1, 6])
    weights = np.sqrt([0.25, 0.25, 0.5])
    line = np.polyfit(x, y, 1, w=weights)
    loss = np.sum((weights * (np.polyval(line, x) - y)) ** 2)
    printed = text_of(CELLS["broken-step"])
    assert f"W = {line[0]:.4f}, b = {line[1]:.4f}" in printed
    assert f"loss after 100 updates: {loss:.4f}" in printed
    assert f"{loss:.2f}" in CELLS["broken-examine-note"].source
    losses = [float(words) for words in re.findall(r"updates: (\S+)", printed)]
    assert losses == sorted(losses, reverse=True)
    least = np.mean((np.polyval(np.polyfit(x, y, 1), x) - y) ** 2)
    assert np.isclose(least, 2) and loss < least
    assert "NO" in text_of(CELLS["broken-examine"])


def test_exercise_9_the_solution_says_which_questions_are_answered_no(names, capsys):
    """The gradient of the broken step is right; the order and the number of rows matter."""
    names["W_halves"].assign([[0.5]])
    names["b_halves"].assign([-1.0])
    variables = [names["W_halves"], names["b_halves"]]
    three_points = names["X"], names["y"]
    noes = names["examine"](names["step_in_halves"], variables, *three_points, learning_rate=0.1)
    capsys.readouterr()
    assert 1 <= len(noes) <= 2, noes
    assert all(re.search("order|twice|mean|rows", question) for question in noes), noes


def test_the_loop_of_the_summary_is_that_of_train(names):
    loop = re.search(r"```python\n(.+?)\n```", CELLS["summary"].source, re.DOTALL)[1]
    names = dict(names)
    names["epochs"] = 100
    names["variables"] = [tf.Variable([[0.0]]), tf.Variable([0.0])]
    names["optimizer"] = tf.keras.optimizers.SGD(0.1)
    exec(loop, names)  # noqa: S102
    assert np.allclose(names["W"], 2, atol=1e-4) and np.allclose(names["b"], 3, atol=1e-4)


def test_every_exercise_is_tested_and_its_blank_runs():
    assert {number for number, *_ in WRONG} == set(NUMBERS)
    assert sum(cell_id.startswith("exercise-") for cell_id in CELLS) == len(NUMBERS)
    for number in NUMBERS:
        assert CELLS[f"exercise-{number}"].source.startswith(f"#### {number}. ")
        assert text_of(CELLS[f"answer-{number}"]) == "stdout: not yet: the blank is still None\n"
        assert max(map(len, solution(number).splitlines())) <= 84
