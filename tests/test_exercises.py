"""Part 5: blanks run, checkers accept the solutions and refuse wrong answers with a word."""

import re

import pytest

from notebook_runner import read, text_of

NOTEBOOK = read()
CELLS = {cell.id: cell for cell in NOTEBOOK.cells}
NUMBERS = range(1, 9)
# The cells that make what the checkers look at.
SETS_UP = ["data-make", "data-split", "normalize", "train-run", "slow-gradient"]
SETS_UP += ["gradient-compare", "answer-lstsq", "many-features"]

ADAM = """def my_adam(variables, gradients, state, rate):
    t = state["t"] = state.get("t", 0) + 1
    for i, (w, g) in enumerate(zip(variables, gradients)):
        m, v = state.get(i, (0.0, 0.0))
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        w.assign_sub(rate * (m / (1 - 0.9**t)) / (tf.sqrt(v / (1 - 0.999**t)) + 1e-7))
        state[i] = (m, v)"""

# other right answers than the worked solutions
RIGHT = [
    (1, "share_left = 0.0001"),
    (1, "share_left = (1 - 2 * 0.3) ** 10"),
    (2, "limit = stable_limit(3 * (np.arange(160.0) - 79.5)[:, None] / 46.187)"),
    (
        6,
        """def quadratic(t):
    X = np.hstack([t, t**2])
    return ((X - X.mean(axis=0)) / X.std(axis=0)).astype("float32")""",
    ),
    (8, ADAM),
    (3, "fixed_step = tf.function(train_step, autograph=False)"),
]

# exercise: wrong answers, each with a word that must be in the refusal
WRONG = {
    1: {
        "share_left = 0.16**10": "loss",
        "share_left = 0.7**10": "where is the 2",
        "share_left = 0.5": "one factor",
        "share_left = 'a tenth'": "TypeError|factor",
    },
    2: {
        "limit = 1 / 3": "square",
        "limit = 1.0": "raised FloatingPointError",
        "limit = 0.11": "1.01 of your limit",
        "limit = 0.05": "1.01 of your limit the loss falls: True",
        "limit = 0.113": "0.99 of your limit the loss falls: False",
        "limit = [1, 2]": "raised",
    },
    3: {
        """def fixed_step(X, y, variables, optimizer, loss_fn=mse, model=predict):
    with tf.GradientTape() as tape:
        loss = loss_fn(model(X, *variables), y)
    optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables))
    return loss""": "pinball",
        """def fixed_step(X, y, variables, optimizer, loss_fn=mse, model=predict):
    train_step(X, y, variables, optimizer, loss_fn, model)
    return loss_fn(y, model(X, *variables))""": "MSE",
        """def fixed_step(X, y, variables, optimizer, loss_fn=mse, model=predict):
    return train_step(X, y, variables, optimizer, loss_fn)""": "TypeError",
        "fixed_step = lambda X, y: 0": "TypeError",
        """def fixed_step(X, y, variables, optimizer, loss_fn=mse, model=predict):
    with tf.GradientTape() as tape:
        loss = loss_fn(y, model(X, *variables))
    for v, g in zip(variables, tape.gradient(loss, variables)):
        v.assign_sub(0.01 * g)
    return loss""": "MSE",
        """def fixed_step(X, y, variables, optimizer, loss_fn=mse, model=predict):
    train_step(X, y, variables, optimizer, loss_fn, model)""": "return the loss",
    },
    4: {
        """def lopsided(y_true, y_pred):
    error = y_true - y_pred
    return tf.reduce_mean(tf.where(error > 0, 4.0, 1.0) * error**2)""": "must cost 4",
        """def lopsided(y_true, y_pred):
    error = y_pred - y_true
    return tf.reduce_sum(tf.where(error > 0, 4.0, 1.0) * error**2)""": "must cost 4",
        """def lopsided(y_true, y_pred):
    error = y_pred - y_true
    return tf.reduce_mean(tf.where(error > 0, 4.0, 1.0) * tf.abs(error))""": "\\+3 must cost 36",
        """def lopsided(y_true, y_pred):
    error = np.asarray(y_pred) - np.asarray(y_true)
    return tf.constant(np.mean(np.where(error > 0, 4.0, 1.0) * error**2))""": "No gradients provided",
        """def lopsided(y_true, y_pred):
    error = y_pred - y_true
    return tf.reduce_mean(tf.where(y_pred > 0, 4.0, 1.0) * error**2)""": "-1 must cost 1",
        """def lopsided(y_true, y_pred):
    error = y_pred - y_true
    return tf.where(error > 0, 4.0, 1.0) * error**2""": "one number",
        """def lopsided(y_true, y_pred):
    error = y_pred - y_true
    return tf.reduce_sum(tf.where(error > 0, 4.0, 1.0) * error**2) / 4""": "must cost 4",
        """def lopsided(y_true, y_pred):
    error = y_pred - y_true
    cut = tf.stop_gradient(error)
    return tf.reduce_mean(tf.where(error > 0, 4.0, 1.0) * error * cut)""": "the tape sees part",
        """def lopsided(y_true, y_pred):
    error = y_pred - y_true
    cost = tf.reduce_mean(tf.where(error > 0, 4.0, 1.0) * error**2)
    return tf.stop_gradient(cost) + 0 * tf.reduce_sum(y_pred)""": "the tape sees part",
        "lopsided = lambda y_true, y_pred: tf.reduce_maen(y_true)": "raised AttributeError",
    },
    5: {
        """def ridge_gradient(X, y, W, b, alpha):
    error = X @ W + b - y
    return 2 / len(X) * X.T @ error + alpha * W, 2 * error.mean(axis=0)""": "alpha = 0.7 the gradient for W",
        """def ridge_gradient(X, y, W, b, alpha):
    error = X @ W + b - y
    dW = 2 / len(X) * X.T @ error + 2 * alpha * W
    return dW, 2 * error.mean(axis=0) + 2 * alpha * b""": "alpha = 0.7 the gradient for b",
        """def ridge_gradient(X, y, W, b, alpha):
    error = X @ W + b - y
    return X.T @ error, error.mean(axis=0)""": "alpha = 0.0 the gradient for W",
    },
    6: {
        "quadratic = lambda t: np.hstack([t, t**2])": "mean 0, deviation 1",
        "quadratic = lambda t: t**2": "two columns",
        """def quadratic(t):
    return np.hstack([(t - t.mean()) / t.std()] * 2)""": "parabola",
        """def quadratic(t):
    square = t**2
    return np.hstack([t / t.std(), (square - square.mean()) / square.std()])""": "mean 0",
    },
    7: {
        """def stop_at(losses, patience, min_delta):
    waited = 0
    for t in range(1, len(losses)):
        waited = 0 if losses[t] < losses[t - 1] - min_delta else waited + 1
        if waited == patience:
            return t
    return len(losses) - 1""": r"stop_at\(\[5, 4, 4.5, .* must be 4",
        """def stop_at(losses, patience, min_delta):
    return len(losses)""": "must be 4, not 7",
        """def stop_at(losses, patience, min_delta):
    best, waited = losses[0], 0
    for t, loss in enumerate(losses[1:], start=1):
        waited = 0 if loss < best else waited + 1
        best = min(best, loss)
        if waited == patience:
            return t
    return len(losses) - 1""": "0.5.* must be",
        """def stop_at(losses, patience, min_delta):
    best, waited = losses[0], 0
    for t, loss in enumerate(losses[1:], start=1):
        waited = 0 if loss < best - min_delta else waited + 1
        best = min(best, loss)
        if waited == patience:
            return t
    return len(losses) - 1""": "2, 0.5.* must be 5",
        """def stop_at(losses, patience, min_delta):
    best, waited = losses[0], 0
    for t, loss in enumerate(losses[1:], start=1):
        if loss < best - min_delta:
            best, waited = loss, 0
        else:
            waited += 1
        if waited == 4:
            return t
    return len(losses) - 1""": "must be",
        """def stop_at(losses, patience, min_delta):
    best, waited = losses[0], 0
    for t, loss in enumerate(losses[1:], start=1):
        if loss < best and best - loss >= min_delta:
            best, waited = loss, 0
        else:
            waited += 1
        if waited == patience:
            return t
    return len(losses) - 1""": "3, 0.5.* must be 3",
    },
    8: {
        """def my_adam(variables, gradients, state, rate):
    for i, (w, g) in enumerate(zip(variables, gradients)):
        m, v = state.get(i, (0.0, 0.0))
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        w.assign_sub(rate * m / (tf.sqrt(v) + 1e-7))
        state[i] = (m, v)""": "not Keras'",
        """memory = {}
def my_adam(variables, gradients, state, rate):
    t = memory["t"] = memory.get("t", 0) + 1
    for i, (w, g) in enumerate(zip(variables, gradients)):
        m, v = memory.get(i, (0.0, 0.0))
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        w.assign_sub(rate * (m / (1 - 0.9**t)) / (tf.sqrt(v / (1 - 0.999**t)) + 1e-7))
        memory[i] = (m, v)""": "not Keras'",
        "def my_adam(variables, gradients, state, rate): return 1 / 0": "ZeroDivisionError",
        ADAM.replace('state.get("t", 0) + 1', 'state.get("t", -1) + 1'): "Keras'|ZeroDivision",
        ADAM.replace("rate * ", "0.002 * "): "Keras'",
        ADAM.replace(" + 1e-7", ""): "Keras'",
        ADAM.replace("1e-7", "1e-5"): "Keras'",
        ADAM.replace("(1 - 0.999**t)) + 1e-7", "(1 - 0.999**t) + 1e-7)"): "Keras'",
        ADAM.replace("state.get(i", "state.get(str(w.shape)").replace(
            "state[i]", "state[str(w.shape)]"
        ): "Keras",
    },
}


@pytest.fixture(scope="module")
def names(nb):
    """What the exercises find when they run: the notebook's functions, and Part 2's and 4's data."""
    names = dict(vars(nb))
    for cell_id in SETS_UP:
        exec(CELLS[cell_id].source, names)  # noqa: S102
    return names


def attempt(names, number, answer, capsys):
    """Put `answer` where the blank of an exercise stands; return what the cell prints."""
    before, blank, rest = re.split(
        r"^(\w+ = None  # .+)$", CELLS[f"answer-{number}"].source, flags=re.MULTILINE
    )
    assert blank
    capsys.readouterr()
    exec(before + answer + rest, dict(names))  # noqa: S102
    return capsys.readouterr().out


def solution(number):
    """The worked solution that is folded away under an exercise."""
    folded = CELLS[f"exercise-{number}"].source.split("<details>")[1]
    return re.search(r"```python\n(.+?)\n```", folded, re.DOTALL)[1]


@pytest.mark.parametrize("number", NUMBERS)
def test_blank_runs_as_it_stands(number):
    assert text_of(CELLS[f"answer-{number}"]) == "stdout: not attempted yet\n"


@pytest.mark.parametrize("number", NUMBERS)
def test_solution_is_accepted(names, number, capsys):
    assert attempt(names, number, solution(number), capsys) == "right\n"


@pytest.mark.parametrize(("number", "answer"), RIGHT)
def test_other_right_answers_are_accepted(names, number, answer, capsys):
    assert attempt(names, number, answer, capsys) == "right\n"


@pytest.mark.parametrize(
    ("number", "answer"),
    [(n, answer) for n, answers in WRONG.items() for answer in answers],
)
def test_wrong_answer_is_refused_with_a_useful_word(names, number, answer, capsys):
    said = attempt(names, number, answer, capsys)
    assert said.startswith("not yet: ")
    assert re.search(WRONG[number][answer], " ".join(said.split())), said


def test_the_mse_cannot_see_the_bug_of_exercise_3(names):
    """Part 3 says so of its five checks, which look at an MSE loop only."""
    suspect = re.search(r"```python\n(def suspect.+?)\n```", CELLS["exercise-3"].source, re.DOTALL)
    names = dict(names)
    exec(suspect[1] + "\n" + CELLS["answer-3"].source, names)  # noqa: S102
    steps_of, mse = names["steps_of"], names["mse"]
    ours, theirs = (steps_of(names[f], mse) for f in ("train_step", "suspect_step"))
    assert ours == theirs


def test_every_exercise_is_tested():
    assert set(WRONG) == set(NUMBERS)
    assert all(len(answers) >= 2 for answers in WRONG.values())
    assert sum(cell.id.startswith("exercise-") for cell in NOTEBOOK.cells) == 8


def test_every_question_of_the_index_leads_to_a_section_with_a_run_cell():
    rows = re.findall(r"^\|.+\|.+\|$", CELLS["index"].source, re.MULTILINE)[2:]
    assert len(rows) >= 40
    with_code, section = set(), None
    for cell in NOTEBOOK.cells:
        titles = re.findall(r"^#+ (.+)$", cell.source, re.MULTILINE)
        if cell.cell_type == "markdown" and titles:
            section = titles[-1].replace(" ", "-")
        elif cell.cell_type == "code" and cell.outputs:
            with_code.add(section)
    for row in rows:
        targets = re.findall(r"\]\(#([^)]+)\)", row)
        assert targets and set(targets) <= with_code, row
