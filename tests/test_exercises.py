"""Part 5: blanks run, checkers accept the solutions and refuse wrong answers with a word."""

import re

import pytest

from notebook_runner import read, text_of

CELLS = {cell.id: cell for cell in read().cells}
NUMBERS = range(1, 9)
# The cells that make what the checkers look at.
SETS_UP = "data-make data-split normalize train-run slow-gradient gradient-compare answer-lstsq many-features"

# Other right answers; a tuple is a list of changes to the worked solution: from, to, ...
RIGHT = [(number, ()) for number in NUMBERS] + [
    (1, "share_left = 0.0001"),
    (1, "share_left = (1 - 2 * 0.3) ** 10"),
    (2, "limit = stable_limit(3 * (np.arange(160.0) - 79.5)[:, None] / 46.187)"),
    (3, "fixed_step = tf.function(train_step, autograph=False)"),
    (6, ("X.std(axis=0)", "X.std(axis=0).astype('float32')")),
]

COSTS = "tf.reduce_mean(tf.where(error > 0, 4 * error**2, error**2))"
LEAF = f"tf.stop_gradient({COSTS}) + 0 * tf.reduce_sum(y_pred)"
# Wrong answers, each with a word that must be in the refusal.
WRONG = [
    (1, "share_left = 0.16**10", "loss"),
    (1, "share_left = 0.7**10", "where is the 2"),
    (1, "share_left = 0.5", "one factor"),
    (1, "share_left = 'a tenth'", "TypeError|factor"),
    (2, "limit = 1 / 3", "square"),
    (2, "limit = 1.0", "raised FloatingPointError"),
    (2, "limit = 0.11", "1.01 of your limit"),
    (2, "limit = 0.05", "1.01 of your limit the loss falls: True"),
    (2, "limit = 0.113", "0.99 of your limit the loss falls: False"),
    (2, "limit = [1, 2]", "raised"),
    (3, "fixed_step = lambda X, y: 0", "TypeError"),
    (3, ("loss_fn(y, y_pred)", "loss_fn(y_pred, y)"), "pinball"),
    (3, ("return loss", "return loss_fn(y, model(X, *variables))"), "MSE"),
    (3, ("model(X, *variables)", "predict(X, *variables)"), "TypeError"),
    (3, ("optimizer.apply_gradients(zip(gradients, variables))", "variables[0].assign_sub(0.01 * gradients[0])"), "MSE"),
    (3, ("    return loss", "    pass"), "return the loss"),
    (4, ("y_pred - y_true", "y_true - y_pred"), "must cost 4"),
    (4, ("reduce_mean", "reduce_sum"), "must cost 4"),
    (4, ("tf.reduce_mean(", "0.25 * tf.reduce_sum("), "must cost 4"),
    (4, ("tf.reduce_mean(", "("), "one number"),
    (4, ("error**2, error**2", "tf.abs(error), tf.abs(error)"), r"\+3 must cost 36"),
    (4, ("y_pred - y_true", "np.asarray(y_pred) - np.asarray(y_true)"), "No gradients provided"),
    (4, ("error > 0", "y_pred > 0"), "-1 must cost 1"),
    (4, ("error**2", "error * tf.stop_gradient(error)"), "the tape sees part"),
    (4, (COSTS, LEAF), "the tape sees part"),
    (4, ("reduce_mean", "reduce_maen"), "raised AttributeError"),
    (5, ("2 * alpha * W", "alpha * W"), "alpha = 0.7 the gradient for W"),
    (5, ("error.mean(axis=0)", "(error.mean(axis=0) + alpha * b)"), "alpha = 0.7 the gradient for b"),
    (5, ("2 / len(X) * ", ""), "alpha = 0.0 the gradient for W"),
    (6, "quadratic = lambda t: np.hstack([t, t**2])", "mean 0, deviation 1"),
    (6, "quadratic = lambda t: t**2", "two columns"),
    (6, ("[t, t**2]", "[t, t]"), "parabola"),
    (6, ("X - X.mean(axis=0)", "X - [0, X[:, 1].mean()]"), "mean 0"),
    (6, ("/ X.std(axis=0)", "/ X.std(axis=0) * 1.3 + 0.3"), "mean 0"),
    (7, "stop_at = lambda losses, patience, min_delta: len(losses)", "must be 4, not 7"),
    (7, ("best - min_delta", "losses[t - 1] - min_delta"), r"stop_at\(\[5, 4, 4.5, .* must be 4"),
    (7, ("best - min_delta", "best"), "0.5.* must be"),
    (7, ("        if waited", "        best = min(best, loss)\n        if waited"), "2, 0.5.* must be 5"),
    (7, ("waited == patience", "waited == 4"), "must be"),
    (7, ("loss < best - min_delta", "best > loss and best - loss >= min_delta"), "3, 0.5.* must be 3"),
    (8, "def my_adam(variables, gradients, state, rate): return 1 / 0", "ZeroDivisionError"),
    (8, ("(m / (1 - 0.9**t))", "m", "v / (1 - 0.999**t)", "v"), "not Keras'"),
    (8, ("def my", "memory = {}\ndef my", "    t =", "    state = memory\n    t ="), "not Keras'"),
    (8, ('"t", 0', '"t", -1'), "Keras'|ZeroDivision"),
    (8, ("rate * ", "0.002 * "), "Keras'"),
    (8, (" + 1e-7", ""), "Keras'"),
    (8, ("1e-7", "1e-5"), "Keras'"),
    (8, ("(1 - 0.999**t)) + 1e-7", "(1 - 0.999**t) + 1e-7)"), "Keras'"),
    (8, ("state.get(i", "state.get(str(w.shape)", "state[i]", "state[str(w.shape)]"), "Keras"),
]  # fmt: skip


@pytest.fixture(scope="module")
def names(nb):
    """What the exercises find when they run: the notebook's functions, and Part 2's and 4's data."""
    names = dict(vars(nb))
    for cell_id in SETS_UP.split():
        exec(CELLS[cell_id].source, names)  # noqa: S102
    return names


def solution(number):
    """The worked solution that is folded away under an exercise."""
    folded = CELLS[f"exercise-{number}"].source.split("<details>")[1]
    return re.search(r"```python\n(.+?)\n```", folded, re.DOTALL)[1]


def attempt(names, number, answer, capsys):
    """Put `answer` where the blank of an exercise stands; return what the cell prints."""
    if isinstance(answer, tuple):
        changes, answer = answer, solution(number)
        for old, new in zip(changes[::2], changes[1::2], strict=True):
            assert old in answer
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


def test_the_mse_cannot_see_the_bug_of_exercise_3(names):
    """Part 3 says so of its five checks, which look at an MSE loop only."""
    suspect = re.search(r"```python\n(def suspect.+?)\n```", CELLS["exercise-3"].source, re.DOTALL)
    names = dict(names)
    exec(suspect[1] + "\n" + CELLS["answer-3"].source, names)  # noqa: S102
    ours, theirs = (names["steps_of"](names[f], names["mse"]) for f in ("train_step", "suspect_step"))
    assert ours == theirs


def test_every_exercise_is_tested_and_its_blank_runs():
    assert {number for number, *_ in WRONG} == set(NUMBERS)
    assert sum(cell_id.startswith("exercise-") for cell_id in CELLS) == 8
    for number in NUMBERS:
        assert text_of(CELLS[f"answer-{number}"]) == "stdout: not yet: the blank is still None\n"
