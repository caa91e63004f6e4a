"""`forcefield data sample` and `label`, from structures to labelled frames."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.emt import EMT as EMTCalculator
from ase.io import read, write
from typer.testing import CliRunner

import forcefield
from forcefield.cli import app
from forcefield.data.store import FrameStore

EMT = "ase.calculators.emt:EMT"
SAMPLE = ["--rattled", "2", "--strained", "1", "--slab", "1", "--vacancy", "1", "--max-atoms", "12"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    write(tmp_path / "Cu.cif", bulk("Cu", a=3.6, cubic=True))
    write(tmp_path / "two.extxyz", [bulk("Al", a=4.05), molecule("CO")])
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments):
    return CliRunner().invoke(app, ["data", *map(str, arguments)])


def described(path):
    return sorted(
        (atoms.info["parent"], atoms.info["kind"], atoms.positions.tobytes(), atoms.cell.array.tobytes())
        for atoms in read(path, ":")
    )


def test_sample_writes_frames_with_their_origin(folder):
    result = run("sample", "Cu.cif", "two.extxyz", "-o", "out.extxyz", *SAMPLE)
    assert result.exit_code == 0, result.output
    frames = read("out.extxyz", ":")
    assert len(frames) == 5 + 5 + 2
    assert {atoms.info["parent"] for atoms in frames} == {"Cu.cif #0", "two.extxyz #0", "two.extxyz #1"}
    assert {atoms.info["material"] for atoms in frames} == {"Cu", "Al", "CO"}
    lines = result.stdout.splitlines()
    assert lines[1].split() == ["rattled", "6"]
    assert lines[-1] == "12 frames of 3 structures in out.extxyz"
    assert [line for line in lines if line.startswith("no slab of 1 structure: the structure is not periodic")]
    assert not list(folder.glob("*.partial"))


def test_order_of_files_does_not_matter_but_the_seed_does(folder):
    for name, files, seed in (("a", ["Cu.cif", "two.extxyz"], 1), ("b", ["two.extxyz", "Cu.cif"], 1)):
        assert run("sample", *files, "-o", f"{name}.extxyz", "--seed", seed, *SAMPLE).exit_code == 0
    assert run("sample", "Cu.cif", "two.extxyz", "-o", "c.extxyz", "--seed", "2", *SAMPLE).exit_code == 0
    assert described("a.extxyz") == described("b.extxyz")
    assert not set(described("a.extxyz")) & set(described("c.extxyz"))


def test_a_calculator_makes_hot_frames_and_relaxations(folder):
    arguments = ["sample", "Cu.cif", "two.extxyz", "--hot", "2", "--relaxation", "2", "--max-atoms", "8"]
    result = run(*arguments, "-o", "out.extxyz", "--calculator", EMT)
    assert result.exit_code == 0, result.output
    frames = read("out.extxyz", ":")
    assert [atoms.info["kind"] for atoms in frames[:4]] == ["hot", "hot", "relaxation", "relaxation"]
    assert {atoms.info["parent"] for atoms in frames} == {"Cu.cif #0", "two.extxyz #0", "two.extxyz #1"}
    result = run(*arguments, "-o", "model.extxyz")  # the default model moves them
    assert result.exit_code == 0, result.output
    assert len(read("model.extxyz", ":")) == len(frames)
    assert not np.allclose(read("model.extxyz", 0).positions, frames[0].positions)


@pytest.mark.parametrize("cut", [0, 40])
def test_a_killed_sampling_goes_on_to_the_same_file(folder, monkeypatch, cut):
    """Killed at the second structure, the last bytes of both files lost in part."""
    from forcefield.data.sample_file import SampleFile

    arguments = ["sample", "Cu.cif", "two.extxyz", *SAMPLE, "--hot", "1", "--calculator", EMT]
    assert run(*arguments, "-o", "whole.extxyz").exit_code == 0
    add, calls = SampleFile.add, []

    def killed(self, *details):
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(details)
        add(self, *details)

    with monkeypatch.context() as patch:
        patch.setattr(SampleFile, "add", killed)
        result = run(*arguments, "-o", "out.extxyz")
    assert result.exit_code == 130 and "the same command goes on" in result.output
    assert not Path("out.extxyz").exists()
    if cut:
        journal = Path("out.extxyz.partial.jsonl")
        journal.write_bytes(journal.read_bytes()[:-cut])
    result = run(*arguments, "-o", "out.extxyz")
    assert result.exit_code == 0, result.output
    assert f"{2 if not cut else 1} of which were done before" in result.output
    assert Path("out.extxyz").read_bytes() == Path("whole.extxyz").read_bytes()
    assert not list(folder.glob("*.partial*"))


def test_a_partial_sampling_with_other_settings_or_files_is_not_taken_up(folder):
    from forcefield.data.sample_file import SampleFile

    with SampleFile(Path("made.extxyz"), {"seed": 0}) as file:
        file.fail("Cu.cif #0", "broken")
    assert not list(folder.glob("made*"))
    with pytest.raises(RuntimeError), SampleFile(Path("made.extxyz"), {"seed": 0}) as file:
        file.fail("Cu.cif #0", "broken")
        raise RuntimeError
    with pytest.raises(ValueError, match="begun with other seed"):
        SampleFile(Path("made.extxyz"), {"seed": 1})
    with pytest.raises(ValueError, match="begun with other files: Cu.cif #0 came where Al.cif #0"):
        SampleFile(Path("made.extxyz"), {"seed": 0}).has(0, "Al.cif #0")
    again = SampleFile(Path("made.extxyz"), {"seed": 0})
    assert again.has(0, "Cu.cif #0") and not again.has(1, "Al.cif #0") and again.faults == ["Cu.cif #0: broken"]


def test_a_journal_without_its_frames_is_begun_anew(folder):
    from forcefield.data.sample_file import SampleFile

    atoms = bulk("Cu")
    atoms.info["kind"] = "rattled"
    with pytest.raises(RuntimeError), SampleFile(Path("made.extxyz"), {"seed": 0}) as file:
        file.add("Cu.cif #0", [atoms], [])
        raise RuntimeError
    assert SampleFile(Path("made.extxyz"), {"seed": 0}).taken_up == 1
    Path("made.extxyz.partial").unlink()
    with SampleFile(Path("made.extxyz"), {"seed": 0}) as file:
        assert file.taken_up == 0
        file.add("Cu.cif #0", [atoms], [])
    assert len(read("made.extxyz", ":")) == 1 and not list(folder.glob("*.partial*"))


def test_substitution_with_given_elements(folder):
    result = run("sample", "Cu.cif", "-o", "out.extxyz", "--substituted", "8", "--elements", "Ag,Au")
    assert result.exit_code == 0
    assert {str(atoms.symbols) for atoms in read("out.extxyz", ":")} == {"Ag4", "Au4"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["Cu.cif", "-o", "out.extxyz"], "no frame was asked for"),
        (["Cu.cif", "-o", "two.extxyz", "--rattled", "1"], "two.extxyz exists"),
        (["Cu.cif", "-o", "out.extxyz", "--substituted", "1", "--elements", "Xx"], "unknown: ['Xx']"),
        (["missing.cif", "-o", "out.extxyz", "--rattled", "1"], "missing.cif"),
    ],
)
def test_sample_refuses_in_one_line(folder, arguments, message):
    result = run("sample", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr and len(result.stderr.strip().splitlines()) == 1
    assert not (folder / "out.extxyz").exists()


def test_label_with_a_calculator_from_the_current_folder(folder):
    (folder / "mine.py").write_text("from ase.calculators.emt import EMT\nclass Mine(EMT):\n    pass\n")
    run("sample", "Cu.cif", "-o", "in.extxyz", "--rattled", "5")
    result = run("label", "in.extxyz", "-o", "out.extxyz", "--calculator", "mine:Mine", "--workers", "2")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1] == "5 of 5 frames labelled; they are in out.extxyz"
    for before, after in zip(read("in.extxyz", ":"), read("out.extxyz", ":"), strict=True):
        before.calc = EMTCalculator()
        assert after.get_potential_energy() == pytest.approx(before.get_potential_energy(), abs=1e-10)
        np.testing.assert_allclose(after.get_forces(), before.get_forces(), atol=1e-8)
        assert after.info["labelled_by"] == "mine:Mine" and after.info["kind"] == "rattled"
    again = run("label", "in.extxyz", "-o", "out.extxyz", "--calculator", "mine:Mine")
    assert again.stdout.splitlines()[-1] == "0 of 5 frames labelled, 5 were there already; they are in out.extxyz"
    refused = run("label", "in.extxyz", "-o", "out.extxyz", "--calculator", "mine:Mine", "--no-resume")
    assert refused.exit_code == 2 and "exists" in refused.stderr


def test_labels_of_a_file_do_not_stand_in_the_way(folder):
    """A structure is labelled anew whatever its labels are called, and however they contradict each other."""
    atoms = read("Cu.cif")
    atoms.info.update(dft_energy=1.0, ref_energy=2.0)
    write("in.extxyz", atoms)
    assert run("label", "in.extxyz", "-o", "out.extxyz", "--calculator", EMT).exit_code == 0
    atoms.calc = EMTCalculator()
    assert read("out.extxyz").get_potential_energy() == pytest.approx(atoms.get_potential_energy(), abs=1e-10)


def test_failures_are_listed_and_recorded(folder):
    write("in.extxyz", [bulk("Cu"), bulk("U", "fcc", a=4.5), bulk("Al")])
    with open("in.extxyz", "a") as file:
        file.write("nonsense\n1\n\nAu 0 0 0\n")
    result = run("label", "in.extxyz", "-o", "out.extxyz", "--calculator", EMT)
    assert result.exit_code == 1
    assert "3 of 5 frames labelled" in result.stdout and "failed: in.extxyz #1: NotImplementedError" in result.stdout
    entries = [json.loads(line) for line in Path("out.extxyz.failures.jsonl").read_text().splitlines()]
    assert [(entry["index"], entry["place"]) for entry in entries] == [(1, "in.extxyz #1"), (3, "in.extxyz #3")]
    assert [atoms.get_chemical_formula() for atoms in read("out.extxyz", ":")] == ["Cu", "Al", "Au"]


def test_label_with_a_model_and_from_a_store(folder, tiny_model):
    from forcefield import GNNCalculator

    assert run("label", "Cu.cif", "-o", "a.extxyz", "--model", tiny_model, "--device", "cpu").exit_code == 0
    atoms = read("a.extxyz")
    calculator = GNNCalculator(tiny_model, device="cpu")
    plain = read("Cu.cif")
    assert atoms.get_potential_energy() == pytest.approx(calculator.get_potential_energy(plain), abs=1e-6)
    assert atoms.info["labelled_by"] == "forcefield tiny float32" and len(atoms.calc.results["energies"]) == 4
    assert run("build", "a.extxyz", "-o", "store").exit_code == 0
    assert FrameStore("store").frame(0).atomic_energies == pytest.approx(atoms.calc.results["energies"], abs=1e-5)
    assert run("label", "store", "-o", "b.extxyz", "--calculator", EMT).exit_code == 0
    other = run("label", "store", "-o", "b.extxyz", "--model", tiny_model)
    assert other.exit_code == 2 and f"holds labels of {EMT}, not of forcefield tiny" in other.stderr


def test_wrong_calculators_are_refused_before_any_work(folder):
    result = run("label", "Cu.cif", "-o", "out.extxyz", "--calculator", "ase:Nothing")
    assert result.exit_code == 2 and "has no class or function Nothing" in result.stderr
    assert not (folder / "out.extxyz").exists()


def test_help_loads_neither_torch_nor_ase():
    code = (
        "import sys\nfrom typer.testing import CliRunner\nfrom forcefield.cli import app\n"
        "for command in (['data', 'sample'], ['data', 'label'], ['evaluate']):\n"
        "    assert CliRunner().invoke(app, [*command, '--help']).exit_code == 0\n"
        "assert not {'torch', 'ase', 'numpy'} & set(sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(forcefield.__file__).parents[1])}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
