"""Trains one of `builders.TRAINABLE` on CIFAR-10 and stores weights that `builders.trained` puts into its ONNX model.

Training uses batch normalisation, which is folded into the layer before it when the weights are stored. The reported
accuracy is that of the stored (rounded) weights in the ONNX model run by ONNX Runtime. With `--strategy` convolutions
are trained with reuse (reuse_compiler.training).
"""
# mypy: disable-error-code="no-untyped-call", warn_unused_ignores=False, disallow_subclassing_any=False
# (PyTorch leaves Tensor.split and Tensor.backward without annotations, and mypy also runs where PyTorch is absent.)

import shlex
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import onnxruntime
import torch
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor, nn

from models import builders, datasets, preprocessing
from models.conversion import fold_batch_norm
from models.reuse_training import ReuseOptions, ReuseTraining, StrategyName
from models.training_log import Row, TrainingLog
from reuse_compiler.cli.command import Command, run_program
from reuse_compiler.reuse.config import FamilyName, TableType
from reuse_compiler.training.function import Gradient
from reuse_compiler.training.loss_trend import TrendOptions

console = Console()
CROP_PADDING = 4
LOG_STEPS = 20
Precision = Literal["float32", "bfloat16"]
Device = Literal["cpu", "cuda"]
DATA_HELP = "Folder of cifar10_train.npz and cifar10_test.npz; default: $REUSE_DATA or ../shared/data."


class TrainableLayers:
    """Lays an architecture as a PyTorch network, with batch normalisation before each Relu, dropout before `fc1`."""

    def __init__(self, size: int, dropout: float) -> None:
        self.net = nn.Sequential()
        self._shape: tuple[int, ...] = (3, size, size)
        self._dropout = dropout

    def conv(self, name: str, out_channels: int, kernel: int, stride: int = 1, pad: int = 0) -> None:
        """Convolution `name`, its normalisation `bn_<name>` and a Relu."""
        convolution = nn.Conv2d(self._shape[0], out_channels, kernel, stride, pad, bias=False)
        self._add(name, convolution)
        self._add(f"bn_{name}", nn.BatchNorm2d(out_channels))
        self._add(f"relu_{name}", nn.ReLU())

    def max_pool(self, name: str, kernel: int, stride: int, pad_end: int = 0) -> None:
        """Max pooling; padding at the end is PyTorch's `ceil_mode`, with which a pool also takes smaller images."""
        self._add(name, nn.MaxPool2d(kernel, stride, ceil_mode=pad_end > 0 or kernel == stride))

    def flatten(self) -> None:
        """`[N, C, H, W]` to `[N, C*H*W]`, channels slowest; of smaller images as much as of those of full size."""
        self._add("full_size", nn.AdaptiveMaxPool2d(self._shape[1:]))
        self._add("flatten", nn.Flatten())

    def fully_connected(self, name: str, out_features: int, relu: bool = True) -> None:
        """Linear layer `name`, and with `relu` its normalisation and a Relu."""
        if name == "fc1":
            self._add("dropout", nn.Dropout(self._dropout))
        self._add(name, nn.Linear(self._shape[0], out_features, bias=not relu))
        if relu:
            self._add(f"bn_{name}", nn.BatchNorm1d(out_features))
            self._add(f"relu_{name}", nn.ReLU())

    def _add(self, name: str, module: nn.Module) -> None:
        self.net.add_module(name, module)
        with torch.no_grad():
            self._shape = tuple(module.eval()(torch.zeros(1, *self._shape)).shape[1:])
        module.train()


def trainable(network: str, dropout: float) -> nn.Sequential:
    """The PyTorch form of one of `builders.TRAINABLE`, channels last in memory."""
    layers = TrainableLayers(32, dropout)
    builders.TRAINABLE[network](layers)
    return layers.net.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def folded_weights(net: nn.Sequential) -> dict[str, NDArray[np.float16]]:
    """Weights and biases per layer with batch normalisation folded in, rounded to float16."""
    state = {key: value.detach().double().cpu().numpy() for key, value in net.state_dict().items()}
    stored = {}
    for layer in (name for name, module in net.named_children() if isinstance(module, nn.Conv2d | nn.Linear)):
        weight, bias = state[f"{layer}.weight"], state.get(f"{layer}.bias", 0.0)
        norm = getattr(net, f"bn_{layer}", None)
        if norm is not None:
            weight, bias = fold_batch_norm(weight, bias, state, f"bn_{layer}", norm.eps)
        stored[f"{layer}.weight"], stored[f"{layer}.bias"] = weight.astype(np.float16), bias.astype(np.float16)
    return stored


CLIPS = np.linspace(1.0, 0.4, 13)
"""Shares of a channel's largest weight that the largest integer may stand for."""


def in_integers(weights: dict[str, NDArray[np.float16]], bits: int) -> dict[str, NDArray[Any]]:
    """Weights (not biases) as integers of so many bits, with scales by output channel that lose least of each."""
    stored: dict[str, NDArray[Any]] = dict(weights)
    for key in (name for name in weights if name.endswith(".weight")):
        weight = weights[key].astype(np.float32).reshape(len(weights[key]), -1)
        most = 2 ** (bits - 1) - 1
        largest = np.maximum(np.abs(weight).max(1, keepdims=True), np.finfo(np.float16).tiny)
        scales = [np.float32(clip) * largest / most for clip in CLIPS]
        rounded = [np.clip(np.rint(weight / scale), -most, most) for scale in scales]
        errors = [np.square(own * scale - weight).sum(1) for own, scale in zip(rounded, scales, strict=True)]
        best, channels = np.argmin(errors, axis=0), np.arange(len(weight))
        stored[key] = np.stack(rounded)[best, channels].astype(np.int8).reshape(weights[key].shape)
        stored[key + builders.SCALE] = np.stack(scales)[best, channels, 0].astype(np.float32)
    return stored


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Random crops of the padded images `[N, 3, 32+2p, 32+2p]` to `[N, 3, 32, 32]`, half of them mirrored."""
    count, size = len(images), images.shape[2] - 2 * CROP_PADDING
    row, column = torch.randint(0, 2 * CROP_PADDING + 1, (2, count, 1), generator=generator)
    rows, columns = row + torch.arange(size), column + torch.arange(size)
    mirrored = torch.rand(count, 1, generator=generator) < 0.5
    columns = torch.where(mirrored, columns.flip(1), columns)
    sample = torch.arange(count)[:, None, None]
    cropped = images.permute(0, 2, 3, 1)[sample, rows[:, :, None], columns[:, None, :]]
    return cropped.permute(0, 3, 1, 2)


def normalised(images: list[datasets.RgbImage]) -> Tensor:
    """The network's input `[N, 3, H, W]`, channels last in memory."""
    return torch.from_numpy(preprocessing.CIFAR10(images)).to(memory_format=torch.channels_last)


def onnx_accuracy(
    network: str, path: Path, images: NDArray[np.float32], labels: NDArray[np.int64], threads: int
) -> float:
    """Top-1 of the weights stored at `path`, in the ONNX model run by ONNX Runtime on `images` `[N, 3, 32, 32]`."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    model = builders.cifar_network(network, builders.load_weights(path)).SerializeToString()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    logits = np.concatenate([session.run(None, {"x": images[i : i + 500]})[0] for i in range(0, len(images), 500)])
    return float(np.mean(logits.argmax(1) == labels))


def torch_accuracy(net: nn.Sequential, images: Tensor, labels: Tensor) -> float:
    """Top-1 of the network in training, float32."""
    net.eval()
    with torch.no_grad():
        device = next(net.parameters()).device
        pairs = zip(images.split(500), labels.split(500), strict=True)
        hits = [(net(x.to(device)).argmax(1).cpu() == y).sum() for x, y in pairs]
    return float(sum(hits)) / len(labels)


@dataclass(frozen=True)
class Schedule:
    """How long and how a network is trained."""

    epochs: int
    batch: int
    seed: int
    precision: Precision = "bfloat16"
    device: Device = "cpu"
    steps: int | None = None
    """In place of those that `epochs` have."""
    sizes: tuple[int, ...] = (32,)
    """Sides of the images, each for its share of the steps: small ones teach nearly as much in less time."""


def total_steps(schedule: Schedule, images: int) -> int:
    """Returns how many steps a training with so many images has."""
    return schedule.steps or schedule.epochs * (images // schedule.batch)


@dataclass
class Clock:
    """Time of training alone, without tests and logging: on the wall, and of this process's threads together."""

    wall: float = 0.0
    threads: float = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Adds what happens within."""
        wall, threads = time.monotonic(), time.process_time()
        yield
        self.wall += time.monotonic() - wall
        self.threads += time.process_time() - threads


def train(
    net: nn.Sequential,
    images: Tensor,
    labels: Tensor,
    test: tuple[Tensor, Tensor],
    schedule: Schedule,
    reuse: ReuseTraining | None = None,
    log: TrainingLog | None = None,
) -> Clock:
    """SGD with Nesterov momentum, one learning-rate cycle, label smoothing; returns what it took."""
    steps, log, clock = len(images) // schedule.batch, log or TrainingLog(None, []), Clock()
    total = total_steps(schedule, len(images))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
    rates = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.15, total_steps=total, pct_start=0.2)
    generator = torch.Generator().manual_seed(schedule.seed)
    step, since = 0, [0.0]
    with progress_bar() as progress:
        task = progress.add_task("training", total=total)
        for epoch in range(1, -(-total // steps) + 1):
            running, started, count = 0.0, time.monotonic(), min(steps, total - step)
            for chosen in torch.randperm(len(images), generator=generator)[: count * schedule.batch].split(
                schedule.batch
            ):
                inputs = augment(images[chosen], generator).to(schedule.device)
                side = schedule.sizes[step * len(schedule.sizes) // total]
                if side != inputs.shape[2]:
                    inputs = nn.functional.interpolate(inputs, (side, side), mode="area")
                net.train()
                with clock.running():
                    loss = take_step(net, optimizer, inputs, labels[chosen].to(schedule.device), schedule.precision)
                    rates.step()
                    if reuse is not None:
                        reuse.step(loss)
                step, running = step + 1, running + loss
                since.append(loss)
                if step % LOG_STEPS == 0 or step == total:
                    row: Row = {"step": step, "epoch": epoch, "seconds": round(clock.wall, 3)}
                    row["loss"] = round(sum(since[1:]) / (len(since) - 1), 5)
                    log.add(row | ({} if reuse is None else reuse.row(len(since) - 1)))
                    since = [0.0]
                progress.advance(task)
            top1, seconds = torch_accuracy(net, *test), time.monotonic() - started
            log.add({"step": step, "epoch": epoch, "seconds": round(clock.wall, 3), "test_accuracy": top1})
            console.print(f"epoch {epoch:2d}  loss {running / count:.3f}  test top-1 {top1:.4f}  {seconds:.0f} s")
    return clock


def take_step(
    net: nn.Sequential, optimizer: torch.optim.Optimizer, inputs: Tensor, labels: Tensor, precision: Precision
) -> float:
    """Takes one training step; returns its loss."""
    with torch.autocast(inputs.device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16"):
        logits = net(inputs)
    loss = nn.functional.cross_entropy(logits.float(), labels, label_smoothing=0.05)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    value: float = loss.item()
    return value


def progress_bar() -> Progress:
    """Steps done, time taken and time left."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, TimeRemainingColumn(), console=console)


def store(weights: Mapping[str, NDArray[Any]], path: Path) -> None:
    """Writes the NPZ file at once: a reader sees the old file or the whole new one.

    It is compressed by bzip2, which takes 5% less than NumPy's own way where weights are integers of a few bits.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.NamedTemporaryFile(dir=path.parent, suffix=".npz", delete=False) as file,
        zipfile.ZipFile(file, "w", zipfile.ZIP_BZIP2) as archive,
    ):
        for name, array in weights.items():
            with archive.open(f"{name}.npy", "w") as part:
                np.lib.format.write_array(part, array, allow_pickle=False)
    temporary = Path(file.name)
    temporary.chmod(0o644)  # NamedTemporaryFile makes files that only their owner reads
    temporary.replace(path)


def main(
    network: Annotated[str, typer.Argument(help=f"Which network: {', '.join(builders.TRAINABLE)}.")],
    data: Annotated[Path | None, typer.Option(help=DATA_HELP)] = None,
    output: Annotated[Path | None, typer.Option(help="Where the weights go; default: models/weights.")] = None,
    epochs: Annotated[int, typer.Option(min=1)] = 28,
    steps: Annotated[int | None, typer.Option(min=1, help="Training steps in all, in place of --epochs.")] = None,
    batch: Annotated[int, typer.Option(min=2)] = 256,
    size: Annotated[
        list[int] | None, typer.Option(min=16, max=32, help="Sides of the images, for equal shares of the steps.")
    ] = None,
    dropout: Annotated[float, typer.Option(min=0.0, max=0.9)] = 0.2,
    threads: Annotated[int, typer.Option(min=1)] = 1,
    seed: Annotated[int, typer.Option()] = 0,
    precision: Annotated[
        Precision | None, typer.Option(help="Of the layers without reuse; default: float32 with a strategy.")
    ] = None,
    strategy: Annotated[
        StrategyName, typer.Option(help="The training paper's: 1 fixed {L,H}, 2 adaptive {L,H}, 3 cluster reuse.")
    ] = "none",
    layers: Annotated[str | None, typer.Option(help="Regular expression: layers with reuse; default: all.")] = None,
    family: Annotated[FamilyName, typer.Option(help="Hash family of the layers with reuse.")] = "sign",
    setting: Annotated[
        list[str] | None, typer.Option(help="LAYER=L,H for strategies 1 and 3; default: the middle candidate.")
    ] = None,
    finest: Annotated[
        str | None,
        typer.Option(help="L,H at which strategy 2 ends: more exact settings may take longer than no reuse."),
    ] = None,
    dense_last: Annotated[bool, typer.Option("--dense-last", help="Strategy 2 may end without reuse.")] = False,
    window: Annotated[int, typer.Option(min=1, help="Steps over which losses are averaged.")] = 50,
    patience: Annotated[int, typer.Option(min=1, help="Windows without a lower loss until a switch.")] = 1,
    least_decrease: Annotated[float, typer.Option(min=0.0, max=0.9, help="What counts as a lower loss.")] = 0.01,
    refit: Annotated[int, typer.Option(min=0, help="Steps between new trees (family learned); 0: none.")] = 100,
    table: Annotated[
        TableType, typer.Option(help="Products of centroids with reuse, forwards; int8 is faster with short vectors.")
    ] = "float",
    gradient: Annotated[
        Gradient, typer.Option(help="Of a layer's input with reuse: averaged over clusters as in the paper, or not.")
    ] = "averaged",
    log: Annotated[Path | None, typer.Option(help="Folder for CSV, JSON and plot (needs the extra report).")] = None,
    limit: Annotated[int | None, typer.Option(min=2, help="Use so many training images only, to try this out.")] = None,
    bits: Annotated[
        int | None, typer.Option(min=2, max=8, help="Store weights as integers of so many bits, not as float16.")
    ] = None,
    device: Annotated[Device, typer.Option(help="Where it is trained.")] = "cpu",
) -> None:
    """Train a network, store its weights and report their test top-1."""
    if network not in builders.TRAINABLE:
        raise typer.BadParameter(f"there is no '{network}'; choose of {', '.join(builders.TRAINABLE)}")
    folder = data or datasets.data_dir()
    if folder is None:
        raise typer.BadParameter("no sample data found; give its folder", param_hint="--data")
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    console.print(f"decoding {folder}")
    train_photos, train_labels = datasets.read_archive(folder / "cifar10_train.npz", limit)
    if len(train_photos) < batch:
        raise typer.BadParameter(
            f"a batch of {batch} is more than the {len(train_photos)} images", param_hint="--batch"
        )
    test_photos, test_labels = datasets.read_archive(folder / "cifar10_test.npz")
    test_images = normalised(test_photos)
    border = ((CROP_PADDING, CROP_PADDING), (CROP_PADDING, CROP_PADDING), (0, 0))
    images = normalised([np.pad(photo, border, mode="reflect") for photo in train_photos])

    if device == "cuda" and not torch.cuda.is_available():
        raise typer.BadParameter("there is no CUDA device, or PyTorch was built without CUDA", param_hint="--device")
    net = trainable(network, dropout).to(device)
    test, targets = (test_images, torch.from_numpy(test_labels)), torch.from_numpy(train_labels)
    reuse = None
    if strategy != "none":
        trend = TrendOptions(window, patience, least_decrease)
        options = ReuseOptions(
            strategy=strategy,
            family=family,
            layers=layers,
            settings=tuple(setting or ()),
            dense_last=dense_last,
            trend=trend,
            refit=refit,
            gradient=gradient,
            table=table,
            finest=finest,
        )
        inner = images[:batch, :, CROP_PADDING:-CROP_PADDING, CROP_PADDING:-CROP_PADDING]
        inner = inner.contiguous(memory_format=torch.channels_last).to(device)
        reuse = ReuseTraining(net, inner, targets[:batch].to(device), options, seed)
    precision = precision or ("bfloat16" if reuse is None else "float32")
    schedule = Schedule(epochs, batch, seed, precision, device, steps, tuple(size or (32,)))
    records = TrainingLog(log, [] if reuse is None else list(reuse.layers))
    clock = train(net, images, targets, test, schedule, reuse, records)
    result = {"command": shlex.join(["python", "-m", "models.train", *sys.argv[1:]]), "threads": threads}
    result |= {"seconds": clock.wall, "thread_seconds": clock.threads}
    result |= asdict(schedule) | {"steps": total_steps(schedule, len(images))}
    result["test_accuracy"] = torch_accuracy(net, *test)
    if reuse is not None:
        result |= reuse.result() | {"test_accuracy_dense": reuse.dense_accuracy(lambda: torch_accuracy(net, *test))}
        console.print(f"{result['switches']!s}\n{result['operations_saved']:.1%} of the operations saved")
        reuse.finish()
    output = output or builders.weights_path(network)
    weights = folded_weights(net)
    store(weights if bits is None else in_integers(weights, bits), output)
    top1 = onnx_accuracy(network, output, np.ascontiguousarray(test_images.numpy()), test_labels, threads)
    records.finish(result | {"onnx_accuracy": top1})
    console.print(f"{clock.wall:.1f} s of training, {clock.threads:.1f} s over all threads")
    console.print(f"{output}: test top-1 {top1:.4f} on {len(test_labels)} images (stored weights, ONNX Runtime)")


if __name__ == "__main__":
    app = typer.Typer(add_completion=False)
    app.command(cls=Command)(main)
    run_program(app, "python -m models.train")
