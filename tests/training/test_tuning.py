"""Reconstruction and distillation in PyTorch: they come closer to the original, and never leave a model worse."""

from __future__ import annotations

import copy
import itertools
from dataclasses import replace
from math import isfinite, nan
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="training needs torch: pip install reuse-compiler[training]")

from torch import Tensor, nn  # noqa: E402

from reuse_compiler.errors import ConfigError, DataError  # noqa: E402
from reuse_compiler.progress import silent  # noqa: E402
from reuse_compiler.reuse.config import make_settings  # noqa: E402
from reuse_compiler.reuse.families import HashParameters  # noqa: E402
from reuse_compiler.training import TuneOptions, convert, reconstruct_model, tune  # noqa: E402
from reuse_compiler.training.tuning import _Sample, _share_of_rate, _Tuner  # noqa: E402
from tests.training.networks import small_network, smooth_images  # noqa: E402

SETTINGS = {"3": make_settings(family="learned", layout="channel", L=8, H=5)}


def converted(images: int = 96) -> tuple[nn.Module, nn.Module, list[Tensor]]:
    """A teacher, its student with coarse clusters, and batches."""
    teacher = small_network().eval()
    batches = list(smooth_images(images, 3, 12).split(16))
    student = copy.deepcopy(teacher)
    convert(student, batches[0], SETTINGS)
    return teacher, student, batches


def error(student: nn.Module, teacher: nn.Module, x: Tensor) -> float:
    with torch.no_grad():
        wanted = teacher(x)
        return float((student.eval()(x) - wanted).norm() / wanted.norm())


def test_reconstruction_brings_layers_closer_to_the_original() -> None:
    teacher, student, batches = converted()
    before = error(student, teacher, batches[-1])
    errors = reconstruct_model(student, batches[:5], teacher)
    assert list(errors) == ["3"]
    assert errors["3"][1] < 0.95 * errors["3"][0]
    assert error(student, teacher, batches[-1]) < 0.9 * before
    assert student[3].bias is not None  # what the mean is corrected with


def test_statistics_correct_mean_and_deviation_only() -> None:
    teacher, student, batches = converted()
    errors = reconstruct_model(student, batches[:5], teacher, "statistics")
    weights = student[3].weight / teacher[3].weight
    assert errors["3"][1] <= errors["3"][0]
    torch.testing.assert_close(weights, weights[:, :1, :1, :1].expand_as(weights), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("output, features, refit", [("relative", 1.0, 50), ("relative", 0.0, 0), ("kl", 1.0, 0)])
def test_distillation_comes_closer_to_the_original(output: Any, features: float, refit: int) -> None:
    teacher, student, batches = converted(images=640)
    options = TuneOptions(steps=120, rate=3e-4, reconstruct="none", output=output, features=features, refit_every=refit)
    report = tune(student, batches, teacher, options)
    assert report.kept == "tuned"
    assert report.loss_tuned < 0.97 * report.loss_as_is
    assert report.layer_errors == {} and not student.training


def test_it_starts_from_reconstruction() -> None:
    teacher, student, batches = converted()
    seen: dict[str, float] = {}

    def watch(stage: str) -> None:
        seen[stage] = error(student, teacher, batches[-1])

    report = tune(student, batches, teacher, TuneOptions(steps=0), watch=watch)
    assert list(seen) == ["as_is", "reconstructed", "tuned"]
    assert seen["tuned"] == seen["reconstructed"] < 0.9 * seen["as_is"]
    assert report.kept == "reconstructed" and report.layer_errors.keys() == {"3"}
    assert report.loss_tuned == report.loss_reconstructed < 0.9 * report.loss_as_is


def test_a_model_that_was_fitted_before_is_tuned_as_it_is() -> None:
    """Nothing is fitted to its input, which would give it other trees, and no weights are."""
    teacher, student, batches = converted(images=640)
    before = copy.deepcopy(student)
    report = tune(student, batches, teacher, TuneOptions(steps=0, begin_as_given=True))
    assert report.loss_as_is == report.loss_reconstructed == report.loss_tuned and report.layer_errors == {}
    assert error(student, before, batches[0]) == 0.0
    report = tune(student, batches, teacher, TuneOptions(steps=60, relative_rate=3e-3, begin_as_given=True))
    assert report.kept == "tuned" and report.loss_tuned < 0.97 * report.loss_as_is


def test_rates_are_relative_to_the_size_of_a_parameter() -> None:
    """Adam's first step is as long as the rate. A bias of zeros moves, too."""
    teacher, student, batches = converted()
    student[3].weight.data *= 100.0
    student[3].bias = nn.Parameter(torch.zeros(24))
    student.requires_grad_(False)[3].requires_grad_(True)
    before = copy.deepcopy(student[3])
    options = TuneOptions(steps=1, relative_rate=1e-3, begin_as_given=True)
    _Tuner(student, teacher, options).run([_Sample(batches[0])], batches[:1], silent)
    size = float(before.weight.detach().square().mean().sqrt())
    assert size > 1.0
    assert float((student[3].weight - before.weight).detach().abs().max()) == pytest.approx(1e-3 * size, rel=1e-2)
    assert float((student[3].bias - before.bias).detach().abs().max()) == pytest.approx(1e-3 * 1e-2, rel=1e-2)


def test_labels_teach_what_the_teacher_does_not_know() -> None:
    """Which of two channels are positive on average is nothing that the teacher was asked."""
    found = []
    for labels in (0.0, 1.0):
        teacher, student, batches = converted(images=640)
        classes = [(batch[:, :2].mean((2, 3)) > 0).long() @ torch.tensor([1, 2]) for batch in batches]
        options = TuneOptions(steps=120, rate=3e-3, output="kl", features=0.0, labels=labels)
        tune(student, list(zip(batches, classes, strict=True)), teacher, options)
        with torch.no_grad():
            hits = [student(batch).argmax(1) == own for batch, own in zip(batches[-2:], classes[-2:], strict=True)]
        found.append(float(torch.cat(hits).float().mean()))
    assert found[0] < 0.4 and found[1] > 0.7


def test_commitment_keeps_inputs_near_to_their_centroids() -> None:
    """With it the layer before moves its outputs to where the next one's centroids are."""
    found = []
    for commitment in (0.0, 3.0):
        teacher, student, batches = converted(images=640)
        settings = {"3": make_settings(family="learned", layout="channel", L=8, H=5, scope="static")}
        student = copy.deepcopy(teacher)
        convert(student, batches[0], settings, gradient="straight_through")
        options = TuneOptions(
            steps=100, rate=1e-3, features=0.0, output="kl", precision="bfloat16", commitment=commitment
        )
        _Tuner(student, teacher, options).run([_Sample(batch) for batch in batches[:-2]], batches[:1], silent)
        assert student[3].distances is None  # of the last step, it would stand in the way of a copy
        student[3].distances = []
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            student(batches[-1])
        found += [float(distance) for distance in student[3].distances]
    assert found[1] < 0.9 * found[0]


def test_distances_that_nobody_asked_for_are_not_measured() -> None:
    """An input of zeros has none that could be told relative to its size."""
    teacher, student, batches = converted()
    settings = {"3": make_settings(family="learned", layout="channel", L=8, H=5, scope="static")}
    student = copy.deepcopy(teacher)
    convert(student, batches[0], settings, gradient="straight_through")
    student[0].weight.data.zero_()
    student[0].bias.data.fill_(-10.0)
    losses = []
    for commitment in (0.0, 1.0):
        options = TuneOptions(precision="bfloat16", commitment=commitment)
        with torch.autocast("cpu", torch.bfloat16):
            losses.append(_Tuner(student, teacher, options).loss_on([_Sample(batches[0])]))
    assert isfinite(losses[0]) and not isfinite(losses[1])


def test_normalisation_is_in_the_weights_when_a_model_was_tuned() -> None:
    teacher, student, batches = converted(images=640)
    options = TuneOptions(steps=60, relative_rate=3e-3, output="kl", normalise=True, reconstruct="none")
    report = tune(student, batches, teacher, options)
    assert report.kept == "tuned" and report.loss_tuned < 0.97 * report.loss_as_is
    assert student[3].bias is not None and not any(layer._forward_hooks for layer in student)


def test_a_bias_that_normalisation_gave_is_taken_back() -> None:
    teacher, student, batches = converted()
    before = copy.deepcopy(student.eval())
    options = TuneOptions(steps=2, rate=10.0, normalise=True, begin_as_given=True)
    assert tune(student, batches, teacher, options).kept == "as_is"
    assert student[3].bias is None and torch.equal(before(batches[0]), student(batches[0]))


def test_hashes_stay_in_the_second_half_of_the_steps() -> None:
    """When they were fitted anew, the moments of the centroids before are forgotten."""
    teacher, student, batches = converted()
    settings = {"3": make_settings(family="learned", layout="channel", L=8, H=5, scope="static")}
    student = copy.deepcopy(teacher)
    convert(student, batches[0], settings, gradient="straight_through")
    seen: list[HashParameters] = []
    fitted: list[int] = []

    def watch(what: str, step: int, of: int) -> None:
        if not seen or seen[-1] is not student[3].parameters_of_hash:
            seen.append(student[3].parameters_of_hash)
            fitted.append(step)

    options = TuneOptions(steps=10, rate=1e-4, refit_every=2, output="kl")
    _Tuner(student, teacher, options).run([_Sample(batch) for batch in batches], batches[:2], watch)
    assert fitted == [0, 3, 5]


def test_steps_learn_from_augmented_batches_and_nothing_else_sees_them() -> None:
    teacher, student, batches = converted()
    seen: list[Tensor] = []

    def mirrored(x: Tensor) -> Tensor:
        seen.append(x)
        return x.flip(3)

    plain, flipped = copy.deepcopy(student), [batch.flip(3) for batch in batches[:-2]] + batches[-2:]
    options = TuneOptions(steps=3, rate=1e-3, begin_as_given=True)
    report = tune(student, batches, teacher, replace(options, augment=mirrored))
    expected = tune(plain, flipped, teacher, options)
    assert len(seen) == 3 and all(any(x is batch for batch in batches[:-2]) for x in seen)
    assert report == expected and torch.equal(student[3].weight, plain[3].weight)


def test_the_rate_rises_and_falls() -> None:
    shares = [_share_of_rate(step, TuneOptions(steps=12, warm_up=3)) for step in range(13)]
    assert shares[:4] == [0.25, 0.5, 0.75, 1.0] and shares[12] == 0.0
    assert all(later < earlier for earlier, later in itertools.pairwise(shares[3:]))


def test_the_teacher_and_labels_are_left_alone() -> None:
    teacher, student, batches = converted()
    before = copy.deepcopy(teacher.state_dict())
    tune(student, batches, teacher, TuneOptions(steps=5))
    assert all(torch.equal(before[key], value) for key, value in teacher.state_dict().items())


def test_what_does_not_help_is_taken_back() -> None:
    teacher, student, batches = converted()
    expected = copy.deepcopy(student)
    reconstruct_model(expected, batches[:4], teacher)
    report = tune(student, batches, teacher, TuneOptions(steps=4, rate=10.0, reconstruction_batches=8))
    assert report.kept == "reconstructed" and report.loss_tuned > report.loss_reconstructed
    assert torch.equal(expected[3].weight, student[3].weight)
    assert torch.equal(expected.eval()(batches[0]), student(batches[0]))


def test_the_same_seed_gives_the_same_model() -> None:
    found = []
    for _ in range(2):
        teacher, student, batches = converted()
        tune(student, batches, teacher, TuneOptions(steps=6, rate=1e-3))
        found.append(student[3].weight)
    assert torch.equal(*found)


@pytest.mark.parametrize(
    "batches, teacher, error, message",
    [
        (2, None, DataError, "more than 2 batches"),
        (6, nn.Sequential(nn.Conv2d(3, 16, 5)), ConfigError, "no plain Conv2d named '3'"),
    ],
)
def test_wrong_data_and_teachers_are_refused(
    batches: int, teacher: nn.Module | None, error: type[Exception], message: str
) -> None:
    own, student, data = converted()
    with pytest.raises(error, match=message):
        tune(student, data[:batches], teacher or own)


@pytest.mark.parametrize(
    "options",
    [
        {"steps": -1},
        {"rate": 0.0},
        {"rate": nan},
        {"features": nan},
        {"features": -1.0},
        {"labels": -1.0},
        {"labels": nan},
        {"commitment": -1.0, "precision": "bfloat16"},
        {"commitment": 1.0},
        {"warm_up": -1},
        {"held_out": 0},
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        TuneOptions(**options)
    with pytest.raises(ConfigError, match="no layer with reuse"):
        tune(small_network(), [smooth_images(2, 3, 12)] * 3, small_network())
