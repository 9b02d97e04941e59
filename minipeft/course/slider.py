"""A slider that needs no kernel: everything it can show is computed beforehand and travels with the page.

    slider("rank", positions=[1, 2, 4], captions=["r = 1: 52% ...", ...], images=[...])
    slider("alpha", positions=[1, 4, 16], captions=[...], x=steps, lines={"new text": [y1, y2, y3], "old text": [...]})

It works in Jupyter and on a static page; where scripts are not run (GitHub), the static figure above it has to do.
Numbers are rounded, so that the HTML is the same on every machine and can be compared like any other output.
"""

import html
import json

import numpy as np

from . import COLORS

LEVELS = "".join(map(chr, range(48, 58))) + "".join(map(chr, range(65, 91))) + "".join(map(chr, range(97, 123))) + "-_"
DASHES = ["", "7 4", "8 3 2 3", "2 3", "12 3"]

PAGE = """<figure class="slider" style="max-width:640px;margin:0;padding:8px;background:#fff;color:#222;font:14px/1.5 sans-serif">
<div style="font-weight:bold">{title}</div>
<div class="view" role="img" aria-label="{alt}"></div>
<label>{label} <input type="range" min="0" max="{last}" step="1" value="{start}" style="width:55%;vertical-align:middle" aria-label="{label}"> <b></b></label>
<div class="caption" aria-live="polite">{caption}</div>
<script>(() => {{
const f = document.currentScript.parentElement, d = {data};
{script}
}})()</script></figure>"""  # noqa: E501

SCRIPT = """const q = s => f.querySelector(s), i = q('input'), view = q('.view'), L = d.levels;
const svg = (y, k) => {
  const W = 600, H = 230, l = 52, r = 12, t = 10, b = 34, [x0, x1] = d.xlim, [y0, y1] = d.ylim;
  const X = v => l + (W - l - r) * (v - x0) / (x1 - x0), Y = v => t + (H - t - b) * (y1 - Math.max(y0, Math.min(y1, v))) / (y1 - y0);
  const T = (x, y, s, a) => `<text x="${x}" y="${y}" text-anchor="${a}" font-size="12" fill="#222">${s}</text>`;
  let o = `<svg viewBox="0 0 ${W} ${H + 20 * y.length}" style="width:100%" font-family="sans-serif">`;
  for (const [v, s] of d.yticks) o += `<path d="M${l} ${Y(v)}H${W - r}" stroke="#ddd"/>` + T(l - 6, Y(v) + 4, s, 'end');
  for (const [v, s] of d.xticks) o += T(X(v), H - b + 16, s, 'middle');
  o += T((l + W - r) / 2, H - 4, d.xlabel, 'middle');
  y.forEach((c, j) => { const p = c.data[c.data.length > 1 ? k : 0], a = `fill="none" stroke="${d.colors[j % 5]}" stroke-width="2.2" stroke-dasharray="${d.dashes[j % 5]}"`;
    o += `<path d="${p.map((v, n) => v === null ? '' : (n && p[n - 1] !== null ? 'L' : 'M') + X(d.x[n]).toFixed(1) + ' ' + Y(v).toFixed(1)).join('')}" ${a}/>`;
    o += `<path d="M${l} ${H + 6 + 20 * j}h40" ${a}/>` + T(l + 48, H + 10 + 20 * j, c.name, 'start'); });
  return o + '</svg>'; };
const draw = () => { const k = +i.value; q('b').textContent = d.positions[k]; q('.caption').textContent = d.captions[k];
  if (d.images) { const c = view.firstChild || view.appendChild(document.createElement('canvas')), m = d.images[k];
    c.width = d.size[1]; c.height = d.size[0]; c.style.cssText = 'width:' + d.show + 'px;image-rendering:pixelated';
    const x = c.getContext('2d'), p = x.createImageData(c.width, c.height);
    for (let n = 0; n < m.length; n++) { const g = Math.round(255 * L.indexOf(m[n]) / 63);
      p.data[4 * n] = p.data[4 * n + 1] = p.data[4 * n + 2] = g; p.data[4 * n + 3] = 255; }
    x.putImageData(p, 0, 0); }
  else view.innerHTML = svg(d.lines, k); };
i.addEventListener('input', draw); draw();"""  # noqa: E501


def slider(
    label, positions, captions, *, images=None, x=None, lines=None, xlabel="", ylim=None, logy=False, start=0,
    title="", alt="", width=256,
):  # fmt: skip
    """An HTML object with a slider: at each of `positions` it shows its caption and its image, or its lines.

    images: a matrix for each position, 0 black and 1 white.  lines: {name: a row of len(x) numbers for each position, or
    one row that stays}, over x; logy: draw log10 of them.  ylim: bounds of y (found, if not given; what lies outside is
    drawn at the edge).  start: number of the first position shown.  title, alt: what it is, for all readers.

    Raises: ValueError if the parts do not have the same number of positions
    """
    n = len(positions)
    if len(captions) != n or (images is not None and len(images) != n) or not 0 <= start < n:
        raise ValueError(f"{n} positions need {n} captions, as many images, and a start among them")
    if (images is None) == (lines is None):
        raise ValueError("give either images or lines")
    data = {"positions": [str(p) for p in positions], "captions": list(captions)}
    data |= image_data(images, width) if lines is None else line_data(x, lines, n, ylim, logy, xlabel)
    page = PAGE.format(
        title=html.escape(title), alt=html.escape(alt or title, quote=True), label=html.escape(label), last=n - 1,
        start=start, caption=html.escape(captions[start]), script=SCRIPT,
        data=json.dumps(data, separators=(",", ":"), ensure_ascii=False).replace("</", "<\\/"),
    )  # fmt: skip
    from IPython.display import HTML

    return HTML(page)


def image_data(images, width):
    """Grey in 64 levels, a character a pixel."""
    images = [np.clip(np.asarray(image, float), 0, 1) for image in images]
    letters = ["".join(LEVELS[v] for v in np.rint(63 * np.round(image, 6)).astype(int).ravel()) for image in images]
    return {"images": letters, "size": images[0].shape, "show": width, "levels": LEVELS}


def line_data(x, lines, n, ylim, logy, xlabel):
    """Rows of numbers, rounded to a two-thousandth of the height of the picture; null where there is none."""
    rows = {name: np.atleast_2d(np.asarray(y, float)) for name, y in lines.items()}
    for name, y in rows.items():
        if y.shape not in ((n, len(x)), (1, len(x))):
            raise ValueError(f"{name!r} has shape {y.shape}; it needs ({n}, {len(x)}), or (1, {len(x)}) if it stays")
    scale = np.log10 if logy else np.asarray
    rows = {name: scale(y) for name, y in rows.items()}
    if ylim is None:
        finite = np.concatenate([y[np.isfinite(y)] for y in rows.values()])
        low, high = float(finite.min()), float(finite.max())
    else:
        low, high = (float(v) for v in scale(np.asarray(ylim, float)))
    digits = max(0, int(np.ceil(3.3 - np.log10(max(high - low, 1e-12)))))
    low, high = round(low, digits), round(high, digits)

    def plain(y):
        return [[round(v, digits) + 0.0 if np.isfinite(v) else None for v in row] for row in y.tolist()]

    return {
        "x": [round(float(v), 6) for v in x], "xlim": [round(float(min(x)), 6), round(float(max(x)), 6)],
        "ylim": [low, high], "xticks": ticks(min(x), max(x)),
        "yticks": ticks_of_powers(low, high) if logy else ticks(low, high), "xlabel": xlabel,
        "lines": [{"name": name, "data": plain(y)} for name, y in rows.items()], "colors": COLORS[:5], "dashes": DASHES,
    }  # fmt: skip


def ticks(low, high):
    """[(place, text)] at three to six round numbers."""
    rough = (high - low) / 4
    power = 10.0 ** np.floor(np.log10(rough)) if rough > 0 else 1.0
    step = next(f * power for f in (1, 2, 2.5, 5, 10) if f * power >= rough * 0.999)
    places = np.arange(np.ceil(low / step - 1e-9), np.floor(high / step + 1e-9) + 1) * step
    return [[round(v, 6) + 0.0, f"{round(v, 6) + 0.0:g}"] for v in places.tolist()]


def ticks_of_powers(low, high):
    """[(log10 of it, text)] at powers of ten, or 1, 2, 5 times one where they are few."""
    exponents = range(int(np.floor(low)) - 1, int(np.ceil(high)) + 1)
    for steps in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 8)):
        values = [f * 10.0**e for e in exponents for f in steps if low <= np.log10(f * 10.0**e) <= high]
        if len(values) >= 3:
            break
    return [[round(float(np.log10(v)), 4), f"{v:g}"] for v in values]
