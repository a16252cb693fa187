"""What a machine can check of accessibility: headings, links, alt text, contrast."""

import io
import itertools
import re

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from notebook_runner import ROOT, code_cells, pictures_of, read

NOTEBOOK = read()
PROSE = [cell for cell in NOTEBOOK.cells if cell.cell_type == "markdown"]


def test_one_first_heading_and_no_level_skipped():
    text = re.sub(r"```.*?```", "", "\n\n".join(c.source for c in PROSE), flags=re.DOTALL)
    levels = [len(marks) for marks in re.findall(r"^(#+) ", text, re.MULTILINE)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_link_texts_say_where_they_lead():
    for cell in PROSE:
        for words in re.findall(r"(?<!!)\[([^]]+)\]\(", cell.source):
            assert words.lower() not in ("here", "link", "this", "click here"), cell.id


def test_alt_texts_are_there_and_all_different():
    alts = []
    for cell in code_cells(NOTEBOOK):
        for output in cell.outputs:
            data = output.get("data", {})
            if "image/png" in data:
                alts.append(output.metadata["image/png"]["alt"])
            if "<img" in data.get("text/html", ""):
                alts.append(re.search(r'<img[^>]+alt="([^"]+)"', data["text/html"])[1])
    assert len(alts) == len(set(alts)) > 10
    assert all(6 <= len(alt.split()) <= 40 for alt in alts)


def test_every_figure_is_spoken_of_in_a_title():
    for cell in code_cells(NOTEBOOK):
        if pictures_of(cell):
            assert re.search("title|scatter\\(", cell.source), cell.id


def luminance(color):
    """Relative luminance as WCAG 2.1 defines it."""
    parts = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(color)]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


COLORS = sorted(set(re.findall(r"#[0-9a-f]{6}", "".join(c.source for c in code_cells(NOTEBOOK)))))


@pytest.mark.parametrize("color", COLORS)
def test_lines_and_points_stand_out_from_white(color):
    assert 1.05 / (luminance(color) + 0.05) >= 3


def test_figures_bring_their_own_white_ground():
    """A figure with a transparent ground would lose its black text in a dark theme."""
    saved = [path.read_bytes() for path in (ROOT / "plots").iterdir()]
    drawn = [png for cell in code_cells(NOTEBOOK) for png in pictures_of(cell)]
    for picture in saved + drawn:
        image = np.asarray(Image.open(io.BytesIO(picture)).convert("RGBA"))
        assert image[..., 3].min() == 255
        assert (image[[0, 0, -1, -1], [0, -1, 0, -1], :3] == 255).all()
