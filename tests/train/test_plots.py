"""Parity plots and learning curves: what is drawn, and what is refused."""

from __future__ import annotations

import sys

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from forcefield.train import plots
from forcefield.train.plots import learning_curve_plot, parity_plot
from forcefield.units import GPA

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def figures(monkeypatch):
    """The figures that were written, to look into."""
    made = []
    save = plots._save

    def keep(figure, path):
        made.append(figure)
        return save(figure, path)

    monkeypatch.setattr(plots, "_save", keep)
    return made


def test_parity_plot_shows_errors_in_shown_units_and_leaves_out_nan(tmp_path, figures):
    stress = np.array([[1.0, -2.0, np.nan], [0.5, 3.0, 0.0]]) * GPA
    pairs = {
        "energy": (np.array([-1.0, -2.0, np.nan]), np.array([-1.1, -1.8, 5.0])),
        "stress": (stress, stress + 0.25 * GPA),
    }
    path = parity_plot(pairs, tmp_path / "new" / "parity.png", title="a model")
    assert path.read_bytes()[:8] == PNG
    energy, pressure = figures[0].axes
    assert energy.texts[0].get_text() == "MAE 0.15 eV/atom\nRMSE 0.158 eV/atom\n2 values"
    assert pressure.texts[0].get_text() == "MAE 0.25 GPa\nRMSE 0.25 GPa\n5 values"
    np.testing.assert_allclose(energy.lines[1].get_xydata(), [[-1.0, -1.1], [-2.0, -1.8]])


def test_many_points_are_drawn_as_density_and_all_counted(tmp_path, figures):
    labels = np.random.default_rng(0).normal(size=(1500, 3))
    parity_plot({"forces": (labels, labels + 0.1)}, tmp_path / "parity.png")
    (panel,) = figures[0].axes
    assert panel.collections[0].get_array().sum() == labels.size


def test_parity_plot_of_equal_values(tmp_path):
    assert parity_plot({"energy": (np.ones(1), np.ones(1))}, tmp_path / "one.png").read_bytes()[:8] == PNG


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ({"charge": (np.ones(2), np.ones(2))}, "parity plot of 'charge'"),
        ({"energy": (np.ones(2), np.ones(3))}, r"labels have shape \(2,\), predictions \(3,\)"),
        ({"energy": (np.full(2, np.nan), np.ones(2))}, "nothing to draw"),
        ({}, "nothing to draw"),
    ],
)
def test_impossible_parity_plots_are_refused(tmp_path, pairs, message):
    with pytest.raises(ValueError, match=message):
        parity_plot(pairs, tmp_path / "parity.png")
    assert not list(tmp_path.iterdir())


LOG = """event,step,lr,loss,forces,forces_mae
train,10,0.1,2.0,0.5,
train,20,0.1,1.0,0.25,
validation,20,0.1,,,0.3
train,30,0.1,0.5,0.1
train,40,0.1,0"""  # the last line is cut short


def test_learning_curves_by_quantity_and_event(tmp_path, figures):
    (tmp_path / "log.csv").write_text(LOG)
    assert learning_curve_plot(tmp_path / "log.csv", tmp_path / "curve.png").read_bytes()[:8] == PNG
    loss, forces = figures[0].axes
    np.testing.assert_array_equal(loss.lines[0].get_xydata(), [[10, 2], [20, 1], [30, 0.5]])
    assert [line.get_label() for line in forces.lines] == ["train forces", "validation forces_mae"]
    np.testing.assert_array_equal(forces.lines[1].get_xydata(), [[20, 0.3]])
    assert loss.get_yscale() == "log"


def test_several_logs_share_the_panels(tmp_path, figures):
    (tmp_path / "train.csv").write_text("step,loss,forces\n1,2,3\n2,1,2\n")
    (tmp_path / "validation.csv").write_text("step,forces_mae\n2,4\n")
    learning_curve_plot([tmp_path / "train.csv", tmp_path / "validation.csv"], tmp_path / "curve.png")
    _, forces = figures[0].axes
    assert [line.get_label() for line in forces.lines] == ["train forces", "validation forces_mae"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch,loss\n1,2\n", "no column step"),
        ("step,lr\n1,2\n", "no curve to draw"),
        ("step,loss\n1,\n", "no curve to draw"),
        ("step,loss\n1,low\n", "line 2.*'low'"),
        ("", "no column step"),
    ],
)
def test_files_that_are_no_log_are_refused(tmp_path, text, message):
    (tmp_path / "log.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        learning_curve_plot(tmp_path / "log.csv", tmp_path / "curve.png")


def test_missing_matplotlib_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"gnn-forcefield\[plot\]"):
        parity_plot({"energy": (np.ones(1), np.ones(1))}, tmp_path / "one.png")


def test_no_back_end_is_chosen(tmp_path):
    import matplotlib

    before = matplotlib.rcParams["backend"] if "matplotlib.pyplot" in sys.modules else None
    parity_plot({"energy": (np.ones(1), np.ones(1))}, tmp_path / "one.png")
    assert before is not None or "matplotlib.pyplot" not in sys.modules
