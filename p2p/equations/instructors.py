"""The tables of docs/instructors.md: the sections of the lessons that show each slide, and the time a lesson takes.

`python -m p2p.equations.instructors` writes them between the page's marks.
"""

if __name__ == "__main__":
    from ldm.helpers.program import run

    raise SystemExit(run("p2p.equations.instructors"))

import json
import re
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from ldm.helpers.files import save_atomically
from p2p.equations.index import ROOT, cells, ids_in
from p2p.equations.register import FORMULAS
from p2p.equations.slides import SLIDES, Slide

PAGE = ROOT / "docs" / "instructors.md"
WORDS, LINES, EXERCISE = 150, 20, 2  # of prose and of code that are read in a minute; minutes for an exercise

SLIDES_HEAD = """
| slide | rows | shown in |
|---|---|---|
"""
TIMES_HEAD = """
| lesson | words | lines of code | exercises | to read and solve, minutes | to run, seconds |
|---|---|---|---|---|---|
"""


class Section(NamedTuple):
    """A section of a lesson, from one heading to the next."""

    notebook: str
    title: str
    text: str

    @property
    def link(self) -> str:
        words = re.sub(r"[^\w\s-]", "", self.title).lower().split()
        return f"[{self.title}](../notebooks/{self.notebook}.ipynb#{'-'.join(words)})"


def sections() -> list[Section]:
    """Every numbered section of every lesson, in order."""
    found = []
    for path in sorted(ROOT.glob("notebooks/[0-9]*.py")):
        parts = re.split(r"^# ## (\d.*)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
        found += [Section(path.stem, title, text) for title, text in zip(parts[1::2], parts[2::2])]
    return found


def shows(section: Section, slide: Slide) -> bool:
    """Whether the section names a row of the slide, or has the words that the list of slides gives for it."""
    rows = {f.id for f in FORMULAS.values() if f.slide == slide}
    return bool(rows & set(ids_in(section.text))) or bool(slide.words and slide.words in section.text)


def slides() -> str:
    """The table from slides to sections."""
    found = sections()
    rows = ""
    for slide in SLIDES:
        ids = ", ".join(f.id for f in FORMULAS.values() if f.slide == slide)
        rows += cells(slide.subject, ids, "<br>".join(s.link for s in found if shows(s, slide)))
    return SLIDES_HEAD + rows


def _seconds(code: list[dict[str, Any]]) -> float:
    """The time that cells took when they were executed, by the times that were stored with them."""
    time = lambda cell, name: datetime.fromisoformat(cell["metadata"]["execution"][name])
    return sum((time(c, "shell.execute_reply") - time(c, "iopub.status.busy")).total_seconds() for c in code)


def _lesson(path: Path) -> str:
    notebook = json.loads(path.read_text(encoding="utf-8"))
    text = {kind: [c for c in notebook["cells"] if c["cell_type"] == kind] for kind in ("markdown", "code")}
    prose = re.sub(r"\$\$?[^$]+\$\$?", "formula", "\n".join("".join(c["source"]) for c in text["markdown"]))
    title = re.search(r"^# (.*)$", prose, re.MULTILINE)[1]
    words = len(prose.split())
    lines = sum(bool(line.strip()) for c in text["code"] for line in "".join(c["source"]).splitlines())
    exercises = sum("exercise" in c["metadata"].get("tags", []) for c in text["code"])
    minutes = words / WORDS + lines / LINES + exercises * EXERCISE
    link = f"[{title}](../notebooks/{path.name})"
    return cells(
        link, *(f"{x:,}" for x in (words, lines, exercises)), f"{minutes:.0f}", f"{_seconds(text['code']):.0f}"
    )


def times() -> str:
    """The table of times, and the processors that the lessons ran on."""
    there = sorted(ROOT.glob("notebooks/[0-9]*.ipynb"))
    rows = "".join(map(_lesson, there))
    machines = {json.loads(path.read_text(encoding="utf-8"))["metadata"]["processor"] for path in there}
    return f"{TIMES_HEAD}{rows}\nRun on: {'; '.join(sorted(machines))}.\n"


def written(page: str) -> str:
    """The page with the tables as they are now."""
    for name, table in (("slides", slides()), ("times", times())):
        between = rf"(<!-- {name}: written by `make equations` -->\n).*?(<!-- end -->)"
        page = re.sub(between, lambda marks, table=table: marks[1] + table + marks[2], page, flags=re.DOTALL)
    return page


def main() -> None:
    page = written(PAGE.read_text(encoding="utf-8"))
    save_atomically(lambda part: part.write_text(page, encoding="utf-8"), PAGE)
