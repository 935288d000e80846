"""What both papers have, piece by piece, and what became of it here.

Numbers of ours are drawn from docs/results: {file[key][key]}, where elements of lists that have a name go by it
(page.py). What a file does not have as it is stands in {drawn[...]}.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """A table, figure, equation, policy or algorithm."""

    item: str
    says: str
    ours: str
    where: tuple[str, ...]
    """Files, and functions of theirs as FILE::NAME: modules first, then tests."""
    command: str = ""


SIMILARITY = "tools/similarity/clustering"
INFERENCE = (
    Entry(
        "Sections II and III-A, Fig. 1 to 3",
        "A convolution is `y = x W` on the unfolded input; rows, or parts of them, are neuron vectors; "
        "`r_c` = clusters over rows",
        "The same (layout `patch`), and vectors of a pixel that all taps share (layout `channel`): hashing, sums and "
        "products cost kh*kw times less",
        (
            "reuse_compiler/reuse/geometry.py",
            "reuse_compiler/reference/operators.py",
            "tests/reference/test_operators.py::test_clusters_by_hand",
        ),
    ),
    Entry(
        "Eq. 1: LSH",
        "A bit for each random hyperplane",
        "Family `sign`, bit for bit in Python, C++ and CUDA. Trees (family `learned`) tell vectors of images apart "
        "better, and cost less",
        (
            "reuse_compiler/reuse/families/sign.py",
            "tests/reuse/test_families.py::test_sign_bits_are_sides_of_hyperplanes",
        ),
    ),
    Entry(
        "Complexity, and the selection of {{L, H}}",
        "`N K H + C K M`, with sub-vectors `(H/M + r_c + 1/L) N K M`; of what recovers the accuracy, the largest "
        "`M / (H + r_c M + M/L)`",
        "The count, and prices fitted to measured times, as counting alone says little. "
        "`reuse-calibrate --strategy papers` selects as the papers do",
        (
            "reuse_compiler/reuse/cost.py",
            "reuse_compiler/calibration/papers.py",
            "tests/reuse/test_cost.py::test_operations_are_the_papers_formula",
        ),
    ),
    Entry(
        "K-means",
        "The best clusters, too slow to use",
        "In the study only, as in the paper",
        (f"{SIMILARITY}/kmeans.py", "tests/tools/similarity/test_clustering.py::test_groups_far_apart_are_found"),
    ),
    Entry(
        "Hyper-Cube",
        "Bins in each of D dimensions; works for short vectors only",
        "In the study; at run time trees take its place, whose nodes compare one element each, too",
        (f"{SIMILARITY}/hypercube.py", "tests/tools/similarity/test_clustering.py::test_bins_are_those_of_the_paper"),
    ),
    Entry(
        "Three scopes",
        "One input, one batch, across batches",
        "Scopes `image`, `batch`, `session`; and `static`, whose centroids are found by calibration",
        (
            "reuse_compiler/reuse/config.py",
            "tests/reference/test_operators.py::test_scope_image_never_shares_across_images",
        ),
    ),
    Entry(
        "Algorithm 1: cluster reuse",
        "Outputs of known bit vectors are kept and used again",
        "Scope `session`, with a bound for its memory",
        (
            "reuse_compiler/reference/session.py",
            "tests/reference/test_session.py::test_twenty_batches_are_algorithm_1",
            "tests/custom_ops/test_session_scope.py::test_twenty_batches_of_changing_sizes",
        ),
    ),
    Entry(
        "Fig. 4: sub-vectors",
        "L is the user's choice; by default the number of channels",
        "The same default",
        (
            "reuse_compiler/passes/choose_parameters.py",
            "tests/passes/test_choose_parameters.py::test_the_default_length_is_that_of_a_group",
        ),
    ),
    Entry(
        "Similarity metric",
        "Angular by default, as it is mostly better than Euclidean",
        "Both; Euclidean by default, as here it is mostly better (Fig. 6)",
        (
            "reuse_compiler/reuse/config.py",
            "tests/tools/similarity/test_clustering.py::test_angular_centroids_are_mean_directions_of_the_mean_length",
        ),
    ),
    Entry(
        "Eq. 2 and 3: error bounds",
        "The output's error is at most the centroids' times the weights' norms, of one layer or summed over all",
        "Eq. 2 for the layer itself, in every report of calibration. What it multiplies with for later layers, and "
        "Eq. 3, are of plain chains, and not computed: calibration measures the network's error",
        (
            "reuse_compiler/reuse/error_bound.py",
            "tests/reuse/test_error_bound.py::test_no_layer_errs_more",
        ),
    ),
    Entry(
        "Table I: networks",
        "CifarNet (2 convolutions), AlexNet (5), VGG-19 (16); a GTX 1080",
        "The three with the same K and M, on one thread of a CPU beside onnxruntime. CifarNet has "
        "weights here, of 28 epochs, and AlexNet at CIFAR-10's size, of 6; a VGG of 6 convolutions for CIFAR-10 "
        "stands for VGG-19",
        (
            "models/builders.py",
            "tests/models/test_model_builders.py::test_network_is_valid_runs_and_has_the_papers_layers",
        ),
        "python -m models.train cifarnet --data DIR",
    ),
    Entry(
        "Table II: single layers",
        "LSH: 2.05 (CifarNet), 2.41 (AlexNet), 2.26 (VGG-19) on average, with cluster reuse 2.09, 3.64, 3.35; "
        "Hyper-Cube 1.63, 1.31, 1.05",
        "At the same K, M, {{L, H}} and r_c, LSH: {drawn[cifarnet][lsh]:.2f}, {drawn[alexnet][lsh]:.2f}, "
        "{drawn[vgg19][lsh]:.2f}, with cluster reuse {drawn[cifarnet][session]:.2f}, {drawn[alexnet][session]:.2f}, "
        "{drawn[vgg19][session]:.2f}; Hyper-Cube's clusters {drawn[cifarnet][cube]:.2f}, {drawn[alexnet][cube]:.2f}, "
        "{drawn[vgg19][cube]:.2f}. The kind that calibration picks, trees with int8 tables: "
        "{drawn[cifarnet][trees]:.2f}, {drawn[alexnet][trees]:.2f}, {drawn[vgg19][trees]:.2f}; with "
        "fixed centroids, behind first layers, {drawn[cifarnet][static]:.2f}, {drawn[alexnet][static]:.2f}, "
        "{drawn[vgg19][static]:.2f}. [Layer by layer](#table-ii-layer-by-layer)",
        (
            "tools/papers/layers.py",
            "tests/tools/test_papers.py::test_every_layer_is_the_papers",
        ),
        "python -m tools.papers layers",
    ),
    Entry(
        "Fig. 5: reuse rate R",
        "CifarNet: 0.98 after 20 batches; AlexNet and VGG-19 over 0.95",
        "CifarNet, after 5 and 20 batches: {drawn[rates][cifarnet][0]:.4f} and {drawn[rates][cifarnet][1]:.4f} in the "
        "lowest layer; CIFAR VGG {drawn[rates][cifar_vgg][0]:.4f} and {drawn[rates][cifar_vgg][1]:.4f}. "
        "[Every layer and batch](results/clusters_across_batches.md)",
        (
            "tools/clusters_across_batches/measure.py",
            "tests/tools/test_clusters_across_batches.py::test_r_from_codes_is_that_of_a_session",
        ),
        "python -m tools.clusters_across_batches",
    ),
    Entry(
        "Table III: whole networks",
        "CifarNet 1.77 times as fast at an accuracy loss of -0.0011, AlexNet 2.00 at -0.0002, VGG-19 1.89 at 0.0005",
        "CifarNet {calibration_cifarnet[variants][learned][speedup]:.2f} at a change of "
        "{calibration_cifarnet[variants][learned][change]:+.4f}; CIFAR VGG "
        "{calibration_cifar_vgg[variants][learned][speedup]:.2f} at "
        "{calibration_cifar_vgg[variants][learned][change]:+.4f}. onnxruntime's int8 is faster: "
        "{calibration_cifarnet[variants][onnxruntime int8][speedup]:.2f} at "
        "{calibration_cifarnet[variants][onnxruntime int8][change]:+.4f} and "
        "{calibration_cifar_vgg[variants][onnxruntime int8][speedup]:.2f} at "
        "{calibration_cifar_vgg[variants][onnxruntime int8][change]:+.4f}. With hyperplanes calibration "
        "leaves all layers of these two dense. One static setting (L=8, H=8) in five layers of the VGG: "
        "{drawn[static]:+.4f} ([static](results/static.md)). AlexNet for CIFAR-10 (top-1 "
        "{calibration_alexnet[variants][original][metric]:.4f}): "
        "{calibration_alexnet[variants][learned][speedup]:.2f} at "
        "{calibration_alexnet[variants][learned][change]:+.4f}, with hyperplanes "
        "{calibration_alexnet[variants][sign][speedup]:.2f} at {calibration_alexnet[variants][sign][change]:+.4f}, "
        "int8 {calibration_alexnet[variants][onnxruntime int8][speedup]:.2f} at "
        "{calibration_alexnet[variants][onnxruntime int8][change]:+.4f}; only conv4 has reuse. VGG-19 "
        "has no weights: training it for CIFAR-10 takes over half an hour of this CPU and was only begun; the command "
        "does it",
        (
            "tools/calibration_results/measure.py",
            "tests/tools/test_calibration_results.py",
        ),
        "python -m tools.calibration_results cifarnet --budget default; "
        "python -m tools.calibration_results alexnet --budget quick; "
        "python -m models.train vgg19 --data DIR --epochs 30 --size 16 --size 24 --size 32 --bits 5",
    ),
    Entry(
        "Fig. 6: scopes, granularities, distances",
        "K-means on CifarNet: a batch, sub-vectors and the angular distance are best",
        "A batch and sub-vectors are far better here, too; the angular distance is not. CIFAR VGG, conv3_2, a batch at "
        "r_c 0.03: L=16 {drawn[kmeans][sub euclidean]:.3f} Euclidean, {drawn[kmeans][sub angular]:.3f} angular; whole "
        "rows {drawn[kmeans][whole euclidean]:.3f}, {drawn[kmeans][whole angular]:.3f}; images alone, L=16, "
        "Euclidean {drawn[kmeans][image sub euclidean]:.3f}; original {drawn[kmeans][original]:.3f}. "
        "[CifarNet](results/similarity.md), [CIFAR VGG](#fig-8-r_c-against-accuracy)",
        (
            "tools/similarity/study.py",
            "tests/tools/similarity/test_study.py::test_a_batch_shares_more_than_its_images",
        ),
        "python -m tools.papers curves",
    ),
    Entry(
        "Table IV: perforation",
        "Before fine-tuning, perforation loses 8.5 points of AlexNet (2.0 times fewer operations) and 23.1 of VGG "
        "(1.9); reuse -0.02 (3.3) and 0.05 (4.5)",
        "CifarNet, {drawn[perforation][cifarnet][saved]:.1f} times fewer operations in conv2: perforation "
        "{drawn[perforation][cifarnet][grid]:+.1f} points (a grid) and "
        "{drawn[perforation][cifarnet][scattered]:+.1f} (scattered), reuse {drawn[perforation][cifarnet][reuse]:+.1f}. "
        "CIFAR VGG, {drawn[perforation][cifar_vgg][saved]:.1f} times in five layers: "
        "{drawn[perforation][cifar_vgg][grid]:+.1f}, {drawn[perforation][cifar_vgg][scattered]:+.1f}, reuse "
        "{drawn[perforation][cifar_vgg][reuse]:+.1f}. Nothing was tuned with labels; reuse has its weights fitted to "
        "unlabelled images. Masks by pooling or by impact were not tried",
        (
            "tools/papers/perforation.py",
            "tests/tools/test_papers.py::test_perforation_takes_the_nearest_pixel_that_is_computed",
        ),
        "python -m tools.papers perforation",
    ),
    Entry(
        "Table V: compressed networks",
        "AlexNet, pruned and quantised: 1.81 to 3.64 times as fast by layer",
        "Networks in int8, and lossless reuse on top, the same bytes: CRAFT {drawn[quantised][craft]:.2f} and HED "
        "{drawn[quantised][hed]:.2f} times as fast as int8 alone on a rendered page, no faster on photos. Pruned "
        "networks were not tried: there is none among those at hand",
        (
            "tools/quantised_results.py",
            "tests/custom_ops/test_quantised.py::test_kernel_is_onnxruntimes_convolution",
        ),
        "python -m tools.quantised_results",
    ),
)

TRAINING = (
    Entry(
        "Table I and II, Eq. 1 to 4, Fig. 1 to 3",
        "Notation, networks, forward and backward pass, LSH",
        "As above; `ReuseConv2d` computes all of it on PyTorch's tensors",
        (
            "reuse_compiler/training/layer.py",
            "tests/training/test_layer.py::test_lossless_clusters_give_what_conv2d_gives",
        ),
    ),
    Entry(
        "Algorithm 1 in training",
        "Outputs of known clusters are kept",
        "Centroids are kept, as outputs are out of date with the next change of the weights: this saves no products",
        (
            "reuse_compiler/training/cluster_memory.py",
            "tests/training/test_layer.py::test_cluster_reuse_is_scope_session_of_the_operators",
        ),
    ),
    Entry(
        "Eq. 5 and 6: forward cost",
        "`H/M + r_c + 1/L`; with cluster reuse `(1-R) r_c`",
        "The same count, and prices",
        (
            "reuse_compiler/reuse/cost.py",
            "tests/reuse/test_cost.py::test_patch_layout_is_equation_5",
            "tests/reuse/test_cost.py::test_reuse_across_batches_is_equation_6",
        ),
    ),
    Entry(
        "Eq. 7 to 12, Fig. 4 and 5: gradient of the weights",
        "Deltas are summed by cluster, then multiplied with centroids",
        "The same, tested literally and against float64 autograd",
        (
            "reuse_compiler/training/function.py",
            "tests/training/test_gradients.py::test_gradients_are_the_training_papers_equations",
            "tests/training/test_operations.py::test_a_step_costs_what_equations_5_12_and_20_say",
        ),
    ),
    Entry(
        "Eq. 13 to 20, Fig. 6: delta of the input",
        "The mean of a cluster's deltas",
        "The same (`averaged`), which costs CifarNet 3 to 4 points when trained from scratch; and each vector's own "
        "(`straight_through`), a dense product, or nearly so (`int8`) in half of its time",
        (
            "reuse_compiler/training/function.py",
            "tests/training/test_gradients.py::test_gradients_are_those_of_float64_autograd",
            "tests/training/test_gradients.py::test_straight_through_is_the_dense_input_gradient",
        ),
    ),
    Entry(
        "Section V: observations",
        "With the same H a smaller L always loses less, and with the same L a larger H; late layers bear a larger L "
        "and a smaller H; cluster reuse lowers r_c and costs accuracy",
        "More hashes and cluster reuse: the same. A smaller L loses less at the same H only where hashes are few; "
        "with many, longer vectors make more clusters and lose less. At the same r_c short vectors are better. That "
        "late layers bear more was not seen clearly ([curves](#fig-8-r_c-against-accuracy))",
        ("tools/papers/curves.py", "tests/tools/test_papers.py::test_curves_of_a_small_study"),
        "python -m tools.papers curves",
    ),
    Entry(
        "Policy 1 and Amendment 1",
        "L from `k_w` (`k_w^2` behind the first layer, if below 10) to `ceil(sqrt(I_c)) k_w`",
        "The same; in layout `channel` through lengths that cut the channels evenly",
        ("reuse_compiler/reuse/policies.py", "tests/reuse/test_policies.py::test_policy_1_and_amendment_1"),
    ),
    Entry(
        "Policy 2",
        "H from the least with `2^H > 0.01 N` to the largest with `2^H < N`",
        "The same",
        ("reuse_compiler/reuse/policies.py", "tests/reuse/test_policies.py::test_policy_2"),
    ),
    Entry(
        "Policy 3, Eq. 21 to 23",
        "The next {{L, H}} is the one that adds less time",
        "The same",
        (
            "reuse_compiler/training/candidates.py",
            "tests/training/test_candidates.py::test_policy_3_takes_the_step_that_adds_less_time",
        ),
    ),
    Entry(
        "Amendments 3.1 to 3.3",
        "The next stage has 1.5 times the accuracy, or 0.1 more, or else 1.1 times",
        "The same; all layers move together, and where nothing helps, to the most exact settings",
        (
            "reuse_compiler/training/strategies.py",
            "tests/training/test_strategies.py::test_the_next_stage_is_chosen_by_the_amendments",
        ),
    ),
    Entry(
        "When to switch",
        "When the loss stops falling",
        "Means of windows, as the paper leaves open how to tell",
        (
            "reuse_compiler/training/loss_trend.py",
            "tests/training/test_strategies.py::test_a_loss_falls_as_long_as_windows_have_new_lowest_means",
        ),
    ),
    Entry(
        "Strategies 1 to 3, Table IV",
        "CifarNet's training takes 38, 63 and 46% less time (AlexNet 49, 69, 58; VGG-19 45, 68, 54)",
        "CifarNet, to the same accuracy within 0.3 points: {drawn[training][s1]:.1f}, {drawn[training][s2]:.1f} and "
        "{drawn[training][s3]:.1f}% less: next to nothing. Half of a step is outside of conv2, and exact input deltas "
        "are a third of conv2. A step of the CIFAR VGG takes {drawn[steps][16]:.0f}% less at L=16, H=8 and "
        "{drawn[steps][8]:.0f}% at L=8, H=11, but learns less: the goal of 38% at the same accuracy is missed "
        "([time to loss, and what each idea gave](results/training.md)). AlexNet and VGG-19 were not trained: hours "
        "on this CPU",
        (
            "reuse_compiler/training/strategies.py",
            "tools/training_results/page.py",
            "tests/models/test_reuse_training.py::test_a_strategy_trains_and_logs",
        ),
        "python -m models.train cifarnet --strategy 2 --log DIR; "
        "python -m tools.training_results strategies --runs DIR",
    ),
    Entry(
        "More steps to the same accuracy",
        "CifarNet 28,000 in place of 24,000, AlexNet 820,000 of 700,000, VGG-19 500,000 of 400,000: 17 to 25% more",
        "CifarNet {drawn[training][steps]} in place of {drawn[training][dense steps]}",
        (
            "tools/training_results/results.py",
            "tests/tools/test_training_results.py::test_the_page_shows_what_is_there",
        ),
        "python -m tools.training_results",
    ),
    Entry(
        "Fig. 7: K-means, r_c against accuracy",
        "CifarNet's conv1 in single images: 0.76 of 0.81 at r_c 0.5; AlexNet's conv3 in a batch: nothing lost at 0.15",
        "CifarNet's conv1: 0.79 of 0.81 at 0.5 ([similarity](results/similarity.md)). AlexNet was not measured",
        (
            "tools/similarity/study.py",
            "tests/tools/similarity/test_study.py::test_more_clusters_come_nearer_to_the_original",
        ),
        "python -m tools.similarity",
    ),
    Entry(
        "Fig. 8: LSH, r_c against accuracy",
        "LSH recovers the accuracy at a very small r_c; shorter vectors are better at the same r_c, more hashes always",
        "Both trends are seen. Within a point of the original are CifarNet's conv1 {drawn[lsh][cifarnet conv1]}, conv2 "
        "{drawn[lsh][cifarnet conv2]}, the CIFAR VGG's conv3_2 {drawn[lsh][cifar_vgg conv3_2]}. "
        "AlexNet and VGG-19 were not measured. [All curves](#fig-8-r_c-against-accuracy)",
        ("tools/papers/curves.py", "tests/tools/test_papers.py::test_curves_of_a_small_study"),
        "python -m tools.papers curves",
    ),
    Entry(
        "Table III: cluster reuse and accuracy",
        "0.813 without (CR=0); with (CR=1) 0.799 in conv1 (L=5, H=15), 0.784 in conv2 (L=10, H=10)",
        "Of {drawn[cr][conv1][0]:.3f}: conv1 {drawn[cr][conv1][1]:.3f} and {drawn[cr][conv1][2]:.3f}, conv2 "
        "{drawn[cr][conv2][1]:.3f} and {drawn[cr][conv2][2]:.3f}. Cluster reuse costs as little as there; but the "
        "same L and H lose a great deal on our CifarNet without it already",
        (
            "tools/clusters_across_batches/measure.py",
            "tests/tools/test_clusters_across_batches.py::test_the_page_shows_every_layer_and_what_cluster_reuse_costs",
        ),
        "python -m tools.clusters_across_batches",
    ),
)
PAPERS = {
    "The inference paper": ("Deep reuse for CNN inference (TR-2018-2 and its extension)", INFERENCE),
    "The training paper": ("Adaptive Deep Reuse: Accelerating CNN Training on the Fly (ICDE 2019)", TRAINING),
}
