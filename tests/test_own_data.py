"""Part 5, Your own data: `fit_line`, what it refuses, and fifteen files as they come."""

import ast
import io
import json
import pathlib
import re
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from notebook_runner import read

HERE = pathlib.Path(__file__).parent
DATA = HERE / "data"

NOTEBOOK_CELLS = read().cells
IDS = [cell.id for cell in NOTEBOOK_CELLS]
SECTION = NOTEBOOK_CELLS[IDS.index("own-data") : IDS.index("exercises")]
SOURCE = {cell.id: cell.source for cell in SECTION}

SECTION_TEXT = "\n".join(SOURCE.values())

# NIST StRD, Norris: certified values.
NORRIS_SLOPE, NORRIS_INTERCEPT = 1.00211681802045, -0.262323073774029
ANSCOMBE_X = [10, 8, 13, 9, 11, 14, 6, 4, 12, 7, 5]
ANSCOMBE_Y = [8.04, 6.95, 7.58, 8.81, 8.33, 9.96, 7.24, 4.26, 10.84, 4.82, 5.68]
Y = [2, 4, 5]


def norris():
    """x and y of NIST's Norris data set, 36 rows, float64."""
    y, x = np.loadtxt(HERE / "norris.csv", delimiter=",", skiprows=2).T
    assert len(x) == 36
    return x, y


def least_squares(x, y):
    """Slope and intercept by numpy.linalg.lstsq in float64, on an x of size 1 about 0."""
    x, y = np.ravel(x).astype("float64"), np.ravel(y).astype("float64")
    mean, size = x.mean(), np.ptp(x)
    A = np.column_stack([(x - mean) / size, np.ones(len(x))])
    rise, level = np.linalg.lstsq(A, y, rcond=None)[0]
    return rise / size, level - rise / size * mean


# ---------------------------------------------------------------- what comes out right

CASES = {
    "Anscombe": (ANSCOMBE_X, ANSCOMBE_Y),
    "Norris": norris(),
    "two points": ([1, 2], [5, 3]),
    "integers": (range(10), [3 * i - 7 for i in range(10)]),
    "large": (np.linspace(1e9, 3e9, 20), np.cos(range(20)) * 1e9 + np.linspace(0, 9e9, 20)),
    "small": (np.linspace(1e-6, 5e-6, 20), 1e-6 * np.sin(range(20))),
    "large x, small y": (np.linspace(1e9, 3e9, 20), 1e-6 * np.sin(range(20))),
    "years": (np.arange(1880, 2020), 0.01 * np.arange(140) + np.sin(np.arange(140))),
    "falling": ([3.5, 1.0, 2.25, 8.0], [-1.0, 4.0, 2.0, -9.5]),
    "float32": (np.float32([1, 2, 4, 8]), np.float32([1, 1, 2, 2])),
    "column": (np.array([[1.0], [2], [4]]), np.array([[3.0], [1], [2]])),
    "column and list": (np.array([[1.0], [2], [4]]), [3, 1, 2]),
    "tuple": ((1, 2, 4), (3.0, 1.0, 2.0)),
    "list of float32": ([1, 2, 4], [np.float32(3.0), np.float32(1.0), np.float32(2.0)]),
    "list of bytes": ([np.int8(-128), np.int8(1), np.int8(127)], [np.uint8(200), 1, 2]),
    "unsigned bytes": (np.uint8([250, 255, 10]), np.uint8([1, 255, 128])),
    "big-endian": (np.array([1, 2, 4], ">f8"), np.array([3, 1, 2], ">i4")),
    "whole numbers beyond 64 bits": ([10**20, 2 * 10**20, 5 * 10**20], Y),
    "close to the limit": ([1e37, 5e37, -9e37], [-9e37, 1e37, 3e37]),
    "milliseconds": ([1.7e12, 1.7e12 + 500, 1.7e12 + 1000], Y),
    "flat": ([1, 2, 3, 4], [5, 5, 5, 5]),
    "uncorrelated": ([-1, 0, 1], [1, -2, 1]),
    "all zero": ([1, 2, 3], [0, 0, 0]),
    "yes and no": ([True, False, True], Y),
    "table column": (pd.Series([1, 2, 4]), pd.Series([3.0, 1.0, 2.0])),
    "table of one column": (pd.DataFrame({"a": [1, 2, 4]}), pd.DataFrame({"b": Y})),
    "column of booleans": (pd.Series([True, False, True]), pd.Series(Y)),
    "nullable without a gap": (pd.Series([1, 2, 4], dtype="Int64"), pd.Series(Y)),
    "index": (pd.Index([1, 2, 4]), pd.Series(Y)),
    "list and a filtered column": ([1, 2, 4], pd.Series(Y, index=[7, 3, 9])),
    "repeated labels": (pd.Series([1, 2, 4], [0, 0, 1]), pd.Series(Y, [0, 0, 1])),
}


@pytest.mark.parametrize("name", CASES)
def test_fit_line_is_least_squares(nb, name, capsys):
    x, y = CASES[name]
    slope, intercept, history = nb.fit_line(x, y)
    best_slope, best_intercept = least_squares(x, y)
    x, y = np.ravel(x).astype("float64"), np.ravel(y).astype("float64")
    size = np.abs(y).max()
    assert slope == pytest.approx(best_slope, rel=1e-4, abs=1e-9 * size / np.ptp(x))
    assert intercept == pytest.approx(best_intercept, rel=1e-4, abs=1e-8 * size)
    assert isinstance(slope, float) and isinstance(intercept, float)
    assert list(history) == ["loss", "slope", "intercept"]
    assert [len(values) for values in history.values()] == [101, 101, 101]
    assert history["slope"][-1] == slope and history["intercept"][-1] == intercept
    assert history["loss"][0] == pytest.approx(np.var(y))
    last = np.mean((slope * x + intercept - y) ** 2)
    assert history["loss"][-1] == pytest.approx(last, rel=1e-6, abs=1e-12 * np.mean(y**2))
    assert capsys.readouterr().out == ""  # a hundred updates at 0.1 need no excuse


def test_fit_line_agrees_with_certified_norris_and_changes_nothing_it_was_given(nb):
    x, y = norris()
    slope, intercept, _ = nb.fit_line(x, y)
    assert slope == pytest.approx(NORRIS_SLOPE, rel=1e-7)
    assert intercept == pytest.approx(NORRIS_INTERCEPT, rel=1e-6)
    np.testing.assert_array_equal([x, y], norris())


@pytest.mark.parametrize("offset", [2e4, 1.7e9, 1.7e12])
def test_fit_line_is_exact_for_a_large_y(nb, offset):
    """Unix times in milliseconds, for instance: training starts at their mean, not at 0."""
    x, y = np.arange(50.0), np.cos(range(50))
    slope, intercept, history = nb.fit_line(x, offset + y)
    assert [slope, intercept - offset] == pytest.approx(np.polyfit(x, y, 1), rel=1e-4, abs=1e-3)
    assert history["intercept"][0] == pytest.approx(offset + np.mean(y))


def test_every_entry_of_the_history_is_a_line_in_the_units_of_the_data(nb):
    """After t updates 1 - 0.8^t of the way from the flat line at y's mean to the best line."""
    x, y = map(np.array, (ANSCOMBE_X, ANSCOMBE_Y))
    best_slope, _ = least_squares(x, y)
    _, _, history = nb.fit_line(x, y, epochs=12)
    for t, loss in enumerate(history["loss"]):
        slope, intercept = history["slope"][t], history["intercept"][t]
        assert slope == pytest.approx(best_slope * (1 - 0.8**t), abs=1e-7)
        assert slope * x.mean() + intercept == pytest.approx(y.mean())
        assert loss == pytest.approx(np.mean((slope * x + intercept - y) ** 2))


def test_two_columns_of_tables_are_paired_by_their_labels(nb):
    table = pd.DataFrame({"x": [1, 2, 4], "y": Y})
    backwards = table["x"].iloc[::-1]
    for x in (backwards, backwards.to_frame()):
        slope, *_ = nb.fit_line(x, table["y"])
        assert slope == pytest.approx(least_squares([1, 2, 4], Y)[0])


# ------------------------------------------------------------------- what is refused

DATES = ["2001-01-01", "2001-01-02", "2001-01-03"]
LENGTHS = "All arrays must be of the same length"
ONE_COLUMN = "must each be 1-dimensional"
VARIES = "give values that differ"

REFUSED = {  # x, y, words of the message
    "lengths": ([1, 2, 3], [2, 4], LENGTHS),
    "one point": ([1], [2], rf"x is \[1.0\]: {VARIES}"),
    "one point in arrays": (np.array([1.0]), np.array([2.0]), VARIES),
    "no point": ([], [], rf"x is \[\]: {VARIES}"),
    "nan": ([1, np.nan, 3], Y, "row 1: x=nan, y=4. Bad rows: 1. See the table of cures"),
    "None": ([1, 2, 3], [2, 4, None], "row 2: x=3, y=None"),
    "infinity": ([1, 2, np.inf], Y, "row 2: x=inf, y=5"),
    "three gaps": ([None, 2, np.nan], [2, "?", 5], r"row 0: x=None, y=2. Bad rows: 3"),
    "mask": (np.ma.array([1, 2, 3], mask=[1, 0, 0]), Y, "row 0: x=nan"),
    "bytes": (np.array([b"1", 2, 3], object), Y, "row 0: x=b'1'"),
    "huge": ([1e160, 2e160, 3e160], Y, r"row 0: x=1e\+160, y=2. Bad rows: 3"),
    "huge y": ([1, 2, 3], [1, -1e38, 1], r"row 1: x=2, y=-1e\+38"),
    "a float32 that overflowed": ([1, 2, 3], [1, np.float32(np.inf), 1], "row 1: x=2"),
    "tiny": ([1e-170, 2e-170, 3e-170], Y, VARIES),
    "constant": ([7, 7, 7], Y, rf"x is \[7.0, 7.0, 7.0\]: {VARIES}"),
    "one bit apart": ([0.3, 0.1 + 0.2, 0.3], Y, r"x is \[0.3, 0.30000000000000004, 0.3\]"),
    "constant 0.1": ([0.1, 0.1, 0.1], Y, VARIES),
    "text": (["1", "2", "3"], Y, "row 0: x='1', y=2. Bad rows: 3"),
    "a word": ([1, 2, 3], [2, "four", 5], "row 1: x=2, y='four'. Bad rows: 1"),
    "None, then text": ([1, 2, 3], [2, None, "5"], "row 1: x=2, y=None. Bad rows: 2"),
    "a string": ("123", Y, LENGTHS),
    "names for columns": ("years", "salary", "row 0: x='years', y='salary'"),
    "complex": ([1, 2, 3j], Y, "row 2: x=3j"),
    "dates": (np.array(DATES, "M8[D]"), Y, r"row 0: x=Timestamp\('2001-01-01"),
    "a dict": ({1: 2}, Y, LENGTHS),
    "ragged": ([[1, 2], [3]], [2, 4], r"row 0: x=\[1, 2\]"),
    "too long": ([1, 10**400, 3], Y, "row 1: x=1000"),
    "features": ([[1, 2], [3, 4], [5, 6]], Y, r"row 0: x=\[1, 2\]"),
    "features in an array": (np.array([[1, 2], [3, 4], [5, 6]]), Y, ONE_COLUMN),
    "features in a table": (pd.DataFrame({"a": Y, "b": Y}), Y, ONE_COLUMN),
    "a row": ([[1, 2, 3]], Y, LENGTHS),
    "numbers": (5, 6, rf"x is \[5.0\]: {VARIES}"),
    "date column": (pd.to_datetime(pd.Series(DATES)), Y, r"x=Timestamp\(.* Bad rows: 3"),
    "text column": (pd.Series(["1", "2", "3"]), Y, "row 0: x='1'.* Bad rows: 3"),
    "Decimal": (pd.Series([Decimal(1), Decimal(2), 3]), Y, r"x=Decimal\('1'\).*rows: 2"),
    "nullable gap": (pd.Series([1, None, 3], dtype="Int64"), Y, "row 1: x=<NA>, y=4"),
    "boolean gap": (pd.Series([True, None, False], dtype="boolean"), Y, "row 1: x=<NA>"),
    "label of the row": (pd.Series([1, "a", 3], [4, 6, 7]), Y, "row 6: x='a', y=4"),
    "other labels": (pd.Series([1, 2, 3], [1, 2, 3]), pd.Series(Y), "x=nan.* Bad rows: 2"),
    "two lengths": (pd.Series([1, 2, 3]), pd.Series([2, 4]), "row 2: x=3, y=nan"),
    "tables of other labels": (
        pd.DataFrame({"a": [1, 2, 3]}, [5, 6, 7]),
        pd.DataFrame({"b": Y}),
        "row 0: x=nan, y=2. Bad rows: 6",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_fit_line_refuses(nb, name):
    x, y, words = REFUSED[name]
    with pytest.raises((ValueError, TypeError), match=words):
        nb.fit_line(x, y)


def test_who_is_refused_for_a_cell_is_sent_to_the_table_of_cures(nb):
    with pytest.raises(ValueError, match="See the table of cures in 'A file of your own'"):
        nb.fit_line([1, None], [1, 2])
    assert "### A file of your own\n" in SECTION_TEXT
    assert "#### The table of cures\n" in SECTION_TEXT


# ------------------------------------------------------------------ epochs and rates

NO_EPOCHS = [0, -3, 2.5, "100", None, np.nan, [100]]
NO_RATES = [0, 0.0, -0.1, np.nan, np.inf, "0.1", None, [0.1], 0.1j, 1, 1.0, 1.1, 1e30]


@pytest.mark.parametrize("epochs", NO_EPOCHS)
def test_epochs_that_make_no_sense(nb, epochs):
    words = f"epochs={epochs!r}, learning_rate=0.1: try 100"
    with pytest.raises(ValueError, match=re.escape(words)):
        nb.fit_line([1, 2, 3], Y, epochs=epochs)


@pytest.mark.parametrize("epochs", [10**6, 10**400])
def test_epochs_that_would_never_end(nb, epochs):
    """Asked of the check alone: without it `fit_line` would train for hours."""
    nb.check_line([1, 2, 3], Y, 999_999, 0.1)
    with pytest.raises(ValueError, match=f"epochs={epochs}, learning_rate=0.1: try 100"):
        nb.check_line([1, 2, 3], Y, epochs, 0.1)


@pytest.mark.parametrize("rate", NO_RATES)
def test_rates_that_lead_nowhere(nb, rate):
    words = f"epochs=100, learning_rate={rate!r}: try 100 and 0 < rate < 1"
    with pytest.raises(ValueError, match=re.escape(words)):
        nb.fit_line([1, 2, 3], Y, learning_rate=rate)


ARRIVED = [  # no word is printed
    *[(31, 0.1), (100, 0.1), (1, 0.5), (100.0, 0.1), (1e3, 0.05), (31, 0.9)],
    *[(np.int64(100), np.float32(0.05)), (np.int32(40), np.float64(0.2))],
]
ON_THE_WAY = [  # epochs, rate, what is said
    (30, 0.1, "30 updates at rate 0.1 leave 0.1% of the distance"),
    (10, 0.1, "10 updates at rate 0.1 leave 10.7% of the distance"),
    (1, 0.1, "1 updates at rate 0.1 leave 80.0% of the distance"),
    (30, 0.9, "30 updates at rate 0.9 leave 0.1% of the distance"),
    (100, 1e-3, "100 updates at rate 0.001 leave 81.9% of the distance"),
    (100, 1e-46, "100 updates at rate 1e-46 leave 100.0% of the distance"),
    (11, 0.99, "11 updates at rate 0.99 leave 80.1% of the distance"),
    (5, 1 - 1e-10, "5 updates at rate 0.9999999999 leave 100.0% of the distance"),
]


@pytest.mark.parametrize(("epochs", "rate"), ARRIVED)
def test_fit_line_is_silent_when_it_has_arrived(nb, capsys, epochs, rate):
    slope, _, history = nb.fit_line([1, 2, 3], Y, epochs=epochs, learning_rate=rate)
    assert slope == pytest.approx(1.5, rel=1.001e-3)
    assert len(history["loss"]) == epochs + 1
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("epochs", "rate", "words"), ON_THE_WAY)
def test_fit_line_says_how_far_it_has_still_to_go(nb, capsys, epochs, rate, words):
    slope, *_ = nb.fit_line([1, 2, 3], Y, epochs=epochs, learning_rate=rate)
    assert capsys.readouterr().out == words + "\n"
    share = float(re.search(r"leave (.+)%", words)[1]) / 100
    assert abs(slope / 1.5 - 1) == pytest.approx(share, abs=0.0005 + 1e-6)


def test_it_never_says_0_per_cent(nb, capsys):
    for left in (0.3, 0.0016, 0.0014, 0.001001, 0.000999, 0):
        nb.say_how_far(1, (1 - left) / 2)
    assert re.findall(r"leave (\S+)", capsys.readouterr().out) == ["30.0%", "0.2%", "0.1%", "0.1%"]


# --------------------------------------------------------------------- fifteen files

EXPECTED = {entry["file"]: entry for entry in json.loads((DATA / "expected.json").read_text())}
NO_TEXT = "15-excel-named-csv.csv"

# At most two lines a file, written as the section writes them.
FILES = {
    "01-plain.csv": """
table = pd.read_csv(path)
""",
    "02-no-header.csv": """
table = pd.read_csv(path, header=None)
""",
    "03-semicolon-decimal-comma.csv": """
table = pd.read_csv(path, sep=";", decimal=",")
""",
    "04-tab.txt": r"""
table = pd.read_csv(path, sep="\t")
""",
    "05-comments-aligned.txt": r"""
table = pd.read_csv(path, comment="#", sep=r"\s+", names=["year", "mean", "unc"])
""",
    "06-currency-thousands.csv": r"""
table = pd.read_csv(path, usecols=["Boxes", "Amount"], thousands=",")
table = table.replace([r"\$", ","], "", regex=True).apply(pd.to_numeric)
""",
    "07-percent.csv": """
table = pd.read_csv(path)
table = table.replace("%", "", regex=True).apply(pd.to_numeric)
""",
    "08-units-in-cells.csv": """
table = pd.read_csv(path, usecols=["engine", "max_power"])
table = table.replace([" CC", " bhp"], "", regex=True).apply(pd.to_numeric).dropna()
""",
    "09-gaps.csv": """
table = pd.read_csv(path, na_values=["?", "-", "***"])
table = table.dropna()
""",
    "10-dates.csv": """
table = pd.read_csv(path, parse_dates=["Date"])
table["Date"] = (table["Date"] - table["Date"].min()).dt.total_seconds() / 86400
""",
    "11-latin-1.csv": """
table = pd.read_csv(path, encoding="latin-1")
""",
    "12-title-and-footer.csv": """
table = pd.read_csv(path, skiprows=1, skipfooter=1, engine="python")
""",
    "13-cr-only.csv": """
table = pd.read_csv(path)
""",
    "14-minus-200-for-missing.csv": """
table = pd.read_csv(path, na_values=[-200])
table = table.dropna()
""",
}
NEED_NOTHING = ("01-plain.csv", "13-cr-only.csv")
OF_THIS_FILE = ("names", "usecols")  # arguments whose values are the names in the file


def line_of(nb, lines, file):
    """Slope, intercept and rows used when `file` is read by `lines`."""
    names = {"pd": pd, "path": DATA / file}
    exec(lines, names)  # noqa: S102
    x, y = names["table"][EXPECTED[file]["x"]], names["table"][EXPECTED[file]["y"]]
    slope, intercept, _ = nb.fit_line(x, y)
    return slope, intercept, len(x)


@pytest.mark.parametrize("file", FILES)
@pytest.mark.filterwarnings("error")
def test_a_file_gives_its_line(nb, file):
    assert len(FILES[file].strip().splitlines()) <= 2
    slope, intercept, rows = line_of(nb, FILES[file], file)
    wanted = EXPECTED[file]
    assert rows == wanted["rows"]
    assert [slope, intercept] == pytest.approx([wanted["slope"], wanted["intercept"]], rel=1e-5)


@pytest.mark.parametrize("file", [file for file in FILES if file not in NEED_NOTHING])
def test_without_its_cure_the_file_is_refused_or_gives_another_line(nb, file):
    try:
        slope, _, _ = line_of(nb, "table = pd.read_csv(path)", file)
    except (ValueError, TypeError, KeyError):
        return
    assert file == "14-minus-200-for-missing.csv"  # the only one without an error
    assert slope != pytest.approx(EXPECTED[file]["slope"], rel=0.01)


def test_the_first_row_taken_for_names_gives_another_line(nb):
    table = pd.read_csv(DATA / "02-no-header.csv")
    slope, *_ = nb.fit_line(table.iloc[:, 0], table.iloc[:, 1])
    assert slope != pytest.approx(EXPECTED["02-no-header.csv"]["slope"], rel=0.001)


def test_a_file_that_is_no_text_is_refused_in_words(nb, tmp_path):
    assert set(EXPECTED) - set(FILES) == {NO_TEXT}
    workbook = tmp_path / "book.csv"  # an .xlsx file is a zip file, which begins like this
    workbook.write_bytes(b"PK\x03\x04\x14\x00\x06\x00" + bytes(range(256)))
    for path in (DATA / NO_TEXT, workbook):
        with pytest.raises(ValueError, match=r"csv may be no text.*Excel.*save it as CSV"):
            nb.first_lines(path)
    with pytest.raises(UnicodeDecodeError) as caught:  # what read_csv says of it
        pd.read_csv(DATA / NO_TEXT)
    assert "Excel" not in str(caught.value)


def test_first_lines_shows_how_a_text_begins(nb, tmp_path):
    for file in FILES:
        assert nb.first_lines(DATA / file)[:300].isprintable() is False  # there are line ends
    assert nb.first_lines(DATA / "01-plain.csv").startswith("years,salary\n1.1,37.59\n")
    assert "Temperature(\ufffdC)" in nb.first_lines(DATA / "11-latin-1.csv")
    text = tmp_path / "text.csv"
    text.write_text("a,b\n1,2\n3,5\n", encoding="utf-16")
    with pytest.raises(ValueError, match="try encoding='utf-16'"):
        nb.first_lines(text)
    assert pd.read_csv(text, encoding="utf-16")["b"].tolist() == [2, 5]


@pytest.mark.parametrize("file", FILES)
def test_the_section_teaches_what_its_file_needs(file):
    """Every argument as it is written, and every method by its name."""
    for node in ast.walk(ast.parse(FILES[file])):
        if isinstance(node, ast.keyword):
            written = ast.get_source_segment(FILES[file], node)
            taught = node.arg + "=" if node.arg in OF_THIS_FILE else written
            assert taught in SECTION_TEXT, taught
        elif isinstance(node, ast.Attribute):
            assert re.search(rf"\b{node.attr}\b", SECTION_TEXT), node.attr


# ---------------------------------------------------------------- the table of cures

XY = [[1.0, 2.5], [3.0, 4.0]]
BY_DEFAULT = "table = pd.read_csv(text)"
TO_NUMBERS = "table = table.apply(pd.to_numeric)"
FROM_FIRST_DAY = 'table["Date"] = (table["Date"] - table["Date"].min()).dt.total_seconds() / 86400'
DAYS = 'table = pd.read_csv(text, parse_dates=["Date"]{})\n' + FROM_FIRST_DAY

# What is seen (the left column of the table), the text of a file, how it is read, its numbers.
CURED = [
    ("semicolons or tabs", "x;y\n1;2.5\n3;4", 'table = pd.read_csv(text, sep=";")', XY),
    ("semicolons or tabs", "x\ty\n1\t2.5\n3\t4", r'table = pd.read_csv(text, sep="\t")', XY),
    ("blanks between", " x   y\n 1 2.5\n3   4", r'table = pd.read_csv(text, sep=r"\s+")', XY),
    ("`3,14`", "x;y\n1;2,5\n3;4", 'table = pd.read_csv(text, sep=";", decimal=",")', XY),
    (
        "`1,020`",
        'x,y\n"1,020",2.5\n3,"1,000,000"',
        'table = pd.read_csv(text, thousands=",")',
        [[1020, 2.5], [3, 1e6]],
    ),
    (
        "`1,020`",
        "x;y\n1.020;2,5\n3;1.000.000",
        'table = pd.read_csv(text, sep=";", decimal=",", thousands=".")',
        [[1020, 2.5], [3, 1e6]],
    ),
    ("lines that begin", "# a\nx,y\n# b\n1,2.5\n3,4", 'table = pd.read_csv(text, comment="#")', XY),
    ("a title", "A title\nx,y\n1,2.5\n3,4", "table = pd.read_csv(text, skiprows=1)", XY),
    ("a title", "A title\n\nx,y\n1,2.5\n3,4", "table = pd.read_csv(text, skiprows=2)", XY),
    (
        "a remark",
        "x,y\n1,2.5\n3,4\n\nSource: a test",
        'table = pd.read_csv(text, skipfooter=1, engine="python")',
        XY,
    ),
    ("no names", "1,2.5\n3,4", "table = pd.read_csv(text, header=None)[[0, 1]]", XY),
    (
        "no names",
        "1960,320.5,0.1\n1961,321,0.2",
        'table = pd.read_csv(text, names=["year", "mean", "unc"])[["year", "mean"]]',
        [[1960, 320.5], [1961, 321]],
    ),
    (
        "`UnicodeDecodeError`",
        "°C,y\n1,2.5\n3,4".encode("latin-1"),
        'table = pd.read_csv(text, encoding="latin-1")[["°C", "y"]]',
        XY,
    ),
    (
        "many more columns",
        "name,engine,color,max_power\na,1,red,2.5\nb,3,,4",
        'table = pd.read_csv(text, usecols=["engine", "max_power"])',
        XY,
    ),
    (
        "gaps written",
        "x,y\n1,2.5\n?,1\n1,-\n***,2\n,2\nNA,2\n1,n/a\n1,nan\n3,4",
        'table = pd.read_csv(text, na_values=["?", "-", "***"]).dropna()',
        XY,
    ),
    (
        "`nan` or",
        "x,y,z\n1,2.5,\n,1,2\n3,4,7",
        'table = pd.read_csv(text, usecols=["x", "y"])\ntable = table.dropna()',
        XY,
    ),
    (
        "a number that stands",
        "x,y\n1,2.5\n-200,1\n1,-200\n-200.0,-200.00\n3,4",
        "table = pd.read_csv(text, na_values=[-200]).dropna()",
        XY,
    ),
    ("`nan` or", "x,y\n1,2.5\n,1\n3,4", BY_DEFAULT + "\ntable = table.dropna()", XY),
    (
        "`nan` or",
        "x,y\n1,2.5\n,1\n3,4",
        'table = pd.read_csv(text, dtype_backend="numpy_nullable")\ntable = table.dropna()',
        XY,
    ),
    (
        "a currency",
        'x,y\n1 CC,"$1,002.5 "\n3%,$4',
        BY_DEFAULT
        + '\ntable = table.replace([r"\\$", ",", "%", " CC"], "", regex=True)\n'
        + TO_NUMBERS,
        [[1, 1002.5], [3, 4]],
    ),
    ("numbers in a column", "x,y\n1,2.5\n3,4", BY_DEFAULT + ".astype(str)\n" + TO_NUMBERS, XY),
    (
        "numbers in a column",
        "x,y\n1,2.5\n3,4",
        BY_DEFAULT + ".astype(str).map(Decimal)\n" + TO_NUMBERS,
        XY,
    ),
    ("dates", "Date,y\n2024-02-28,1\n2024-03-01,5", DAYS.format(""), [[0, 1], [2, 5]]),
    (
        "dates",
        "Date,y\n05/03/2024,5\n01/02/2024,1",
        DAYS.format(", dayfirst=True"),
        [[33, 5], [0, 1]],
    ),
    (
        "a `;` or `,` at the end",
        "x,y\n1,2,\n3,4,\n",
        "table = pd.read_csv(text, index_col=False)",
        [[1, 2], [3, 4]],
    ),
]


def cures():
    """The rows of the table of cures: what is seen, what to write."""
    rows = re.findall(r"^\|(.+?)\|(.+)\|$", SOURCE["cures"], flags=re.MULTILINE)
    assert rows[0] == ("what you see", "what to write") and rows[1] == (":--", ":--")
    return rows[2:]


@pytest.mark.parametrize(("seen", "text", "lines", "numbers"), CURED)
@pytest.mark.filterwarnings("error")
def test_a_cure_cures(nb, seen, text, lines, numbers):
    text = text if isinstance(text, bytes) else text.encode()
    names = {"pd": pd, "Decimal": Decimal, "text": io.BytesIO(text)}
    exec(lines, names)  # noqa: S102
    x, y = (names["table"][column] for column in names["table"])
    columns = nb.check_line(x, y, epochs=100, rate=0.1)
    np.testing.assert_array_equal(np.hstack(columns), numbers)


def test_every_cure_of_the_table_is_tried():
    """Each row by a case above or, the last two, by a test of its own."""
    tried = {seen for seen, *_ in CURED} | {"x and y from two tables", "no text"}
    rows = cures()
    for seen in tried:
        assert sum(left.startswith(seen) for left, _ in rows) == 1, seen
    for left, _ in rows:
        assert any(left.startswith(seen) for seen in tried), left


def test_two_tables_are_merged(nb):
    first = pd.DataFrame({"Year": [2001, 2002, 2004], "x": [1, 2, 4]})
    second = pd.DataFrame({"Year": [2004, 2001, 2003, 2002], "y": [5, 2, 9, 4]})
    with pytest.raises(ValueError, match="row 3: x=nan, y=4"):
        nb.fit_line(first["x"], second["y"])
    assert any(
        'table = first.merge(second, on="Year", validate="one_to_one")' in cure
        for _, cure in cures()
    )
    table = first.merge(second, on="Year", validate="one_to_one")
    slope, *_ = nb.fit_line(table["x"], table["y"])
    assert slope == pytest.approx(least_squares([1, 2, 4], [2, 4, 5])[0])


def test_what_is_no_number_is_shown_by_to_numeric():
    with pytest.raises(ValueError, match="Unable to parse string .x7. at position 1"):
        pd.DataFrame({"x": ["1", "x7"]}).apply(pd.to_numeric)


def test_pandas_reads_the_messy_table_without_an_error_and_wrongly():
    cell = SOURCE["messy-table"].rpartition("print(")[0]
    names = {}
    exec(cell, names)  # noqa: S102
    table = pd.read_csv(io.StringIO(names["spring_file"]))
    assert table.shape == (8, 1) and table.iloc[0, 0] == 1


def test_one_missing_number_spoils_every_row():
    x = np.array([1.0, np.nan, 3.0])
    assert np.isnan((x - x.mean()) / x.std()).all()


def test_hours_are_parts_of_a_day():
    days = pd.Series(["2024-01-01 00:00", "2024-01-01 12:00", "2024-01-02 06:00"])
    table = pd.DataFrame({"Date": pd.to_datetime(days)})
    names = {"table": table}
    exec(FROM_FIRST_DAY, names)  # noqa: S102
    assert table["Date"].tolist() == [0, 0.5, 1.25]


def test_a_year_that_comes_twice_is_refused_and_one_without_a_partner_is_left_out():
    first = pd.DataFrame({"Year": [1, 2, 3], "x": [1, 2, 3]})
    second = pd.DataFrame({"Year": [2, 3, 4], "y": [2, 3, 4]})
    assert first.merge(second, on="Year", validate="one_to_one")["Year"].tolist() == [2, 3]
    twice = second.assign(Year=[2, 2, 3])
    with pytest.raises(pd.errors.MergeError):
        first.merge(twice, on="Year", validate="one_to_one")


def test_a_separator_at_the_end_of_every_row_shifts_the_columns():
    text = "a,b\n1,2,\n3,4,\n"
    assert pd.read_csv(io.StringIO(text))["a"].tolist() == [2, 4]
    cured = pd.read_csv(io.StringIO(text), index_col=False)
    assert cured["a"].tolist() == [1, 3] and cured["b"].tolist() == [2, 4]


def test_comment_and_thousands_cut_more_than_meant():
    text = "a,b,c\n1,x#3,5\n"
    assert pd.read_csv(io.StringIO(text), comment="#").iloc[0].tolist()[:2] == [1, "x"]
    assert pd.read_csv(io.StringIO("a\n3.14\n"), thousands=".")["a"].tolist() == [314]
    text = b'x\n"9,999"\n"1,020"\n'
    for engine in ("c", "python"):
        for gap, left in (([9999], [9999, 1020]), (["9,999"], [1020]), (["9,999", 9999], [1020])):
            table = pd.read_csv(io.BytesIO(text), thousands=",", na_values=gap, engine=engine)
            if len(gap) == 2 or engine == "c":
                assert table.dropna()["x"].tolist() == left


def test_to_numeric_counts_dates_in_no_days_and_empties_an_empty_text():
    table = pd.DataFrame({"Date": pd.to_datetime(["2024-01-01", "2024-01-02"]), "x": ["", "2"]})
    numbers = table.apply(pd.to_numeric)
    assert numbers["Date"].diff().iloc[1] > 1e6 and np.isnan(numbers["x"].iloc[0])
