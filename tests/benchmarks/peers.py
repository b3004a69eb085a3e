"""SimpleCNN in PyTorch with the parameters of ours, and the curvature tools of PyTorch on it; imported where torch is."""

from collections.abc import Callable
from typing import Any

import curvlinops
import numpy as np
import torch
from pyhessian import hessian
from scipy.sparse.linalg import LinearOperator, eigsh


def _convolution(params: Any, padding: int) -> torch.nn.Conv2d:
    kernel = np.asarray(params["kernel"])
    layer = torch.nn.Conv2d(kernel.shape[2], kernel.shape[3], 3, padding=padding)
    layer.weight.data = torch.tensor(kernel.transpose(3, 2, 0, 1)).contiguous()
    layer.bias.data = torch.tensor(np.asarray(params["bias"]))
    return layer


def _dense(params: Any, channels: int | None = None) -> torch.nn.Linear:
    """A linear layer; after flattening, ours reads [H, W, C] and PyTorch's [C, H, W]."""
    kernel = np.asarray(params["kernel"]).T
    if channels is not None:
        side = round((kernel.shape[1] / channels) ** 0.5)
        kernel = kernel.reshape(-1, side, side, channels).transpose(0, 3, 1, 2).reshape(kernel.shape)
    layer = torch.nn.Linear(kernel.shape[1], kernel.shape[0])
    layer.weight.data = torch.tensor(np.ascontiguousarray(kernel))
    layer.bias.data = torch.tensor(np.asarray(params["bias"]))
    return layer


def simple_cnn(params: Any) -> torch.nn.Module:
    """The network of `lrjax.models.simple_cnn`, in channels_last."""
    relu, pool = torch.nn.ReLU, torch.nn.MaxPool2d
    layers = [
        *(_convolution(params["conv1"], 1), relu(), _convolution(params["conv2"], 0), relu(), pool(2)),
        *(_convolution(params["conv3"], 1), relu(), _convolution(params["conv4"], 0), relu(), pool(2)),
        *(torch.nn.Flatten(), _dense(params["dense1"], channels=64), relu(), _dense(params["dense2"])),
    ]
    return torch.nn.Sequential(*layers).to(memory_format=torch.channels_last)


def batches(x: np.ndarray, y: np.ndarray, size: int) -> list:
    """NCHW batches in channels_last."""
    images = torch.tensor(x.transpose(0, 3, 1, 2)).to(memory_format=torch.channels_last)
    labels = torch.tensor(y, dtype=torch.long)
    return list(zip(images.split(size), labels.split(size), strict=True))


def _residual(product: Callable, value: float, vector: np.ndarray) -> float:
    return float(np.linalg.norm(product(vector) - value * vector) / abs(value))


def scipy_on_torch(model: torch.nn.Module, data: list, k: int, tol: float) -> tuple[np.ndarray, int, float]:
    """eigsh on double backward: (values, products, worst relative residual)."""
    weights = list(model.parameters())
    total, count = sum(len(y) for _, y in data), 0

    def product(v: np.ndarray) -> np.ndarray:
        nonlocal count
        count += 1
        parts = torch.tensor(v, dtype=torch.float32).split([p.numel() for p in weights])
        shaped = [part.view_as(p) for part, p in zip(parts, weights, strict=True)]
        sums = [torch.zeros_like(p) for p in weights]
        for x, y in data:
            loss = torch.nn.functional.cross_entropy(model(x), y)
            gradient = torch.autograd.grad(loss, weights, create_graph=True)
            along = sum((g * s).sum() for g, s in zip(gradient, shaped, strict=True))
            for s, h in zip(sums, torch.autograd.grad(along, weights), strict=True):
                s += h * (len(y) / total)
        return torch.cat([s.flatten() for s in sums]).numpy().astype(np.float64)

    size = sum(p.numel() for p in weights)
    values, vectors = eigsh(LinearOperator((size, size), product, dtype=np.float64), k=k, which="LA", tol=tol)
    products = count
    return values[::-1], products, max(_residual(product, *pair) for pair in zip(values, vectors.T, strict=True))


def curvlinops_top(model: torch.nn.Module, data: list, k: int, tol: float) -> tuple[np.ndarray, int, float]:
    """eigsh on curvlinops' Hessian."""
    loss = torch.nn.CrossEntropyLoss(reduction="mean")
    operator = curvlinops.HessianLinearOperator(model, loss, list(model.parameters()), data, check_deterministic=False)
    inner, count = operator.to_scipy(), 0

    def product(v: np.ndarray) -> np.ndarray:
        nonlocal count
        count += 1
        return np.asarray(inner @ v.astype(np.float32), np.float64)

    values, vectors = eigsh(LinearOperator(inner.shape, product, dtype=np.float64), k=k, which="LA", tol=tol)
    products = count
    return values[::-1], products, max(_residual(product, *pair) for pair in zip(values, vectors.T, strict=True))


def pyhessian_top(model: torch.nn.Module, data: list, tol: float) -> tuple[np.ndarray, int, float]:
    """PyHessian's power iteration for one eigenvalue; its products are counted by the calls of its own method."""
    tool = hessian(model, torch.nn.CrossEntropyLoss(), dataloader=data, cuda=False)
    inner, calls = tool.dataloader_hv_product, []

    def product(v: Any) -> Any:
        calls.append(1)
        return inner(v)

    tool.dataloader_hv_product = product
    (value,), (vector,) = tool.eigenvalues(maxIter=100, tol=tol, top_n=1)
    products = len(calls)
    image = torch.cat([h.flatten() for h in inner(vector)[1]])
    flat = torch.cat([v.flatten() for v in vector])
    return np.array([value]), products, float((image - value * flat).norm() / abs(value))
