"""Make exercises from solutions: NN.md with the answers cut out.

In code, between `# SOLUTION` and `# END` stands the answer.  It gives way to `raise NotImplementedError`, or to what
`# BLANK` lines above it say (code with a bug in it, say):

    # BLANK dx = dy @ W
    # SOLUTION
    dx = dy @ W.T
    # END

A line that ends in `# ANSWER` becomes `name = ...`.  In text, what stands between `<!-- SOLUTION -->` and `<!-- END -->`
is cut.
"""

import re

CODE = re.compile(r"(?P<blank>(?:^[ ]*# BLANK[^\n]*\n)*)^(?P<indent>[ ]*)# SOLUTION\n.*?^[ ]*# END\n", re.M | re.S)
LINE = re.compile(r"^([ ]*\w+ = ).*?  # ANSWER.*$", re.M)
TEXT = re.compile(r"<!-- SOLUTION -->.*?<!-- END -->", re.S)


def blank(match):
    lines = match["blank"].splitlines()
    if not lines:
        return f"{match['indent']}raise NotImplementedError  # your code here\n"
    return "".join(re.sub(r"# BLANK ?", "", line).rstrip() + "\n" for line in lines)


def exercises(solutions):
    """The Markdown of the exercises, from that of the solutions."""
    text = LINE.sub(r"\1...  # your answer here", CODE.sub(blank, solutions))
    text = TEXT.sub("*(Your answer here.)*", text)
    return re.sub(r"^(# .*?), solved$", r"\1", text, count=1, flags=re.M)
