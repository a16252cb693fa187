"""Parts of the notebook on their own, and with other planted numbers."""

import pytest

from notebook_runner import code_cells, execute, read, text_of

TIMED = ("same-answer", "race-tables", "race-figure", "machines-say")


def test_planted_numbers_are_the_readers_to_change(tmp_path):
    """More rows, other noise: nothing breaks, no warning; timings and workers left out."""
    notebook = read()
    (cell,) = [c for c in notebook.cells if c.id == "data-make"]
    planted = "N, TRUE_SLOPE, TRUE_INTERCEPT, NOISE_SD = 200, 2.5, 10.0, 10.0"
    assert cell.source.startswith(planted)
    other = planted.replace("200, 2.5, 10.0, 10.0", "1000, -3.0, 40.0, 5.0")
    cell.source = cell.source.replace(planted, other)
    notebook.cells = [cell for cell in notebook.cells if cell.id not in TIMED]
    execute(notebook, tmp_path)
    assert not [c.id for c in code_cells(notebook) if "stderr" in text_of(c)]


@pytest.mark.parametrize(("first", "end"), [("part3", "bug-loop"), ("part4", "part5")])
def test_a_later_part_needs_part_1_only(tmp_path, first, end):
    """But for the table of bugs, which borrows the checks of Part 2."""
    notebook = read()
    at = [cell.id for cell in notebook.cells].index
    cells = notebook.cells[: at("part2")] + notebook.cells[at(first) : at(end)]
    notebook.cells = [cell for cell in cells if cell.id not in TIMED]
    execute(notebook, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"plots"}
