"""What the build asks for, and what it says when it cannot compile: build_backend/ by itself."""

import json
import sys
from pathlib import Path

import aligndraw_build
import native
import pytest


@pytest.fixture
def environment(tmp_path, monkeypatch):
    """environment(target={"torch": "2.13.0+cpu"}, isolated={}): what is installed, and where."""
    isolated, target = str(tmp_path / "isolated"), str(tmp_path / "target")
    monkeypatch.setattr(aligndraw_build, "_target_folders", lambda: [target])
    monkeypatch.setattr(sys, "path", [isolated, target])  # as it is when setup.py runs

    def install(**places):
        for place, packages in places.items():
            for name, version in packages.items():
                folder = tmp_path / place / f"{name}-{version}.dist-info"
                folder.mkdir(parents=True)
                text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
                (folder / "METADATA").write_text(text)

    return install


def test_an_environment_without_torch_is_given_one(environment):
    environment(target={"setuptools": "81.0.0"})
    assert "torch==2.13.0" in aligndraw_build.get_requires_for_build_wheel()
    assert "torch==2.13.0" in aligndraw_build.get_requires_for_build_editable()
    assert aligndraw_build.get_requires_for_build_sdist() == ["setuptools>=77,<82"]


@pytest.mark.parametrize(
    ("beside", "wanted"),
    [
        ({"setuptools": "81.0.0"}, []),
        ({"setuptools": "70.2.0"}, []),
        ({"setuptools": "65.5.0", "wheel": "0.45.0"}, []),
        ({"setuptools": "65.5.0"}, ["setuptools>=77,<82"]),
        ({}, ["setuptools>=77,<82"]),
    ],
)
def test_nothing_is_fetched_that_is_there(environment, beside, wanted):
    environment(target={"torch": "2.11.0+cu130", **beside})
    assert aligndraw_build.get_requires_for_build_wheel() == wanted


def test_the_torch_that_the_build_fetched_is_the_one_asked_for(environment):
    environment(isolated={"torch": "2.13.0+cpu"})
    assert aligndraw_build.torch_requirement() == "torch==2.13.0"


def test_the_torch_of_the_target_is_not_pinned(environment):
    environment(target={"torch": "2.12.1+cu130"})
    assert aligndraw_build.torch_requirement() == "torch>=2.11"


def test_without_any_torch_none_is_pinned(environment):
    assert aligndraw_build.torch_requirement() == "torch>=2.11"


def test_a_torch_that_is_too_old_is_refused(environment):
    environment(target={"torch": "2.5.1"})
    with pytest.raises(SystemExit, match="aligndraw needs torch 2.11 or newer and found 2.5.1"):
        aligndraw_build.get_requires_for_build_wheel()


@pytest.fixture
def build(tmp_path, monkeypatch):
    """build() into a folder where an earlier build left its libraries; gives the record."""
    folder = tmp_path / "aligndraw"
    folder.mkdir()
    (folder / "_C.so").touch()
    for variable in ("CPP", "CUDA"):
        monkeypatch.delenv(f"ALIGNDRAW_BUILD_{variable}", raising=False)
    monkeypatch.chdir(tmp_path)  # where csrc/ has one file
    (tmp_path / "csrc/cpu").mkdir(parents=True)
    (tmp_path / "csrc/cpu/op.cpp").touch()

    def build():
        native.build(folder)
        assert not list(folder.glob("*.so")), "a library of an earlier build is still there"
        return json.loads((folder / "_build.json").read_text())

    return build


@pytest.mark.skipif(sys.platform != "linux", reason="the compiled code is for Linux")
def test_without_a_compiler_it_says_so_once(build, monkeypatch, capfd):
    monkeypatch.setenv("CXX", "no-such-compiler")
    record = build()
    assert not (record["cpp"] or record["cuda"] or record["host"])
    for part in ("cpp", "cuda", "host"):
        assert "no C++ compiler (no-such-compiler) was found" in record[f"{part}_reason"]
        assert "run `pip install .` again" in record[f"{part}_reason"]
    said = [line for line in capfd.readouterr().err.splitlines() if line.startswith("aligndraw:")]
    assert len(said) == 1 and "installing without compiled ops" in said[0]


@pytest.mark.skipif(sys.platform != "linux", reason="the compiled code is for Linux")
def test_a_compiler_that_fails_is_quoted(build, tmp_path, monkeypatch, capfd):
    compiler = tmp_path / "failing-c++"
    compiler.write_text("#!/bin/sh\n[ $1 = --version ] || { echo 'op.cpp:1: error: no' >&2; exit 1; }\necho 1.0\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    reason = build()["cpp_reason"]
    assert reason.startswith("failing-c++ failed on csrc/cpu/op.cpp (op.cpp:1: error: no)")
    assert "op.cpp:1: error: no\n" in capfd.readouterr().err
    monkeypatch.setenv("ALIGNDRAW_BUILD_CPP", "1")
    with pytest.raises(SystemExit, match="failing-c"):
        build()


def test_a_wrong_setting_is_refused(build, monkeypatch):
    monkeypatch.setenv("ALIGNDRAW_BUILD_CUDA", "yes")
    with pytest.raises(SystemExit, match="ALIGNDRAW_BUILD_CUDA must be auto, 0 or 1, got 'yes'"):
        build()


def test_macos_builds_only_when_asked(build, monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(native.CannotBuild, match="`ALIGNDRAW_BUILD_CPP=1 pip install .` tries it"):
        native._compiler()
    monkeypatch.setenv("ALIGNDRAW_BUILD_CPP", "1")
    monkeypatch.setattr(native.shutil, "which", lambda name: f"/usr/bin/{name}")
    assert native._compiler() == ["clang++"]


def test_another_system_is_refused(build, monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setenv("ALIGNDRAW_BUILD_CPP", "1")
    with pytest.raises(native.CannotBuild, match="the compiled code is for Linux and macOS, and this is win32"):
        native._compiler()


def test_the_libraries_of_linux_name_those_of_torch():
    flags = native.link_flags("linux", Path("torch"))
    assert flags == ["-shared", "-Xlinker", "-s", "-Ltorch/lib", "-Xlinker", "--no-as-needed", "-ltorch", "-ltorch_cpu"]
    assert native.link_flags("linux") == ["-shared", "-Xlinker", "-s"]


def test_the_libraries_of_macos_take_all_from_the_process():
    """Its linker knows neither --no-as-needed nor -s. No OpenMP: threads are torch's; libomp may not come twice."""
    for torch in (None, Path("torch")):
        assert native.link_flags("darwin", torch) == ["-bundle", "-undefined", "dynamic_lookup", "-Xlinker", "-x"]


def test_switched_off(build, monkeypatch):
    monkeypatch.setenv("ALIGNDRAW_BUILD_CPP", "0")
    assert "ALIGNDRAW_BUILD_CPP=0" in build()["cpp_reason"]


@pytest.fixture
def archs(tmp_path, monkeypatch):
    """The architectures of a build whose nvcc knows some, where nvidia-smi shows GPUs of these capabilities."""
    monkeypatch.delenv("ALIGNDRAW_CUDA_ARCHS", raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    def program(name, text):
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
        return str(tmp_path / name)

    nvcc = program("nvcc", "printf 'compute_%s\\n' 75 80 86 90 100 120")

    def ask(*capabilities, fails=False):
        program("nvidia-smi", "exit 9" if fails else f"printf '%s\\n' {' '.join(capabilities)}")
        return native._archs(nvcc)

    return ask


ALL = ["80", "90", "100", "120"]


@pytest.mark.parametrize(
    ("archs", "code"),
    [
        (ALL, {"80": "sm_80", "90": "sm_90,sm_100,sm_120,compute_90"}),
        (["86"], {"80": "sm_86,compute_80"}),
        (["75"], {"75": "sm_75,compute_75"}),
        (["80", "90a"], {"80": "sm_80", "90a": "sm_90a", "90": "compute_90"}),
    ],
)
def test_the_compiler_reads_a_source_twice_for_all_architectures(archs, code):
    """It once read it four times, which was most of its time; PTX is for GPUs newer than all."""
    assert native._gencode(archs) == [f"-gencode=arch=compute_{arch},code=[{c}]" for arch, c in code.items()]


def test_where_gpus_are_visible_the_build_is_for_them_alone(archs):
    """It once took three times as long, for GPUs that are not there."""
    assert archs("9.0") == ["90"]
    assert archs("12.0", "8.6", "8.6") == ["86", "120"]


def test_without_a_gpu_or_a_driver_the_build_is_for_all(archs):
    assert archs() == ALL and archs(fails=True) == ALL


def test_a_gpu_that_the_compiler_does_not_know_leaves_the_build_to_all(archs):
    """A newer one runs the intermediate code of the last architecture."""
    assert archs("13.0", "9.0") == ALL and archs("[N/A]") == ALL


def test_a_build_for_others_names_its_architectures(archs, monkeypatch):
    monkeypatch.setenv("ALIGNDRAW_CUDA_ARCHS", "all")
    assert archs("9.0") == ALL
    monkeypatch.setenv("ALIGNDRAW_CUDA_ARCHS", "80;90a")
    assert archs("9.0") == ["80", "90a"]
    monkeypatch.setenv("ALIGNDRAW_CUDA_ARCHS", "70")
    with pytest.raises(SystemExit, match="ALIGNDRAW_CUDA_ARCHS must be all or name some of 75;80;.*, got '70'"):
        archs("9.0")
