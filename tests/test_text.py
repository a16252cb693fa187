"""The notebook's prose and the README: numbers, links, headings, commands."""

import itertools
import re
import shlex

import pytest

from notebook_runner import ROOT, printed, read, text_of

CELLS = {cell.id: cell for cell in read().cells}
PROSE = {cell.id: cell.source for cell in read().cells if cell.cell_type == "markdown"}
TEXT = re.sub(r"```.*?```", "", "\n\n".join(PROSE.values()), flags=re.DOTALL)
HEADINGS = [title.replace("`", "") for title in re.findall(r"^#+ (.+)$", TEXT, re.MULTILINE)]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^```sh\n(.+?)\n```$", README, re.MULTILINE | re.DOTALL)


def test_prose_and_its_links_and_headings():
    """No word that belittles; links lead to headings and say where; no heading level is skipped."""
    weak = r"\b(just|simply|simple|obviously|obvious|easily|easy|clearly|of course)\b"
    found = [cell_id for cell_id, text in PROSE.items() if re.search(weak, text, re.IGNORECASE)]
    assert not found
    anchors = {title.strip().replace(" ", "-") for title in HEADINGS} | {"explorer"}
    links = set(re.findall(r"\]\(#([^)]+)\)", TEXT))
    assert links <= anchors, links - anchors
    words = {words.lower() for words in re.findall(r"(?<!!)\[([^]]+)\]\(", TEXT)}
    assert not words & {"here", "link", "this", "click here"}
    levels = [len(marks) for marks in re.findall(r"^(#+) ", TEXT, re.MULTILINE)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert len(HEADINGS) == len(set(HEADINGS))


# Numbers in prose that no cell prints, and where they come from.
EXPLAINED = {
    "1929": "the year of Hubble's paper",
    "3.26": "light years in a parsec",
    "0.13": "0.1 times 2 times two thirds, in the sentence itself",
    "740": "0.1 times 2 times 3,700, in the sentence itself",
    "739": "740 - 1, in the sentence itself",
    "3,700": "3,702, rounded",
    "1.48": "0.0002 times 7,404, rounded",
    "0.48": "1 - 1.48, in the sentence itself",
    "3.5": "1 / sqrt(800), in per cent",
    "2.22": "a version of TensorFlow",
    "3.15": "a version of Keras",
    "32,768": "the first scale of a LossScaleOptimizer, measured by a test",
    "3.14": "an example in the table of cures",
    "314": "3.14 without its point, in the sentence itself",
    "1020": "another",
    "9999": "another, for a gap",
    "20,000": "written 20_000 in the race",
}


def numbers_in(text):
    """Numbers of three digits, or with a point, as they stand in prose without math and code."""
    prose = re.sub(r"\]\([^)]*\)|\$\$.+?\$\$|\$.+?\$|```.+?```|`[^`]*`", " ", text, flags=re.DOTALL)
    return re.findall(r"(?<![\w.·])\d+[.,]\d+(?:\.\d+)?|(?<![\w.])\d{3,}", prose)


def test_numbers_in_prose_are_printed_or_explained():
    shown = " ".join(text_of(c) + c.source for c in CELLS.values() if c.cell_type == "code")
    values = {float(n.replace(",", "")) for n in re.findall(r"\d[\d,]*\.?\d*", shown)}
    for cell_id, text in PROSE.items():
        for number in numbers_in(text):
            digits, value = len(number.partition(".")[2]), float(number.replace(",", ""))
            known = number in EXPLAINED or any(round(v, digits) == value for v in values)
            assert known, f"{cell_id}: {number} is not printed by any cell"


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_of_the_readme_name_files_that_exist(command):
    assert "\n" not in command, "one command, one line"
    words = shlex.split(command)
    files = [w for w in words if re.search(r"\.(txt|ipynb|py)$", w) or w == "tests"]
    assert files and all((ROOT / name).exists() for name in files)


def test_ci_runs_the_test_command():
    pattern = re.search(r"grep -m1 -E '(.+)' README.md", (ROOT / ".ci/run").read_text())[1]
    first = next(line for line in README.splitlines() if re.search(pattern, line))
    assert [first] == [command for command in COMMANDS if "pytest" in command]


def test_links_images_sections_and_licence_of_the_readme_exist():
    licence = (ROOT / "LICENSE").read_text()
    assert licence.startswith("MIT License") and "(c) 2026 Mehran Asgari" in licence
    assert "github.com/imehranasgari" in README
    slugs = re.findall(r"^#+ (.+)$", README, re.MULTILINE)
    slugs = {"#" + re.sub(r"[^\w -]", "", slug).lower().replace(" ", "-") for slug in slugs}
    inner = [link for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link]
    assert inner and all(link in slugs or (ROOT / link).is_file() for link in inner)
    assert all(len(alt.split()) > 5 for alt in re.findall(r"!\[([^]]*)\]", README))
    for name in re.findall(r"\*([A-Z][^*]+)\*", README.split("## Run it")[0]):
        assert name in HEADINGS, name


# row of the README's table: the cell that prints its two numbers, and how
KEY_RESULTS = {
    "slope": ("noise-part-1", r"slope: +(\S+) ± (\S+), planted 2\.5"),
    "intercept": ("noise-part-1", r"intercept: (\S+) ± (\S+), planted 10\.0"),
    "training loss": ("loss-figure", r"end: .*loss (\S+)\n.*loss (\S+)"),
    "RMSE on 40 unseen rows": ("fit-figure", r"RMSE (\S+), and the noise is (10)"),
    "R² on 40 unseen rows": ("r-squared", r"R² (\S+)()"),
    "Hubble's line, km/s per Mpc": ("hubble-data", r"loop: v = (\S+) .*\n.* v = (\S+)"),
    "condition number, raw x": ("valley-arrival", r"condition number: (\S+)()"),
    "bugs that a falling loss misses": ("bugs-run", r"the loss falls in (\d+) of (21)"),
}


def test_the_readme_shows_what_examine_prints():
    assert printed(CELLS["examined-assign"]).strip() in README
    caught = re.search(r"the questions catch (\d+) of (\d+)", text_of(CELLS["bugs-count"]))
    assert f"of {caught[2]}, and `examine` catches {caught[1]}" in README


@pytest.mark.parametrize("label", KEY_RESULTS)
def test_numbers_of_the_readme_are_the_notebooks(label):
    (row,) = re.findall(rf"^\| {re.escape(label)} \|(.+)\|$", README, re.MULTILINE)
    result, comparison = (text.strip() for text in row.split("|"))
    cell_id, pattern = KEY_RESULTS[label]
    found = re.search(pattern, text_of(CELLS[cell_id]))
    assert result == found[1]
    assert found[2] in re.findall(r"[\d.,]*\d", comparison) or not found[2]
