"""Parts of the notebook on Part 1 alone, and with other planted numbers."""

import pytest

from notebook_runner import code_cells, execute, read, text_of

TIMED = ("same-answer", "race-tables", "race-figure", "machines-say")
PLANTED = "N, TRUE_SLOPE, TRUE_INTERCEPT, NOISE_SD = 200, 2.5, 10.0, 10.0"
MINE = "N, TRUE_SLOPE, TRUE_INTERCEPT, NOISE_SD = 1001, -3.0, 40.0, 5.0"


@pytest.mark.parametrize(
    ("first", "end", "planted"),
    [("part2", "part4", MINE), ("part3", "bug-loop", PLANTED), ("part4", "part5", MINE)],
)
def test_parts_need_part_1_only_and_the_planted_numbers_are_yours(tmp_path, first, end, planted):
    """But for the table of bugs, which borrows from Part 2; timings and workers left out."""
    notebook = read()
    at = [cell.id for cell in notebook.cells].index
    notebook.cells[at("data-make")].source = notebook.cells[at("data-make")].source.replace(PLANTED, planted)
    assert planted in notebook.cells[at("data-make")].source
    cells = notebook.cells[: at("part2")] + notebook.cells[at(first) : at(end)]
    notebook.cells = [cell for cell in cells if cell.id not in TIMED]
    execute(notebook, tmp_path)
    assert not [cell.id for cell in code_cells(notebook) if "stderr" in text_of(cell)]
    assert {path.name for path in tmp_path.iterdir()} == {"plots"}
