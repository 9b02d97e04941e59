"""Build the site:  python docs/build.py     into build/site/html; needs the extra `docs`, and no network.

The pages are the lessons with their stored outputs (nothing is executed), the source of minipeft, its reference, and the
pages of this folder.  Every warning is an error.
"""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT, SITE = HERE.parent, HERE.parent / "build" / "site"
sys.path[:0] = [str(HERE), str(ROOT)]


def main():
    import pages
    from sphinx.cmd.build import build_main

    began = time.perf_counter()
    shutil.rmtree(SITE, ignore_errors=True)
    pages.write(SITE / "src", SITE / "extra")
    options = ["-W", "--keep-going", "-q", "-c", str(HERE), "-d", str(SITE / "doctrees")]
    options += ["-D", f"html_extra_path={SITE / 'extra'}"]
    if status := build_main([*options, str(SITE / "src"), str(SITE / "html")]):
        return status
    command = [sys.executable, "-m", "pagefind", "--quiet", "--site", str(SITE / "html"), "--root-selector", "article"]
    command += ["--exclude-selectors", ".headerlink, .tests-code, .katex-mathml, ul.bar"]
    subprocess.run(command, check=True, env=os.environ)
    number = len(list((SITE / "html").rglob("*.html")))
    print(f"{number} pages in {time.perf_counter() - began:.0f} s: {(SITE / 'html' / 'index.html').relative_to(ROOT)}")
    print(f"with its search: python -m http.server -d {(SITE / 'html').relative_to(ROOT)}, then http://localhost:8000")
    return 0


if __name__ == "__main__":
    sys.exit(main())
