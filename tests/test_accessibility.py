"""What a machine can check of accessibility: headings, links, alt text, contrast."""

import io
import itertools
import re

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from notebook_runner import ROOT, code_cells, pictures_of, read

CODE = code_cells(read())
PROSE = "\n\n".join(cell.source for cell in read().cells if cell.cell_type == "markdown")


def test_one_first_heading_and_no_level_skipped():
    text = re.sub(r"```.*?```", "", PROSE, flags=re.DOTALL)
    levels = [len(marks) for marks in re.findall(r"^(#+) ", text, re.MULTILINE)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_link_texts_say_where_they_lead():
    texts = {words.lower() for words in re.findall(r"(?<!!)\[([^]]+)\]\(", PROSE)}
    assert not texts & {"here", "link", "this", "click here"}


def test_alt_texts_are_there_and_all_different():
    outputs = [o for cell in CODE for o in cell.outputs if "data" in o]
    alts = [o.metadata["image/png"]["alt"] for o in outputs if "image/png" in o.data]
    pages = [o.data.get("text/html", "") for o in outputs]
    alts += [alt for page in pages for alt in re.findall(r'<img[^>]+alt="([^"]+)"', page)]
    assert len(alts) == len(set(alts)) > 16
    assert all(6 <= len(alt.split()) <= 40 for alt in alts)


def luminance(color):
    """Relative luminance as WCAG 2.1 defines it."""
    parts = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(color)]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


@pytest.mark.parametrize("color", sorted(set(re.findall(r"#[0-9a-f]{6}", str([c.source for c in CODE])))))
def test_lines_and_points_stand_out_from_white(color):
    assert 1.05 / (luminance(color) + 0.05) >= 3


def test_figures_bring_their_own_white_ground():
    """A figure with a transparent ground would lose its black text in a dark theme."""
    saved = [path.read_bytes() for path in (ROOT / "plots").iterdir()]
    for picture in saved + [png for cell in CODE for png in pictures_of(cell)]:
        image = np.asarray(Image.open(io.BytesIO(picture)).convert("RGBA"))
        assert image[..., 3].min() == 255
        assert (image[[0, 0, -1, -1], [0, -1, 0, -1], :3] == 255).all()
