"""A hook of MkDocs: files of the repository outside docs/ that pages link to become part of the site.

A Markdown file such as ARCHITECTURE.md becomes the page repository/ARCHITECTURE.md, and its links are followed in turn; other
files are copied. So the same links lead somewhere in the repository and in the site, and MkDocs checks all of them.
"""

import os
import pathlib
import re

from mkdocs.structure.files import File

ROOT = pathlib.Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PREFIX = "repository/"
FENCE = re.compile(r"(^```.*?^```$)", re.M | re.S)
LINK = re.compile(r"(\]\()([^)#\s]+)")


def links(text):
    """The relative links of a page, without those in blocks of code."""
    for part in FENCE.split(text):
        if not part.startswith("```"):
            yield from (found[2] for found in LINK.finditer(part) if "://" not in found[2])


def target(page, link):
    """What a page links to. A folder stands for its README."""
    path = pathlib.Path(os.path.normpath(page.parent / link))
    return path / "README.md" if path.is_dir() else path


def source(path):
    """A file's name in the site."""
    return str(path.relative_to(DOCS)) if path.is_relative_to(DOCS) else PREFIX + str(path.relative_to(ROOT))


def outside(pages):
    """The files outside docs/ that pages link to, directly or through others."""
    found, waiting = set(), list(pages)
    while waiting:
        page = waiting.pop()
        for path in (target(page, link) for link in links(page.read_text())):
            if path in found or path.is_relative_to(DOCS) or not path.is_file():
                continue
            found.add(path)
            if path.suffix == ".md":
                waiting.append(path)
    return sorted(found)


def on_files(files, config):
    for path in outside(DOCS.rglob("*.md")):
        files.append(File.generated(config, source(path), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown, page, **_):
    name = page.file.src_uri
    path = ROOT / name.removeprefix(PREFIX) if name.startswith(PREFIX) else DOCS / name

    def rewritten(found):
        if "://" in found[2]:
            return found[0]
        return found[1] + os.path.relpath(source(target(path, found[2])), os.path.dirname(name) or ".")

    return "".join(part if part.startswith("```") else LINK.sub(rewritten, part) for part in FENCE.split(markdown))
