"""LoRA's two lanes, forward and back."""

from ...validation import is_whole
from ..picture import FROZEN, TRAINED, Picture
from .shapes import BACK, INK, QUIET, Pen, blank, heading, typeset

SIDE, THIN, THICK = 66, 17, 30  # of the largest matrix, and the limits of what r is drawn as, in points
PAGE, LEFT, RIGHT = (748, 222), 352, 368  # both panels; how wide the left one is alone; where the right one begins
UP, LOW, MIDDLE = 160, 78, 119  # heights of the two lanes, and of x and y
ROOM = 36  # for dx, at the left of the right panel


def draw_lora(d_in="d_in", d_out="d_out", r="r", backward=True, solved=True):
    """LoRA's two lanes: y = x W + s x A B, and what comes back, dh = s dy Bᵀ, dB = (s h)ᵀ dy, dA = xᵀ dh, dx.

    d_in, d_out, r: numbers, to which the matrices are drawn (r within limits), or names
    backward: the way back, too
    solved: with the gradients, or with a question mark in place of each

    Raises: ValueError for a rank above min(d_in, d_out), or a number that is no whole one
    """
    numbers = [n for n in (d_in, d_out, r) if not isinstance(n, str)]
    if not all(is_whole(n, 1) for n in numbers):
        raise ValueError(f"d_in, d_out and r must be whole numbers of at least 1, or names; not {d_in}, {d_out}, {r}")
    if len(numbers) == 3 and r > min(d_in, d_out):
        raise ValueError(f"r must be at most min(d_in, d_out) = {min(d_in, d_out)}, not {r}")
    tall, wide, thin = sides(d_in, d_out, r)
    width, height = PAGE
    pen = Pen(width if backward else LEFT, height)
    lora_forward(pen, 0, (tall, wide, thin), (d_in, d_out, r))
    if backward:
        lora_backward(pen, RIGHT, (tall, wide, thin), solved)
    alt = (f"{'Two panels. Forward: ' if backward else ''}x goes two ways. The upper one leads through a grey square, W, "
           f"frozen, {d_in} × {d_out}. The lower one leads through a tall blue A, {d_in} × {r}, to a short h, through a "
           f"wide blue B, {r} × {d_out}, and is multiplied by s. A plus joins them to y.")  # fmt: skip
    if backward:
        alt += " Back, from right to left: dy goes both ways; the lower one gives dh between B and A; "
        alt += "a plus joins both to dx. "
        alt += ("dB = s hᵀ dy, dA = xᵀ dh, dx = dy Wᵀ + dh Aᵀ, with dh = s dy Bᵀ."
                if solved else "dB, dA and dx are question marks.")  # fmt: skip
    return Picture(pen.figure, alt)


def sides(d_in, d_out, r):
    """(height of W, width of W, r) in points; what is no number has its usual size."""
    if isinstance(d_in, str) or isinstance(d_out, str):
        return SIDE, SIDE, THIN
    unit = SIDE / max(d_in, d_out)
    tall, wide = (max(THIN, n * unit) for n in (d_in, d_out))
    return tall, wide, THIN if isinstance(r, str) else min(max(THIN, r * unit), THICK, tall, wide)


def three_matrices(pen, x, sizes):
    """W, A and B where they stand in both panels."""
    tall, wide, thin = sizes
    pen.tile(x + 165 - wide / 2, UP - tall / 2, wide, tall, FROZEN, QUIET)
    pen.tile(x + 95 - thin / 2, LOW - tall / 2, thin, tall, TRAINED)
    pen.tile(x + 203 - wide / 2, LOW - thin / 2, wide, thin, TRAINED)
    for at, level, name, color in ((165, UP, "W", INK), (95, LOW, "A", "white"), (203, LOW, "B", "white")):
        pen.text(x + at, level, name, 12, color, va="center_baseline")


def lora_forward(pen, x, sizes, names):
    (tall, wide, thin), (d_in, d_out, r) = sizes, map(typeset, names)
    heading(pen, x + 8, 210, "forward")
    pen.text(x + 14, MIDDLE + 9, "x", 13)
    look = {"lw": 1.5}
    pen.wire((x + 8, MIDDLE), (x + 40, MIDDLE), head=False, **look)
    pen.wire((x + 40, MIDDLE), (x + 40, UP), (x + 165 - wide / 2, UP), **look)
    pen.wire((x + 40, MIDDLE), (x + 40, LOW), (x + 95 - thin / 2, LOW), **look)
    pen.wire((x + 95 + thin / 2, LOW), (x + 203 - wide / 2, LOW), **look)
    pen.wire((x + 203 + wide / 2, LOW), (x + 259, LOW), head=False, **look)
    pen.wire((x + 277, LOW), (x + 300, LOW), (x + 300, MIDDLE - 9), **look)
    pen.wire((x + 165 + wide / 2, UP), (x + 300, UP), (x + 300, MIDDLE + 9), **look)
    pen.wire((x + 309, MIDDLE), (x + 344, MIDDLE), **look)
    three_matrices(pen, x, sizes)
    pen.knot(x + 300, MIDDLE, r=9)
    pen.knot(x + 268, LOW, "s", r=9)
    pen.text(x + 330, MIDDLE + 11, "y", 13)
    pen.text(x + 136, LOW + 9, "h", 13)
    pen.text(x + 165 + wide / 2 + 5, UP + 20, f"frozen\n{d_in} × {d_out}", 9, QUIET, ha="left")
    pen.text(x + 95, LOW - tall / 2 - 4, f"trained\n{d_in} × {r}", 9, TRAINED, va="top")
    pen.text(x + 203, LOW - thin / 2 - 4, f"trained\n{r} × {d_out}", 9, TRAINED, va="top")
    pen.text(x + 273, LOW - 14, "one number,\nα / r", 9, QUIET, va="top")


def lora_backward(pen, x, sizes, solved):
    tall, wide, thin = sizes
    heading(pen, x + 8, 210, "and back")
    x += ROOM
    look = {"color": BACK, "lw": 1.5}
    pen.text(x + 330, MIDDLE + 9, "dy", 13, BACK)
    pen.wire((x + 340, MIDDLE), (x + 300, MIDDLE), head=False, **look)
    pen.wire((x + 300, MIDDLE), (x + 300, UP), (x + 165 + wide / 2, UP), **look)
    pen.wire((x + 300, MIDDLE), (x + 300, LOW), (x + 277, LOW), head=False, **look)
    pen.wire((x + 259, LOW), (x + 203 + wide / 2, LOW), **look)
    pen.wire((x + 203 - wide / 2, LOW), (x + 95 + thin / 2, LOW), **look)
    pen.wire((x + 95 - thin / 2, LOW), (x + 40, LOW), (x + 40, MIDDLE - 9), **look)
    pen.wire((x + 165 - wide / 2, UP), (x + 40, UP), (x + 40, MIDDLE + 9), **look)
    pen.wire((x + 31, MIDDLE), (x + 19, MIDDLE), **look)
    pen.wire((x + 203, LOW - thin / 2), (x + 203, LOW - thin / 2 - 13), **look)
    pen.wire((x + 95, LOW - tall / 2), (x + 95, LOW - tall / 2 - 12), **look)
    three_matrices(pen, x, sizes)
    pen.knot(x + 40, MIDDLE, color=BACK, r=9)
    pen.knot(x + 268, LOW, "s", BACK, r=9)
    pen.text(x + 165 + wide / 2 + 5, UP + 20, "no dW:\nW is frozen", 9, QUIET, ha="left")
    if solved:
        pen.text(x + 48, UP + 10, "dy Wᵀ", 11, BACK, ha="left")
        pen.text(x + 46, LOW - 11, "dh Aᵀ", 11, BACK, ha="left")
        pen.text(x + 111, LOW + thin / 2 + 10.5, "dh = s dy Bᵀ", 11, BACK, ha="left")
    else:
        pen.text(x + 138, LOW + 10, "dh", 13, BACK)
    blank(pen, x + 203, LOW - thin / 2 - 25, "dB = s hᵀ dy" if solved else "dB = ?", solved)
    blank(pen, x + 95, LOW - tall / 2 - 24, "dA = xᵀ dh" if solved else "dA = ?", solved)
    blank(pen, x + 18, MIDDLE, "dx =\ndy Wᵀ\n+ dh Aᵀ" if solved else "dx = ?", solved, ha="right")
