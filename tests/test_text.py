"""What the notebook's prose and the README say: links, headings, commands, numbers."""

import itertools
import re
import shlex

import pytest

from notebook_runner import ROOT, code_cells, read, text_of

CELLS = {cell.id: cell for cell in read().cells}
PROSE = {cell.id: cell.source for cell in read().cells if cell.cell_type == "markdown"}
TEXT = re.sub(r"```.*?```", "", "\n\n".join(PROSE.values()), flags=re.DOTALL)
HEADINGS = re.findall(r"^#+ (.+)$", TEXT, re.MULTILINE)
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^```sh\n(.+?)\n```$", README, re.MULTILINE | re.DOTALL)


def test_prose_does_not_belittle():
    weak = r"\b(just|simply|simple|obviously|obvious|easily|easy|clearly|of course)\b"
    for cell_id, text in PROSE.items():
        assert not re.search(weak, text, re.IGNORECASE), cell_id


def test_links_lead_to_headings_and_say_where():
    anchors = {title.strip().replace(" ", "-") for title in HEADINGS}
    assert set(re.findall(r"\]\(#([^)]+)\)", TEXT)) <= anchors
    words = {words.lower() for words in re.findall(r"(?<!!)\[([^]]+)\]\(", TEXT)}
    assert not words & {"here", "link", "this", "click here"}


def test_one_first_heading_and_no_level_skipped():
    levels = [len(marks) for marks in re.findall(r"^(#+) ", TEXT, re.MULTILINE)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


# Numbers in prose that no cell prints: years of papers; 1 - 1e-3; light years in a parsec; 1 -+ 2 * 0.1;
# 1 / (2 * 6.3e-5), the odds of four standard errors; rows of the ordinary case; rates, updates, rows, draws.
EXPLAINED = "2015 1929 99.9 3.26 0.8 1.2 10,000 2.5 20,000 0.1 0.5 0.25 100 200 400 160".split()


def test_numbers_in_prose_are_printed_or_explained(committed):
    printed = " ".join(text_of(c) + c.source for c in code_cells(committed))
    values = {float(n.replace(",", "")) for n in re.findall(r"\d[\d,]*\.?\d*", printed)}
    for cell_id in PROSE.keys() - {"map", "opening"}:
        prose = re.sub(r"\]\([^)]*\)|\$\$.+?\$\$|\$.+?\$|`[^`]*`", " ", PROSE[cell_id], flags=re.DOTALL)
        for number in re.findall(r"(?<![\w.·])\d+[.,]\d+(?:\.\d+)?|(?<![\w.])\d{3,}", prose):
            digits, value = len(number.partition(".")[2]), float(number.replace(",", ""))
            known = number in EXPLAINED or any(round(v, digits) == value for v in values)
            assert known, f"{cell_id}: {number} is not printed by any cell"


def test_every_question_of_the_index_leads_to_a_section_with_a_run_cell():
    rows = re.findall(r"^\|.+\|.+\|$", PROSE["index"], re.MULTILINE)[2:]
    assert len(rows) >= 40
    with_code, section = set(), None
    for cell in read().cells:
        titles = re.findall(r"^#+ (.+)$", cell.source, re.MULTILINE)
        if cell.cell_type == "markdown" and titles:
            section = titles[-1].replace(" ", "-")
        elif cell.cell_type == "code" and cell.outputs:
            with_code.add(section)
    for row in rows:
        targets = re.findall(r"\]\(#([^)]+)\)", row)
        assert targets and set(targets) <= with_code, row


def test_every_failure_is_numbered_explained_and_listed():
    prose = "\n".join(PROSE.values()).split("## Part 3: ")[1].split("\n## Part 4")[0]
    numbers = re.findall(r"^#### (\d+)\. ", prose, re.MULTILINE)
    assert numbers == [str(i + 1) for i in range(17)]
    assert sum(cell_id.startswith("fail-") and cell_id not in PROSE for cell_id in CELLS) >= 17
    for word in ("See", "Cause", "Cure"):
        assert prose.count(f"- **{word}:** ") == 17
    table = prose.split("### What you see, and where to look")[1]
    assert set(re.findall(r"\[(\d+)\]\(#", table)) == set(numbers)


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_of_the_readme_name_files_that_exist(command):
    assert "\n" not in command, "one command, one line"
    words = shlex.split(command)
    files = [w for w in words if re.search(r"\.(txt|ipynb|py)$", w) or w == "tests"]
    assert files and all((ROOT / name).exists() for name in files)


def test_ci_runs_the_test_command():
    (command,) = [c for c in COMMANDS if "pytest" in c]
    pattern = re.search(r"grep -m1 -E '(.+)' README.md", (ROOT / ".ci/run").read_text())
    first = next(line for line in README.splitlines() if re.search(pattern[1], line))
    assert first == command


def test_links_images_and_sections_of_the_readme_exist():
    slugs = re.findall(r"^#+ (.+)$", README, re.MULTILINE)
    slugs = {"#" + re.sub(r"[^\w -]", "", slug).lower().replace(" ", "-") for slug in slugs}
    inner = [link for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link]
    assert inner and all(link in slugs or (ROOT / link).is_file() for link in inner)
    assert all(len(alt.split()) > 5 for alt in re.findall(r"!\[([^]]*)\]", README))
    for name in re.findall(r"\*([A-Z][^*]+)\*", README.split("## Run it")[0]):
        assert name in HEADINGS, name


# row of the README's table: the cell that prints its two numbers, and how
KEY_RESULTS = {
    "slope": ("noise-part-1", r"slope +(\S+) ± (\S+), planted 2\.5"),
    "intercept": ("noise-part-1", r"intercept (\S+) ± (\S+), planted 10\.0"),
    "training loss": ("loss-figure", r"last loss (\S+), noise floor (\S+)"),
    "RMSE on 40 unseen rows": ("test-rows", r"RMSE (\S+) \(noise (10)\)"),
    "R² on 40 unseen rows": ("test-rows", r"R² (\S+)()"),
    "Hubble's line, km/s per Mpc": ("hubble", r"loop (\S+), \S+; polyfit \[(\S+)"),
    "condition number, raw x": ("normalize-raw", r"condition number (\S+)()"),
    "bugs that a falling loss misses": ("bug-figure", r"falls': (\d+)()"),
}


@pytest.mark.parametrize("label", KEY_RESULTS)
def test_numbers_of_the_readme_are_the_notebooks(label):
    (row,) = re.findall(rf"^\| {label} \|(.+)\|$", README, re.MULTILINE)
    result, comparison = (text.strip() for text in row.split("|"))
    cell_id, pattern = KEY_RESULTS[label]
    printed = re.search(pattern, text_of(CELLS[cell_id]))
    assert result == printed[1]
    assert printed[2] in re.findall(r"[\d.,]*\d", comparison) or not printed[2]


def test_licence_and_author():
    licence = (ROOT / "LICENSE").read_text()
    assert licence.startswith("MIT License") and "(c) 2026 Mehran Asgari" in licence
    assert "github.com/imehranasgari" in README
