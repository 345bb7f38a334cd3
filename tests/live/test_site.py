"""The site as `make docs` has built it: every link of every page leads somewhere, nothing is loaded from elsewhere, and
the page that edits is in frames."""

import importlib.util
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).parents[2]
LOADED = {"img": "src", "script": "src", "link": "href", "iframe": "src", "source": "src"}

pytestmark = pytest.mark.live


class Links(HTMLParser):
    """A page's anchors, the addresses that it links to, those that a browser loads with it, and its frames."""

    def __init__(self, html: str):
        super().__init__()
        self.anchors, self.linked, self.loaded, self.frames = set(), set(), set(), []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.anchors |= {found.get("id"), found.get("name") if tag == "a" else None}
        if tag == "a" and found.get("href"):
            self.linked.add(found["href"])
        if tag == "iframe":
            self.frames.append(found)
        if found.get(LOADED.get(tag)) and found.get("rel") != "canonical":
            self.loaded.add(found[LOADED[tag]])


@pytest.fixture(scope="module")
def site() -> dict[Path, Links]:
    """The pages of the site."""
    folder = ROOT / "out/site"
    assert folder.is_dir(), "run make site docs"
    return {page: Links(page.read_text("utf-8")) for page in folder.rglob("*.html") if page.name != "404.html"}


def test_every_link_leads_to_a_file_and_an_anchor(site):
    lost = set()
    for page, links in site.items():
        for address in links.linked | links.loaded:
            parts = urlsplit(address)
            if parts.scheme:
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            anchor = "" if target.parent.name == "live" else unquote(parts.fragment)  # of a live page it is a state
            if not target.is_file() or (anchor and target in site and anchor not in site[target].anchors):
                lost.add((page.name, address))
    assert lost == set()


def test_nothing_is_loaded_from_elsewhere(site):
    assert {address for links in site.values() for address in links.loaded if urlsplit(address).netloc} == set()


def test_every_lesson_and_document_is_a_page(site):
    pages = {page.stem for page in site}
    assert {path.stem for path in [*ROOT.glob("notebooks/[0-9]*.ipynb"), *ROOT.glob("docs/*.md")]} <= pages


def test_the_page_that_edits_is_in_frames(site):
    framed = {page.stem: len(links.frames) for page, links in site.items() if links.frames}
    assert framed == {"live": 1, "07_prompt_to_prompt": 2, "08_edits": 2}


def test_a_paragraph_that_offers_the_page_is_followed_by_it():
    spec = importlib.util.spec_from_file_location("layout", ROOT / "docs/site/layout.py")
    layout = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(layout)
    offer = '<p><a href="http://localhost:8623/#seed=1&amp;tau=0.8" target="_blank">Drag\ntau</a>: the <b>cars</b>.</p>'
    other = '<p>It is at <a href="http://localhost:8623/">this address</a>.</p>'
    html = layout.framed(f"<p>before</p>{offer}<p>between</p>{other}", "notebooks/07.html")
    address = "../live/index.html#seed=1&tau=0.8"
    assert Links(html).frames == [{"src": address, "title": "Drag tau", "loading": "lazy"}]
    assert Links(html).linked == {address, "http://localhost:8623/"}
    assert html.startswith("<p>before</p><p>") and html.endswith(f"<p>between</p>{other}")
