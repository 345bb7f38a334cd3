"""The site's files: the repository's documents, lessons and images under their own paths, and a page for each source.

A hook of mkdocs. The page of a module shows its docstrings and code, that of a test its code; links to sources, in
EQUATIONS.md and elsewhere, lead to these pages. Where they offer the page of `make live`, that page is in a frame, if
`make site` has built it.
"""

import re
from pathlib import Path, PurePosixPath
from shutil import copytree

import mathjax
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from mkdocs.utils import get_relative_url

ROOT = Path(__file__).parents[2]
MATHJAX = Path(mathjax.__file__).parent / "static/mathjax/es5/tex-svg.js"
PACKAGES = ("ldm", "p2p", "weights")
AS_THEY_ARE = ("README.md", "EQUATIONS.md", "docs/*.md", "docs/*.png", "notebooks/[0-9]*.ipynb")
AS_THEY_ARE += ("weights/stickers/README.md", "weights/stickers/*.png", "tests/equations/mutants.csv")


def listed(*patterns: str) -> list[str]:
    """The repository's files that match, in order."""
    return [path.relative_to(ROOT).as_posix() for pattern in patterns for path in sorted(ROOT.glob(pattern))]


LIVE = ROOT / "site/dist"  # the page that edits in the browser, part of the site if `make site` has built it
MODULES = [path for path in listed(*(f"{package}/**/*.py" for package in PACKAGES)) if "__" not in path]
SOURCES = {*MODULES, "NOTICE", *listed("tests/**/test_*.py")}
# a notebook's script that loads another from elsewhere, for sliders that need a kernel
WIDGETS = re.compile(r"<script>\s*\(function\(\) \{\s*function addWidgetsRenderer.*?</script>", re.DOTALL)
# a paragraph that begins with a link to the page in a state
OFFERED = re.compile(r'<p><a href="http://localhost:\d+/([^"]*)"[^>]*>([^<]*)</a>.*?</p>', re.DOTALL)
FRAME = """
<figure class="live">
<iframe src="{address}" title="{title}" loading="lazy"></iframe>
<figcaption><a href="{address}">Open it in full</a>: outside a frame it can use several threads. It needs a web server,
and does not run from files.</figcaption>
</figure>
"""


def page_of(source: str) -> str:
    """The Markdown of a source file's page."""
    if source in MODULES:
        module = source.removesuffix(".py").replace("/", ".")
        return f"# {module}\n\n::: {module}\n"
    text = (ROOT / source).read_text(encoding="utf-8")
    language = "python" if source.endswith(".py") else "text"
    return f"---\nsearch: {{exclude: true}}\n---\n\n# {source}\n\n~~~~{language}\n{text}~~~~\n"


def is_live() -> bool:
    return (LIVE / "index.html").is_file()


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    tree = lambda package: [f"{path}.md" for path in MODULES if path.startswith(f"{package}/")]
    config.nav = [
        {"Home": "README.md"},
        {"Lessons": listed("notebooks/[0-9]*.ipynb")},
        {"Live": "docs/live.md"},
        {"Formulas": "EQUATIONS.md"},
        {"Guides": [path for path in listed("docs/*.md") if path != "docs/live.md"]},
        {"Model card": "weights/stickers/README.md"},
        {"API": [{package: tree(package)} for package in PACKAGES]},
    ]
    return config


@event_priority(100)  # before the plugin that makes pages of notebooks
def on_files(files: Files, config: MkDocsConfig) -> Files:
    for path in listed(*AS_THEY_ARE):
        files.append(File(path, str(ROOT), config.site_dir, config.use_directory_urls))
    for path in sorted(SOURCES):
        files.append(File.generated(config, f"{path}.md", content=page_of(path)))
    files.append(File.generated(config, "mathjax.js", abs_src_path=str(MATHJAX)))
    return files


def on_page_markdown(markdown: str, page: Page, **_) -> str:
    """Links to a source lead to its page. The table of formulas gets the whole width, and long formulas line breaks."""
    if page.file.src_uri == "docs/live.md" and is_live():
        markdown = re.sub(r"!\[[^]]*\]\(live\.png\)", "", markdown)  # the page itself is there
    if page.file.src_uri == "EQUATIONS.md":
        page.meta["hide"] = ["navigation", "toc"]
        markdown = markdown.replace(r" \quad ", "$<br>$")
    folder = PurePosixPath(page.file.src_uri).parent
    return re.sub(r"\]\(([^)\s:#]+)\)", lambda link: f"]({_target(folder, link[1])})", markdown)


def _target(folder: PurePosixPath, link: str) -> str:
    path = (ROOT / folder / link).resolve()
    return f"{link}.md" if path.is_relative_to(ROOT) and path.relative_to(ROOT).as_posix() in SOURCES else link


def on_post_build(config: MkDocsConfig) -> None:
    """The page that edits in the browser, as it is."""
    if is_live():
        copytree(LIVE, Path(config.site_dir) / "live", dirs_exist_ok=True)


def framed(html: str, url: str) -> str:
    """The HTML of the page at `url`, with a frame after each paragraph that offers the page that edits."""

    def frame(offer: re.Match) -> str:
        address = get_relative_url("live/index.html", url) + offer[1]
        paragraph = re.sub('href="[^"]*"', lambda _: f'href="{address}"', offer[0], count=1)
        return paragraph + FRAME.format(address=address, title=" ".join(offer[2].split()))

    return OFFERED.sub(frame, html)


def on_post_page(output: str, page: Page, **_) -> str:
    """Links of a lesson, which are a notebook's, lead to pages; no page loads a script from elsewhere."""
    if is_live():
        output = framed(output, page.url)
    if page.file.src_uri.endswith(".ipynb"):
        output = re.sub(r'(href="(?!https?:)[^"#]+)\.(?:md|ipynb)(?=["#])', r"\1.html", output)
    output = WIDGETS.sub("", output)
    return re.sub(r'<script[^>]+src="(https?:[^"]*)?"[^>]*>\s*</script>', "", output)
