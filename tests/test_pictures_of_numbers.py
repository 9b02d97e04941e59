"""Pictures of numbers: lines, cells and words stand where the data say, and every name at what it names."""

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from specimens import tiny_model

from minipeft import LoRA, PrefixTuning, get_peft_model, load_base
from minipeft.commands.tour_figure import tour_figure
from minipeft.course import lesson_00, lesson_07, lesson_09
from minipeft.lab import (
    Sweep,
    attention_map,
    attention_weights,
    deltas,
    off_zero,
    plot_seeds,
    prefix_map,
    prefix_share,
    show_writing,
    spectrum,
    write,
)
from minipeft.lab.charts import farther_side, plot_heat, plot_lines
from minipeft.lab.ledger import count_parameters
from minipeft.lab.picture import COLORS, TRAINED, canvas
from minipeft.lab.spectra import rank_for
from minipeft.lab.symbols import Writing


def lines_of(axes):
    """(those drawn through their points, those of dots alone), each in the order of drawing."""
    lines = [line for line in axes.lines if len(line.get_xdata())]
    return [[line for line in lines if (line.get_linestyle() == "None") is dots] for dots in (False, True)]


def named(axes, text):
    """The words that say this: .xy is the point that they name."""
    (found,) = [one for one in axes.texts if one.get_text() == text]
    return found


def title(axes):
    return axes.get_title(loc="left")


def ticks(axis):
    return dict(zip((one.get_text() for one in axis.get_ticklabels()), axis.get_ticklocs(), strict=True))


def tiles(axes):
    """{(x, y): patch} of the unit squares, by their centres."""
    return {(round(one.get_x() + one.get_width() / 2, 6), round(one.get_y() + one.get_height() / 2, 6)): one
            for one in axes.patches if hasattr(one, "get_x") and one.get_facecolor()[3]}  # fmt: skip


def words(axes):
    """{(x, y): text}"""
    return {one.get_position(): one.get_text() for one in axes.texts}


def darker_where_larger(patches, values):
    """Are the patches the darker the larger their values?"""
    grey = np.array([np.dot(patch.get_facecolor()[:3], [0.299, 0.587, 0.114]) for patch in patches])[np.argsort(values)]
    return bool(grey[0] > grey[-1] and (np.diff(grey) <= 0).all())


# Charts

SERIES = {"A": ([1, 2, 4], [[1, 4], [5, 7], [6, np.nan]]), "B": ([1, 4], [[9], [8]])}
MEANS = {"A": [(1, 2.5), (2, 6), (4, 6)], "B": [(1, 9), (4, 8)]}


def test_lines_go_through_the_means_and_their_names_stand_at_the_ends():
    axes = plot_lines(SERIES, xlabel="rank", ylabel="loss").figure.axes[0]
    through, dots = lines_of(axes)
    for label, line in zip(SERIES, through, strict=True):
        assert list(map(tuple, line.get_xydata())) == MEANS[label]
        assert named(axes, label).xy == MEANS[label][-1]
        assert named(axes, label).get_color() == line.get_color()
    seeds = [(color, place, one) for color, (places, values) in zip(COLORS, SERIES.values(), strict=False)
             for place, some in zip(places, values, strict=True) for one in some]  # fmt: skip
    np.testing.assert_equal([(dot.get_color(), *point) for dot in dots for point in dot.get_xydata()], seeds)


def test_curves_of_seeds_are_thin_and_their_mean_is_thick():
    broken = [[4.0, 2.0, 1.0], [6.0, 3.0, np.nan]]
    picture = plot_seeds({"A": [[4.0, 2.0, 1.0], [6.0, 3.0]], "B": [[1.0, 1.5, 3.0]]}, level={"guessing": 2.77})
    axes = picture.figure.axes[0]
    *drawn, level = axes.lines
    np.testing.assert_equal([line.get_ydata() for line in drawn], [*broken, [5, 2.5, np.nan], *[[1, 1.5, 3]] * 2])
    widths = [line.get_linewidth() for line in drawn]
    assert max(widths[0], widths[1], widths[3]) < min(widths[2], widths[4])
    assert (named(axes, "A").xy, named(axes, "B").xy) == ((2, 2.5), (3, 3.0))
    assert named(axes, "guessing").xy[1] == level.get_ydata()[0] == 2.77
    assert "A: from 5 to 2.5, seeds 2 to 3" in picture.alt


@pytest.mark.parametrize(
    ("curve", "side"), [([0.06, 0.5, 1.0], "right"), ([1.0, 0.5, 0.06], "left"), ([1.0, 1, 1], "left")]
)
def test_the_name_of_a_level_stands_where_no_curve_ends(curve, side):
    axes = plot_seeds({"A": [curve]}, level={"guessing": 1 / 16}).figure.axes[0]
    assert named(axes, "guessing").get_ha() == side
    assert (named(axes, "guessing").xy[0] > 0.5) is (side == "right")


def test_a_bar_stands_at_the_mean_of_its_dots():
    results = {"A": [0.5, 0.75, np.nan], "B": [0.25, 0.25, 0.5]}
    picture = plot_seeds(results, ylabel="exact", format=".0%")
    axes = picture.figure.axes[0]
    assert "A: mean 62% (50%, 75%, wrecked)" in picture.alt
    assert ticks(axes.xaxis) == {"A\n(1 wrecked)": 0, "B": 1}
    for i, (values, dots, bar) in enumerate(zip(results.values(), axes.lines, axes.collections, strict=True)):
        np.testing.assert_equal(dots.get_ydata(), values)
        assert np.round(dots.get_xdata()).tolist() == [i] * 3
        assert bar.get_segments()[0].mean(0) == pytest.approx((i, np.nanmean(values)))


def test_results_that_no_chart_fits_are_refused():
    with pytest.raises(ValueError, match="results need"):
        plot_seeds({"A": np.ones((2, 2, 2))})


def test_cells_stand_at_their_names_and_are_the_darker_the_larger():
    cells = [[[1, 3], [5]], [[4], [np.nan, 1]], [[], [3]]]  # rows 1, 2 and 4; columns a and b
    axes = plot_heat(cells, ["a", "b"], [1, 2, 4]).figure.axes[0]
    x, y, said, patches = ticks(axes.xaxis), ticks(axes.yaxis), words(axes), tiles(axes)
    places = {(row, column): (x[column], y[row]) for row in "124" for column in "ab"}
    assert [said[place] for place in places.values()] == ["2", "5", "4", "1 of 2", "", "3"]
    assert axes.get_ylim()[0] < y["1"] < y["2"] < y["4"] < axes.get_ylim()[1]
    assert [place for place, patch in patches.items() if patch.get_hatch()] == [places["2", "b"]]
    whole = [patches[places[place]] for place in (("1", "a"), ("1", "b"), ("2", "a"), ("4", "b"))]
    assert darker_where_larger(whole, [2, 5, 4, 3])


# Attention


def prefixed():
    return off_zero(get_peft_model(tiny_model(), PrefixTuning(m=3)))


def test_a_map_is_darker_where_the_head_looks_more(ids):
    model = prefixed()
    picture = attention_map(model, ids[:1], layer=1, head=0, words=list("abcdef"), mark=[(3, 1)])
    p, axes = attention_weights(model, ids[:1])[1][0, 0], picture.figure.axes[0]
    assert f"layer 1, head 0: virtual tokens {p[:, :3].sum(1).mean():.2f}" in picture.alt
    assert [one.get_text() for one in axes.get_xticklabels()] == [*"PPP", *"abcdef"]
    queries, keys = axes.get_yticks(), axes.get_xticks().round(6)
    cells = {(x, y): p[t, s] for t, y in enumerate(queries) for s, x in enumerate(keys) if s <= 3 + t}
    patches = tiles(axes)
    assert set(patches) == set(cells)
    assert darker_where_larger([patches[place] for place in cells], list(cells.values()))
    framed = [one for one in axes.patches if one.get_edgecolor()[:3] == to_rgb(COLORS[0])]
    assert [(one.get_x() + 0.5, one.get_y() + 0.5) for one in framed] == [(1, 3)]


def test_a_map_for_each_head_or_for_some_queries(ids):
    model = prefixed()
    assert len(attention_map(model, ids[:1]).figure.axes) == 4
    assert len(attention_map(model, ids[0], layer=0, queries=slice(2, 4)).figure.axes[0].get_yticks()) == 2
    for wrong, said in (
        ({"layer": 2}, "layer must be"),
        ({"head": -1}, "head must be"),
        ({"words": ["a"]}, "6 tokens"),
    ):
        with pytest.raises(ValueError, match=said):
            attention_map(model, ids[:1], **wrong)
    with pytest.raises(ValueError, match="one sequence"):
        attention_map(model, ids)


def test_the_shares_of_a_prefix_stand_at_their_layer_and_head(ids):
    shares = prefix_share(prefixed(), ids)
    picture = prefix_map({"λ": shares, "half": shares / 2})
    for axes, (label, values) in zip(picture.figure.axes, (("λ", shares), ("half", shares / 2)), strict=True):
        assert title(axes) == label
        assert words(axes) == {(head, layer): f"{values[layer, head]:.2f}" for layer in (0, 1) for head in (0, 1)}
        assert darker_where_larger([tiles(axes)[h, i] for i, h in np.ndindex(2, 2)], values.ravel())
        assert f"{label}: layer 0: {values[0, 0]:.2f}, {values[0, 1]:.2f}" in picture.alt
    assert ticks(picture.figure.axes[0].yaxis) == {"layer 0": 0, "layer 1": 1}


# Changes


def test_the_spectrum_of_lora_has_its_rank():
    model = off_zero(get_peft_model(tiny_model(), LoRA(r=2)))
    picture = spectrum(model, "*.q_proj")
    assert picture.alt.count("2 of 8 above rounding") == 2
    axes = picture.figure.axes[0]
    s = np.linalg.svd(deltas(model)["h.0.attn.q_proj"], compute_uv=False)
    control, real = (line.get_ydata() for line in axes.lines[:2])
    np.testing.assert_allclose(real, s[:2])
    assert np.linalg.norm(control) == pytest.approx(np.linalg.norm(s))
    assert len(control) == 8
    k, k_random = rank_for(s, 0.9), rank_for(control, 0.9)
    assert k < k_random
    assert axes.lines[2].get_xdata() == [k, k]
    assert title(axes) == f"h.0.attn.q_proj: 90% in {k} (random: {k_random})"
    with pytest.raises(ValueError, match=r"'\*.k_proj' matches no matrix"):
        spectrum(model, "*.k_proj")


# Tiles


def test_tiles_are_dark_where_a_symbol_is_right(rng):
    reads, wanted = rng.integers(16, size=(2, 3, 8))
    right = rng.random((3, 8)) < 0.7
    picture = show_writing("near", {"mine": Writing(reads, wanted, np.where(right, wanted, (wanted + 1) % 16))})
    axes = picture.figure.axes[0]
    dark = {place: patch.get_facecolor()[:3] != (1, 1, 1) for place, patch in tiles(axes).items()}
    assert [dark[place] for place in sorted(dark)] == right.ravel().tolist()  # from left to right
    assert named(axes, f"{right.sum()} of 24")
    assert f"{right.sum()} right, of 24" in picture.alt


def test_a_model_stands_beside_what_was_written_for_the_same_sequences_and_no_others():
    symbols = load_base("symbols", "float32")
    assert show_writing("near", {"base": symbols, "kept": write(symbols, "near", 3)}).alt.count(": 0 right") == 2
    with pytest.raises(ValueError, match="'other' was written for other sequences"):
        show_writing("near", {"base": symbols, "other": write(symbols, "near", 3, seed=6)})


# The tour


def test_each_method_of_the_tour_has_its_curve_its_point_and_its_share_of_the_gain(tmp_path):
    bits = {"LoRA": [2.5, 2.0], "full": [2.0, 1.0], "prompt": [3.5, 3.25]}
    numbers = {"LoRA": 100, "full": 10_000, "prompt": 10}
    rows = [{"label": name, "val_step": [1, 4], "bits": bits[name], "trained": numbers[name], "share": numbers[name] / 1e4}
            for name in bits]  # fmt: skip
    curves, quality = tour_figure(rows, 3.0, tmp_path / "a.png").axes
    *points, before = quality.lines
    for name, curve, point in zip(bits, curves.lines, points, strict=True):
        assert curve.get_xydata().tolist() == [[1, bits[name][0]], [4, bits[name][1]]]
        assert named(curves, name).xy == (4, bits[name][1])
        assert point.get_xydata().tolist() == [[numbers[name], bits[name][1]]]
        assert named(quality, name).xy == (numbers[name], bits[name][1])
        assert curve.get_color() == point.get_color() == named(curves, name).get_color()
    assert set(before.get_ydata()) == {named(quality, "before training").xy[1]} == {3.0}
    assert title(curves) == "2 of 3 methods learn the new text"
    assert title(quality) == "LoRA: 1.0% of the numbers, 50% of the gain"


# Lessons


def test_the_blue_part_of_a_square_is_the_share_that_is_trained():
    axes = lesson_00.draw_to_scale(base="symbols").figure.axes[0]
    area = [one.get_width() * one.get_height() for one in axes.patches]
    blue = [one.get_facecolor()[:3] == to_rgb(TRAINED) for one in axes.patches]
    assert blue == [False, True] * 5
    for method, whole, part in zip(lesson_00.FIVE.values(), area[::2], area[1::2], strict=True):
        trained, total = count_parameters(get_peft_model(load_base("symbols"), method))
        assert part / whole == pytest.approx(trained / total)


def test_each_wall_has_its_rank(monkeypatch):
    rows = [({"r": r}, 0, {"right": [0.0, r / 40, r / 20]}) for r in (1, 16)]
    learned = Sweep(["r"], [point for point, _, _ in rows], (0,), rows)
    monkeypatch.setattr(lesson_07, "sweep", lambda *arguments, **options: learned)
    left, right = lesson_07.wall_or_slowness(steps=20, stop=10).figure.axes
    for r, line in zip((1, 3, 6), left.lines, strict=True):
        assert np.array_equal(line.get_ydata(), lesson_07.walls(lesson_07.teacher(), r, 400))
        name = named(left, f"rank {r}")
        assert (name.get_position()[1], name.get_color()) == (line.get_ydata()[-1], line.get_color())
    assert title(left) == "A wall stays (rank 1 at 55, rank 3 at 14)"  # 5² + 4² + 3² + 2² + 1², and 3² + 2² + 1²
    for r, line in zip((1, 16), lines_of(right)[0], strict=False):
        assert line.get_xydata().tolist() == [[0, 0], [10, r / 40], [20, r / 20]]
        assert named(right, f"rank {r}").get_color() == line.get_color()
    assert title(right) == "Slowness goes away (rank 1: 2%, then 5%)"


def test_the_windows_have_the_lines_of_their_tasks(monkeypatch):
    rates, shares = [1e-4, 1e-3, 2e-3, 1e-2], {"near": [0.0, 0.95, 1.0, 1.0], "reverse": [1.0, 1.0, 0.9, 0.2]}
    rows = [({"method": method, "lr": lr}, 0, {"near": shares["near"][i] / k, "reverse": shares["reverse"][i] / k})
            for k, method in enumerate(lesson_09.METHODS, 1) for i, lr in enumerate(rates)]  # fmt: skip
    found = Sweep(["method", "lr"], [point for point, _, _ in rows], (0,), rows)
    monkeypatch.setattr(lesson_09, "windows", lambda: found)
    upper, lower = lesson_09.draw_windows().figure.axes
    for task, name in (("near", "near, new "), ("reverse", "reverse, old")):
        for k, axes in enumerate((upper, lower), 1):
            drawn = [line for line in axes.lines if line.get_color() == named(upper, name).get_color()]
            assert all(line.get_ydata().ravel().tolist() == [share / k for share in shares[task]] for line in drawn)
            assert len(drawn) == 2  # the mean, and the dots
    (window,) = upper.patches  # in the lower one neither is right at any rate
    assert not lower.patches
    edges = upper.transData.inverted().transform(window.get_window_extent())[:, 0]
    assert edges == pytest.approx((1e-3, 2e-3))


@pytest.mark.parametrize(
    ("line", "place"),
    [([5, 5, 5], (0.995, "right", 7)), ([9, 9, 9], (0.005, "left", 4)), ([5, 9, 9], (0.995, "right", 4)),
     ([9, 9, 5], (0.005, "left", 4)), (None, (0.005, "left", 4))],
    ids=["along", "far", "begins there", "ends there", "none"],
)  # fmt: skip
def test_the_name_of_a_level_keeps_away_from_lines(line, place):
    _, axes = canvas(4, 3)
    axes.set(xlim=(0, 2), ylim=(0, 10))
    drawn = [] if line is None else [np.array(list(zip(range(3), line, strict=True)), float)]
    assert farther_side(axes, drawn, 5) == place
