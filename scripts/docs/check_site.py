#!/usr/bin/env python3
"""Checks that no page of a site loads anything from elsewhere: scripts, styles, fonts, pictures or frames."""

import pathlib
import re
import sys
from html.parser import HTMLParser

EXTERNAL = re.compile(r"^\s*(?:https?:)?//", re.I)
LOADING = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src", "audio": "src", "embed": "src",
           "object": "data", "link": "href", "form": "action", "image": "href", "use": "href"}


class Loads(HTMLParser):
    """Collects the addresses that a browser would fetch for a page."""

    def __init__(self):
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        if (value := given.get(LOADING.get(tag, ""))) and EXTERNAL.match(value):
            self.found.append(value)
        self.found += [address for address in re.findall(r"url\(['\"]?([^)'\"]+)", given.get("style") or "") if EXTERNAL.match(address)]
        # The theme would fetch the program that draws such diagrams.
        if "mermaid" in (given.get("class") or "").split():
            self.found.append("a Mermaid diagram")


def main(site: pathlib.Path) -> None:
    pages, wrong = sorted(site.rglob("*.html")), []
    for page in pages:
        loads = Loads()
        loads.feed(page.read_text())
        wrong += [f"{page.relative_to(site)}: {address}" for address in loads.found]
    for style in site.rglob("*.css"):
        text = style.read_text()
        wrong += [f"{style.relative_to(site)}: {address}" for address in re.findall(r"url\(['\"]?((?:https?:)?//[^)'\"]+)", text)]
        wrong += [f"{style.relative_to(site)}: @import" for _ in re.findall(r"@import\s+['\"](?:https?:)?//", text)]
    if wrong or not pages:
        sys.exit("pages load from elsewhere:\n" + "\n".join(wrong) if pages else f"{site} has no pages")
    print(f"{len(pages)} pages, nothing from elsewhere")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
