"""Check the built site:  python docs/check.py     links, places, alt text, sizes; nothing is loaded from elsewhere.

What only a browser can see is checked by docs/browser/check.mjs.
"""

import gzip
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

HTML = Path(__file__).resolve().parents[1] / "build" / "site" / "html"
LOADING = {"img", "script", "iframe", "source", "audio", "video"}
LESSON, SHARED = 200_000, 100_000  # bytes: a lesson's HTML; all CSS and JavaScript that it loads, gzipped


class Page(HTMLParser):
    def __init__(self, path):
        super().__init__()
        self.ids, self.links, self.loads, self.no_alt, self.formulas = set(), [], [], [], 0
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.ids |= {given[key] for key in ("id", "name") if given.get(key)}
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        elif tag in LOADING and given.get("src"):
            self.loads.append(given["src"])
        elif tag == "link" and given.get("href") and given.get("rel") != "canonical":
            self.loads.append(given["href"])
        if tag == "img" and not given.get("alt"):
            self.no_alt.append(given.get("src"))


def check(root):
    """([what is wrong], pages, local links, [bytes of the largest lesson, most bytes that one loads])"""
    pages, bad, count = {path: Page(path) for path in sorted(root.rglob("*.html"))}, [], 0
    for path, page in pages.items():
        name = path.relative_to(root)
        bad += [f"{name}: no alt text: {src}" for src in page.no_alt]
        bad += course(name.as_posix(), page, path.read_text(encoding="utf-8"))
        for url in page.links + page.loads:
            parts = urlsplit(url)
            if parts.scheme == "data":
                continue
            if parts.scheme or parts.netloc:
                bad += [f"{name} loads {url}"] if url in page.loads else []
                continue
            count += 1
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            if not target.exists():
                bad.append(f"{name}: no such file: {url}")
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].ids:
                bad.append(f"{name}: no such place: {url}")
    largest = [0, 0]
    for path, page in pages.items():
        if path.parent.name == "notebooks":
            size = path.stat().st_size
            shared = sum(zipped(file) for file in files_of(path, page) if file.suffix in (".css", ".js"))
            largest = [max(largest[0], size), max(largest[1], shared)]
            bad += [f"{path.name}: {size:,} bytes of HTML; at most {LESSON:,}"] * (size > LESSON)
            bad += [f"{path.name} loads {shared:,} bytes (gzipped) of CSS and JavaScript; at most {SHARED:,}"] * (
                shared > SHARED
            )
    return bad, len(pages), count, largest


def course(name, page, text):
    """What is wrong with a page of the course: the marks of make_exercises.py, or no way from exercises to solutions."""
    folder, _, stem = name.rpartition("/")
    if not folder.endswith(("exercises", "solutions")):
        return []
    marks = re.findall(r"# (?:SOLUTION|END|BLANK|ANSWER)\b|&lt;!-- SOLUTION", text)
    ways = (f"../{stem}", f"../exercises/{stem}", f"../solutions/{stem}")
    return [
        *(f"{name} shows a mark of make_exercises.py: {mark}" for mark in marks[:1]),
        *(
            f"{name} has no link to {way}"
            for way in ways
            if way not in page.links and not folder.endswith(way.split("/")[1])
        ),
    ]


def files_of(path, page):
    found = {(path.parent / unquote(urlsplit(url).path)).resolve() for url in page.loads if not urlsplit(url).scheme}
    return sorted(file for file in found if file.is_file())


def zipped(path):
    return len(gzip.compress(path.read_bytes(), 9))


def main():
    if not HTML.exists():
        print(f"{HTML} is missing: python docs/build.py makes it, and says why if it cannot")
        return 1
    bad, pages, links, (lesson, shared) = check(HTML)
    print(*bad, sep="\n", end="\n" * bool(bad))
    print(f"The largest lesson is {lesson:,} bytes of HTML; CSS and JavaScript are {shared:,} bytes, gzipped.")
    print(f"{pages} pages, {links} local links, {len(bad)} bad")
    return bool(bad) or not pages


if __name__ == "__main__":
    sys.exit(main())
