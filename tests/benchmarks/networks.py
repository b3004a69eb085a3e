"""PyTorch's side of `speed.py`: the same networks as ours in channels_last, and the fastest way to each measurement.

It runs in a process of its own: PyTorch's threads wait for work by spinning, and would take a core from what comes next.
"""

from collections.abc import Callable

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import nn
from torch.func import functional_call, grad, jvp, stack_module_state, vjp, vmap
from torch.nn.functional import cross_entropy

from tests.benchmarks.timing import BATCH, RUNS, seconds

Task = Callable[[], object]
TASKS: dict[str, Task] = {}  # of this process, by label
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def convolution(c_in: int, c_out: int, stride: int = 1, size: int = 3) -> nn.Conv2d:
    """A convolution without bias, padded as ours."""
    return nn.Conv2d(c_in, c_out, size, stride, size // 2, bias=False)


class Block(nn.Module):
    """A residual block: of ResNet-32 (norm after each convolution) or of WRN (before)."""

    def __init__(self, c_in: int, c_out: int, stride: int, pre: bool):
        super().__init__()
        self.pre = pre
        self.conv1, self.conv2 = convolution(c_in, c_out, stride), convolution(c_out, c_out)
        self.norm1, self.norm2 = nn.BatchNorm2d(c_in if pre else c_out), nn.BatchNorm2d(c_out)
        self.projection = convolution(c_in, c_out, stride, 1) if c_in != c_out else None
        self.projection_norm = nn.BatchNorm2d(c_out) if c_in != c_out and not pre else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Activations to activations."""
        if self.pre:
            active = self.norm1(x).relu()
            branch = self.conv2(self.norm2(self.conv1(active)).relu())
            return (x if self.projection is None else self.projection(active)) + branch
        branch = self.norm2(self.conv2(self.norm1(self.conv1(x)).relu()))
        return ((x if self.projection is None else self.projection_norm(self.projection(x))) + branch).relu()


def residual(blocks: int, width: int, pre: bool) -> nn.Module:
    """ResNet-(6 blocks + 2), or WRN-(6 blocks + 4) with `pre`."""
    layers: list[nn.Module] = [convolution(3, 16)]
    if not pre:
        layers += [nn.BatchNorm2d(16), nn.ReLU()]
    channels = 16
    for stage in range(3):
        for block in range(blocks):
            layers.append(Block(channels, width * 2**stage, 2 if stage and not block else 1, pre))
            channels = width * 2**stage
    if pre:
        layers += [nn.BatchNorm2d(channels), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10))


def simple_cnn() -> nn.Module:
    """SimpleCNN."""
    relu, pool, conv = nn.ReLU, nn.MaxPool2d, nn.Conv2d
    first = [conv(3, 32, 3, padding=1), relu(), conv(32, 32, 3), relu(), pool(2)]
    second = [conv(32, 64, 3, padding=1), relu(), conv(64, 64, 3), relu(), pool(2)]
    return nn.Sequential(*first, *second, nn.Flatten(), nn.Linear(2304, 128), relu(), nn.Linear(128, 10))


def mlp() -> nn.Module:
    """3072-300-100-10."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(3072, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, 10)
    )


NETWORKS = {
    "mlp": mlp,
    "simple_cnn": simple_cnn,
    "resnet32": lambda: residual(5, 16, pre=False),
    "wrn_16_4": lambda: residual(2, 64, pre=True),
    "wrn_28_10": lambda: residual(4, 160, pre=True),
}


def steps(network: nn.Module, x: torch.Tensor, y: torch.Tensor, count: int) -> Task:
    """`count` steps of SGD with momentum on successive batches of 128."""
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)

    def run() -> None:
        for t in range(count):
            rows = torch.arange(BATCH, device=DEVICE) + BATCH * t % (len(y) - BATCH + 1)
            optimizer.zero_grad()
            cross_entropy(network(x[rows]), y[rows]).backward()
            optimizer.step()

    return run


def hessian_product(network: nn.Module, x: torch.Tensor, y: torch.Tensor) -> Task:
    """Double backward: faster here than torch.func's jvp of grad."""
    weights = list(network.parameters())
    vector = [torch.ones_like(p) for p in weights]

    def run() -> object:
        slope = torch.autograd.grad(cross_entropy(network(x), y), weights, create_graph=True)
        return torch.autograd.grad(slope, weights, vector)

    return run


def top_pairs(network: nn.Module, x: torch.Tensor, y: torch.Tensor) -> Task:
    """Five largest eigenvalues of the Hessian, by SciPy's eigsh on double backward in batches."""
    weights = list(network.parameters())
    sizes, batches = [p.numel() for p in weights], list(zip(x.split(BATCH), y.split(BATCH), strict=True))

    def product(flat: np.ndarray) -> np.ndarray:
        vector = torch.tensor(flat, dtype=torch.float32, device=DEVICE).split(sizes)
        total = [torch.zeros_like(p) for p in weights]
        for images, labels in batches:
            slope = torch.autograd.grad(cross_entropy(network(images), labels), weights, create_graph=True)
            shaped = [v.view_as(p) for v, p in zip(vector, weights, strict=True)]
            for part, own in zip(total, torch.autograd.grad(slope, weights, shaped), strict=True):
                part.add_(own, alpha=len(labels) / len(y))
        return torch.cat([part.flatten() for part in total]).cpu().numpy().astype(np.float64)

    def run() -> object:
        operator = LinearOperator((sum(sizes),) * 2, product, dtype=np.float64)  # pyright: ignore[reportCallIssue]
        return eigsh(operator, k=5, which="LA", tol=1e-3)  # pyright: ignore[reportArgumentType]

    return run


def _loss(network: nn.Module) -> Callable:
    return lambda weights, x, y: cross_entropy(functional_call(network, weights, (x[None],)), y[None])


def per_example_norms(network: nn.Module, x: torch.Tensor, y: torch.Tensor, chunk: int) -> Task:
    """|gradient|^2 of each example, by vmap of grad."""
    weights = {name: p.detach() for name, p in network.named_parameters()}
    gradients = vmap(grad(_loss(network)), (None, 0, 0), chunk_size=chunk)

    def run() -> object:
        return sum(g.flatten(1).square().sum(1) for g in gradients(weights, x, y).values())

    return run


def covariance_product(network: nn.Module, x: torch.Tensor, y: torch.Tensor) -> Task:
    """A product with the uncentred covariance of gradients: one jvp of the losses and one vjp."""
    weights = {name: p.detach() for name, p in network.named_parameters()}
    vector = {name: torch.ones_like(p) for name, p in weights.items()}

    def losses(weights: dict) -> torch.Tensor:
        return cross_entropy(functional_call(network, weights, (x,)), y, reduction="none")

    def run() -> object:
        along = jvp(losses, (weights,), (vector,))[1]
        return vjp(losses, weights)[1](along)

    return run


def evaluation(network: nn.Module, x: torch.Tensor, y: torch.Tensor) -> Task:
    """Correct predictions in evaluation mode."""

    def run() -> object:
        network.eval()
        with torch.inference_mode():
            right = (network(x).argmax(1) == y).sum()
        network.train()
        return right

    return run


def sweep(runs: int, x: torch.Tensor, y: torch.Tensor, count: int) -> Task:
    """`count` SGD steps with momentum of `runs` MLPs at once, by torch.func over stacked weights."""
    networks = [mlp().to(DEVICE) for _ in range(runs)]
    weights, _ = stack_module_state(networks)  # type: ignore[arg-type]
    weights = {name: p.detach() for name, p in weights.items()}
    buffers = {name: torch.zeros_like(p) for name, p in weights.items()}
    rates = torch.logspace(-3, -1, runs, device=DEVICE)

    def loss(weights: dict, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return cross_entropy(functional_call(networks[0], weights, (x,)), y)

    gradients = vmap(grad(loss), (0, None, None))

    def run() -> None:
        for t in range(count):
            rows = torch.arange(BATCH, device=DEVICE) + BATCH * t % (len(y) - BATCH + 1)
            slope = gradients(weights, x[rows], y[rows])
            for name, p in weights.items():
                buffers[name].mul_(0.9).add_(slope[name])
                p.sub_(rates.view(-1, *[1] * (p.ndim - 1)) * buffers[name])

    return run


def in_bfloat16(step: Task) -> Task:
    """Activations in bfloat16 under float32 parameters, as `compute_dtype` of ours."""

    def run() -> object:
        with torch.autocast(DEVICE.type, dtype=torch.bfloat16):
            return step()

    return run


def _tasks(part: str, name: str, x: torch.Tensor, y: torch.Tensor, count: int, precision: str) -> dict[str, Task]:
    # As lrjax: tensor cores round the products of training where it asks for that, never those of curvature.
    rounds = part in ("step", "sweep", "evaluation") and precision != "float32"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = rounds
    torch.backends.cudnn.benchmark = True
    if part == "sweep":
        one = steps(mlp().to(DEVICE), x, y, count)
        return {"one run": one, f"torch.func, {RUNS} at once": sweep(RUNS, x, y, count)}
    network, few = NETWORKS[name]().to(DEVICE, memory_format=torch.channels_last), (x[:BATCH], y[:BATCH])
    if part == "step" and DEVICE.type == "cuda":
        compiled = torch.compile(NETWORKS[name]().to(DEVICE, memory_format=torch.channels_last), mode="reduce-overhead")
        ways = {"PyTorch": steps(network, x, y, count), "torch.compile with CUDA graphs": steps(compiled, x, y, count)}
        return {label: in_bfloat16(way) if precision == "bfloat16" else way for label, way in ways.items()}
    if part == "step":
        return {"PyTorch": steps(network, x, y, count)}
    if part == "top5":
        return {"eigsh of double backward": top_pairs(network, x, y)}
    if part == "hvp":
        return {"PyTorch": hessian_product(network, *few)}
    if part == "evaluation":
        return {"PyTorch": evaluation(network, x, y)}
    if part == "per_example":
        return {f"vmap {chunk}": per_example_norms(network, *few, chunk) for chunk in (16, 64)}
    return {"jvp and vjp": covariance_product(network, *few)}


def prepare(part: str, name: str, x: np.ndarray, y: np.ndarray, count: int, precision: str = "float32") -> list[str]:
    """Makes the ways to one measurement, for `run`; returns their labels.

    Args:
        part, name: as for `speed.py`.
        x, y: images `[N, H, W, C]` and labels.
        count: steps of one call.
        precision: of training steps: "float32", "tensorfloat32" or "bfloat16".
    """
    images = torch.tensor(x.transpose(0, 3, 1, 2)).contiguous(memory_format=torch.channels_last)
    TASKS.clear()
    TASKS.update(_tasks(part, name, images.to(DEVICE), torch.tensor(y, dtype=torch.long).to(DEVICE), count, precision))
    return list(TASKS)


def run(label: str) -> float:
    """Seconds of one call of what `prepare` made."""

    def finished() -> None:
        TASKS[label]()
        if DEVICE.type == "cuda":
            torch.cuda.synchronize()

    return seconds(finished)()
