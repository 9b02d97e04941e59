"""How Sphinx makes the site of the folder that docs/build.py has filled."""

import re
import sys
from itertools import zip_longest
from pathlib import Path

from pygments.styles import get_style_by_name
from pygments.token import STANDARD_TYPES, Text
from sphinx.errors import ExtensionError

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

project, author, copyright = "minipeft", "the minipeft developers", "the minipeft developers, MIT licence"
html_theme, html_title, html_baseurl = "furo", "minipeft", ""
extensions = ["myst_nb", "formulas", "sphinx_copybutton"]
nb_execution_mode, nb_code_prompt_show, nb_code_prompt_hide = "off", "Show the code", "Hide the code"
nb_merge_streams = True
myst_enable_extensions, myst_heading_anchors = ["dollarmath", "colon_fence"], 3
html_math_renderer = "katex"
smartquotes_action = "De"  # quotes stay as they are: in a docstring they are mostly those of a program
templates_path, html_static_path = [str(HERE / "templates")], [str(HERE / "static")]
html_css_files, html_show_sourcelink, html_copy_source, html_use_index = ["site.css"], False, False, False
html_favicon = str(HERE / "static" / "favicon.svg")
html_theme_options = {"light_css_variables": {"color-brand-primary": "#005a94", "color-brand-content": "#005a94"},
                      "dark_css_variables": {"color-brand-primary": "#6cb8f0", "color-brand-content": "#6cb8f0"},
                      "navigation_with_keys": True}  # fmt: skip
pygments_style, pygments_dark_style = "a11y-high-contrast-light", "a11y-high-contrast-dark"
copybutton_exclude = ".linenos, .gp, .go"


def plain_tokens():
    """Classes of those tokens of a program that look like its plain text in both styles; and operators, which may."""
    styles = [get_style_by_name(name) for name in (pygments_style, pygments_dark_style)]
    same = [short for token, short in STANDARD_TYPES.items() if short and all(
        style.style_for_token(token) == style.style_for_token(Text) for style in styles)]  # fmt: skip
    return [*same, "o"]


PLAIN = re.compile(rf'<span class="(?:{"|".join(plain_tokens())})">((?:<a [^>]*>)?[^<]*(?:</a>)?)</span>')


AFTER_FORMULA = re.compile(r"((?:</span>){5})(?=[.,;:!?)])")  # where no line may end, as a word joiner says


def lean(app, pagename, templatename, context, doctree):
    """A lesson on a phone should be short: no marks around names and signs that have no colour of their own."""
    if "body" in context:
        body = re.sub(r"<table\b.*?</table>", stacked, context["body"], flags=re.DOTALL)
        body = PLAIN.sub(r"\1", body)
        body = AFTER_FORMULA.sub("\\1&#8288;", body)
        body = re.sub(
            r'(<span class="(\w+)">[^<\n]*)</span>(?:<span class="\2">([^<\n]*)</span>)', r"\1\3</span>", body
        )
        body = re.sub(r'(<div class="cell(?:_input|_output)?) docutils container', r"\1 container", body)
        if pagename.startswith("notebooks/"):
            body = IMAGE.sub(lambda image: sized(app, image), body)
        if weight := WEIGHTS.get(pagename.rpartition("/")[0]):
            body = f'<div data-pagefind-weight="{weight}">{body}</div>'
        if pagename == "reference/commands":
            body = re.sub(r"(<pre[^>]*>)<span></span>(usage: .*?)</pre>", fitting, body, flags=re.DOTALL)
        context["body"] = body.replace('<math xmlns="http://www.w3.org/1998/Math/MathML"', "<math")


IMAGE = re.compile(r'<img (?=[^>]*?src="[^"]*_images/([^"/]+\.png)")')
NARROW = 520  # pixels, which a phone can show whole
WEIGHTS = {"notebooks/exercises": 0.3, "notebooks/solutions": 0.1}  # the search finds the lesson first


def sized(app, image):
    """Marks a narrow figure, which a phone shows as wide as its screen."""
    source = next((path for path, name in app.builder.images.items() if name == image[1]), None)
    if source is None:
        return image[0]
    width = int.from_bytes((Path(app.srcdir) / source).read_bytes()[16:20], "big")
    return f'{image[0]}class="fits" ' if width <= NARROW else image[0]


def fitting(shown):
    """What --help prints, for any width: lines that argparse has broken are whole again, and options are marked."""
    entries = [""]
    for line in shown[2].rstrip().split("\n"):
        begins, last = len(line) - len(line.lstrip()), entries[-1]
        if begins >= 10:  # goes on with the usage, or with the words on an option
            whole = last.startswith("usage:") or OPTION.fullmatch(last)
            entries[-1] += " " * (1 if whole else 2) + line.strip()
        elif line and not begins and last and last[0] != " " and last[-1] not in ".:":
            entries[-1] += f" {line}"
        else:
            entries.append(line)
    entries = [re.sub(r"(?<!\w)--[a-z][\w-]*", r'<span class="flag">\g<0></span>', entry) for entry in entries]
    marked = [OPTION.sub(r'<span class="option"><b>\1</b>\2</span>', entry) or "\n" for entry in entries[1:]]
    lines = [entry if entry[0] in "<\n" else f"<span>{entry}</span>" for entry in marked]
    return f"{shown[1]}{''.join(lines)}</pre>"


OPTION = re.compile(r"( +\S.*?) {2,}(\S.*)")


def stacked(table):
    """Marks a table with much text: on a phone its rows stand one under the other, each cell with its heading.

    In every table with a heading, a short cell stays in one line.
    """
    heads = [words(head) for head in re.findall(r"<th\b.*?</th>", table[0], re.DOTALL)]
    longest = max(len(words(row)) for row in re.findall(r"<tr\b.*?</tr>", table[0], re.DOTALL))
    if len(heads) < 2:
        return table[0]
    wide = longest >= 90 or unbreakable(table[0]) >= 45

    def row_of_cells(row):
        left = iter(heads)
        return re.sub(r"<td\b(.*?</td>)", lambda cell: marked(cell[1], next(left)), row[0], flags=re.DOTALL)

    def marked(cell, head):
        text = words(f"<td{cell}")
        short = " data-short" if len(text) <= 16 and re.search(r"[ .*]", text) else ""
        named = f' data-head="{head}"' if wide else ""
        return f"<td{named}{short}{cell}"

    table = re.sub(r"<tr\b.*?</tr>", row_of_cells, table[0], flags=re.DOTALL)
    return table.replace("<table", '<table data-stacked=""', 1) if wide else table


def unbreakable(table):
    """Columns of text that the table needs at least: the longest word of each of its columns, together."""
    rows = [
        re.findall(r"<t[dh]\b.*?</t[dh]>", row, re.DOTALL) for row in re.findall(r"<tr\b.*?</tr>", table, re.DOTALL)
    ]
    return sum(
        max(len(word) for cell in column for word in [*words(cell).split(), ""])
        for column in zip_longest(*rows, fillvalue="")
    )


def words(shown):
    return re.sub("<[^>]*>", "", shown).strip()


FOLDERS = {"notebooks/exercises": "../{}.html", "notebooks/solutions": "../{}.html", "source/tests": "../index.html"}


FIGURE = re.compile(
    r'<div (?=class="cell_output(?:(?!<div class="cell|</section>).)*?<img)', re.DOTALL
)  # printed lines before it, too


def neighbours(app, pagename, templatename, context, doctree):
    """Pages that the navigation does not list: the one before, the one after, and where they belong in it."""
    folder, _, name = pagename.rpartition("/")
    if folder not in FOLDERS:
        return
    pages = sorted(page for page in app.env.found_docs if page.rpartition("/")[0] == folder)
    at = pages.index(pagename)
    for key, page in (("prev", pages[at - 1] if at else None), ("next", dict(enumerate(pages)).get(at + 1))):
        if page:
            title = app.env.titles[page].astext()
            context[key] = {"link": app.builder.get_relative_uri(pagename, page), "title": title}
    home = f'<a class="reference internal" href="{FOLDERS[folder].format(name)}">'
    tree, marked = re.subn(
        f'<li class="([^"]*)">{re.escape(home)}',
        rf'<li class="\1 current-page">{home}',
        context["furo_navigation_tree"],
    )
    if not marked:
        raise ExtensionError(f"{pagename}: the navigation has no {home}")
    context["furo_navigation_tree"] = tree


def accessible(app, pagename, templatename, context, doctree):
    """What axe asks for, where the theme has no setting: levels of captions, and keys for what scrolls."""
    if "furo_navigation_tree" in context:
        tree = context["furo_navigation_tree"]
        context["furo_navigation_tree"] = tree.replace('role="heading"', 'role="heading" aria-level="2"')
    if "body" in context:
        body = context["body"].replace("<pre>", '<pre tabindex="0">')
        body = FIGURE.sub(r'<div tabindex="0" ', body)  # wide figures on a phone
        body = body.replace(' aria-label="Toggle hidden content"', "")  # the summary has words of its own
        context["body"] = body.replace('<div class="table-wrapper', '<div tabindex="0" class="table-wrapper')


def setup(app):
    app.connect("html-page-context", neighbours, priority=899)
    app.connect("html-page-context", accessible, priority=900)
    app.connect("html-page-context", lean, priority=901)
