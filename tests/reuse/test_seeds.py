"""Random numbers of a layer depend on its name and the seed, on nothing else."""

import numpy as np

from reuse_compiler.reuse.seeds import layer_generator


def test_a_name_and_a_seed_repeat_everywhere() -> None:
    """The numbers themselves: another process, or another order of layers, must not draw others."""
    np.testing.assert_array_equal(layer_generator(0, "conv1").integers(0, 1000, 4), [547, 299, 198, 710])


def test_seeds_and_names_draw_different_numbers() -> None:
    names = ["conv1", "conv2", "", "größe", "conv1/"]
    drawn = {tuple(layer_generator(seed, name).integers(0, 2**62, 2)) for seed in (0, 1) for name in names}
    assert len(drawn) == 2 * len(names)
