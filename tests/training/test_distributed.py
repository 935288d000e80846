"""Two processes of torchrun train together (gloo, DDP): with different losses and accuracies they switch together."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tools.cpp_build import ROOT

torch = pytest.importorskip("torch", reason="training needs torch: pip install reuse-compiler[training]")

RANKS = 2


def _train(folder: str) -> None:
    """What each process runs; torchrun tells it its rank and whom to meet where."""
    from torch import distributed, nn

    from reuse_compiler.training import HashRefit, convert, make_strategy, reuse_state
    from reuse_compiler.training.loss_trend import TrendOptions
    from tests.training.networks import small_network, smooth_images

    torch.set_num_threads(1)
    distributed.init_process_group("gloo")
    rank = distributed.get_rank()
    x, target = smooth_images(8, 3, 12, seed=rank), torch.arange(8) % 4
    model = small_network()
    conversion = convert(model, x, ["3"], family="learned", layout="channel")
    parallel = nn.parallel.DistributedDataParallel(model)
    trend = TrendOptions(window=2, patience=1, least_decrease=0.5)
    strategy = make_strategy(2, model, conversion, trend=trend, samples=[x], dense_last=True)
    refit = HashRefit(conversion.layers, every=3, batches=1)
    optimizer = torch.optim.SGD(parallel.parameters(), 0.01)
    # Alone, rank 0 would never switch, and rank 1 would at once.
    evaluations = iter([0.1 + 0.2 * rank] * 100)
    for step in range(12):
        loss = nn.functional.cross_entropy(parallel(x), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        refit.step()
        strategy.step(0.4**step if rank == 0 else 1.0, lambda: next(evaluations))
    found: dict[str, Any] = strategy.state_dict()
    found["hash"] = {
        name: {key: array.tolist() for key, array in own["hash"].items()} for name, own in reuse_state(model).items()
    }
    found["weight"] = model.get_submodule("3").weight.detach().flatten().tolist()
    Path(folder, f"{rank}.json").write_text(json.dumps(found), encoding="utf-8")
    distributed.barrier()  # nobody leaves while another one still needs it
    distributed.destroy_process_group()


def test_all_ranks_switch_together_and_share_hashes(tmp_path: Path) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(RANKS)]
    run = subprocess.run([*torchrun, __file__, str(tmp_path)], cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert run.returncode == 0
    zero, one = (json.loads(Path(tmp_path, f"{rank}.json").read_text(encoding="utf-8")) for rank in range(RANKS))
    assert zero["switches"] and zero["steps"] == 12
    assert zero == one
    accuracies = [accuracy for switch in zero["switches"] for accuracy in switch["accuracies"].values()]
    assert accuracies and all(accuracy == pytest.approx(0.2) for accuracy in accuracies)  # the ranks' mean


if __name__ == "__main__":
    _train(sys.argv[1])
    # As multiprocessing's children end: threads of libraries may still be running, and C++ aborts a process that takes
    # them down in the wrong order.
    os._exit(0)
