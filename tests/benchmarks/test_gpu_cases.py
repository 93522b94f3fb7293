"""What the GPU report times, and in which order."""

import bench_model
import cases
import gpu_cases
import pytest


def names(stage, device="cuda"):
    return [str(case) for _, case in gpu_cases.plan(stage, device)]


def test_the_brief_ops_have_three_forms_of_both_directions_at_batch_100():
    found = names("ops")
    assert found[:6] == [
        f"read-mnist-B100-trained-{direction}-{form}"
        for direction in ("forward", "backward")
        for form in ("eager", "cuda", "triton")
    ]
    assert len(found) == len(set(found)) == 5 * 2 * 2 * 3
    assert {name.partition("-")[0] for name in found} == {"read", "write", "attend", "lstm_gates", "latent"}


def test_the_brief_model_trains_in_each_form_and_samples_with_what_may_hang_last():
    found = names("model")
    forms = ("eager", "products", "launches", "launches_tf32", "launches_bf16")
    assert found[:5] == [f"train-mnist-B100-both-{form}" for form in forms]
    assert found[5:10] == [f"train-coco-B100-both-{form}" for form in forms]
    assert found[10:12] == ["sample-mnist-B100-forward-eager", "sample-mnist-B100-forward-launches"]
    assert {name.split("-")[2] for name in found if name.startswith("sample")} == {"B1", "B16", "B100"}
    hanging = [name for name in found if "persistent" in name or "cluster" in name]
    forms = ("persistent", "cluster")
    assert hanging == found[-16:]
    assert hanging[:4] == [f"train-{p}-B100-both-{form}" for p in ("mnist", "coco") for form in forms]


def test_a_new_form_of_the_loops_is_timed_by_itself(monkeypatch):
    monkeypatch.setattr(bench_model, "DESIGNS", ("launches", "persistent", "another"))
    assert "train-mnist-B100-both-another" in names("model")


def test_the_other_ops_start_with_batch_100_and_end_with_the_compiler():
    found = [case for _, case in gpu_cases.plan("more ops", "cuda")]
    slow = next(i for i, case in enumerate(found) if case.form == "compiled")
    assert {case.batch for case in found[:slow]} == {100} and found[slow].batch == 100
    assert all(case.batch != 100 for case in found[slow:] if case.form != "compiled")


def test_the_other_models_are_those_that_are_left(monkeypatch):
    monkeypatch.setattr(cases, "missing_reason", lambda op, backend, device: "")
    found = [case for _, case in gpu_cases.plan("more model", "cuda")]
    assert found[0].batch == 100 and not any(case.form == "compiled" for case in found)
    assert {case.batch for case in found} == {1, 16, 100, 1024}
    assert {str(case) for case in found} & {name for name in names("model") if "eager" not in name} == set()
    forms = [case.form for case in found if case.batch == 1024 and case.preset in cases.PRESETS]
    at_once = ("persistent", "cluster")
    first = next(i for i, form in enumerate(forms) if form.startswith(at_once))
    assert first > len(forms) / 2 and all(form.startswith(at_once) for form in forms[first:])


def test_the_compiler_gets_the_paper_s_models():
    found = [case for _, case in gpu_cases.plan("compiled", "cuda")]
    assert {(c.preset, c.batch) for c in found} == {(p, b) for p in ("mnist", "coco") for b in (1, 16, 100, 1024)}
    assert (found[0].preset, found[0].batch) == ("mnist", 100)


@pytest.mark.parametrize("stage", ["ops", "model", "more ops", "more model", "compiled"])
def test_a_dry_run_takes_each_case_once_at_small_sizes(stage):
    found = [case for _, case in gpu_cases.plan(stage, "cpu")]
    assert found and len(found) == len(set(found))
    assert {(case.preset, case.device) for case in found} == {("quick", "cpu")}
    assert max(case.batch for case in found) <= 4
