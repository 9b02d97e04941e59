"""A picture says in words what it shows, wherever it is shown."""

import struct

import numpy as np
import pytest

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
