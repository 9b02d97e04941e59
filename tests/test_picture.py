"""A picture says in words what it shows, wherever it is shown."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from minipeft.lab.picture import Picture, canvas


@pytest.fixture
def picture():
    figure, axes = canvas(4, 2)
    axes.plot([1, 2, 3])
    return Picture(figure, "A line that rises.")


def test_a_notebook_gets_png_with_its_alt_text_and_the_text_alone(picture):
    data, metadata = picture._repr_mimebundle_()
    width, height = struct.unpack(">II", data["image/png"][16:24])
    assert (width, height) == (400, 200)
    assert data["text/plain"] == metadata["image/png"]["alt"] == repr(picture) == "A line that rises."


def test_the_small_png_looks_like_the_drawn_one(picture, tmp_path):
    """Few colours make notebooks small.  Some pixels on the edges of letters and dots may differ, no area does."""
    axes = picture.figure.axes[0]
    axes.imshow(np.linspace(0, 1, 64 * 96).reshape(64, 96), cmap="gray", aspect="auto", extent=axes.axis())
    picture.save(tmp_path / "drawn.png", dpi=100)
    small = Image.open(io.BytesIO(picture.small_png()))
    drawn = Image.open(tmp_path / "drawn.png").convert("RGB")
    apart = np.abs(np.asarray(small.convert("RGB"), float) - np.asarray(drawn, float)).max(axis=2)
    assert small.size == drawn.size
    assert len(picture.small_png()) < (tmp_path / "drawn.png").stat().st_size / 1.5
    assert apart.mean() < 1
    assert np.quantile(apart, 0.99) <= 16  # of 255
    assert small.convert("RGB").getpixel((0, 0)) == (255, 255, 255)  # the page stays white


def test_the_same_picture_gives_the_same_bytes(picture):
    assert picture._repr_mimebundle_() == picture._repr_mimebundle_()


def test_ipython_shows_it_with_its_metadata(picture):
    core = pytest.importorskip("IPython.core.formatters")
    data, metadata = core.DisplayFormatter().format(picture)
    assert {"image/png", "text/plain"} <= set(data)
    assert metadata["image/png"]["alt"] == "A line that rises."


@pytest.mark.parametrize(("suffix", "begins"), [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml")])
def test_save_writes_for_print(picture, tmp_path, suffix, begins):
    picture.save(tmp_path / f"a.{suffix}")
    assert (tmp_path / f"a.{suffix}").read_bytes().startswith(begins)


def test_the_canvas_can_hold_several(tmp_path):
    _, axes = canvas(4, 2, 2, 3)
    assert np.shape(axes) == (2, 3)


def test_lines_are_solid_whatever_style_is_set():
    import matplotlib as mpl

    with mpl.rc_context({"axes.prop_cycle": mpl.cycler(linestyle=["--", ":"])}):
        _, axes = canvas(4, 2)
    assert {axes.plot([1, 2])[0].get_linestyle() for _ in range(3)} == {"-"}
