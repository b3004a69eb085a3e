"""What an optimizer step costs with and without weight decay: ratios of interleaved medians, FLOPs and bytes.

Run:  python -m tests.benchmarks.transforms [--parameters=1000000] [--repeats=41]
"""

import argparse
import statistics
import time

import jax
import jax.numpy as jnp
import optax

from lrjax.transforms import texp, wd_free_adamw, wd_free_sgd

RATE, DECAY, MOMENTUM, STEPS = 0.1, 5e-4, 0.9, 10_000
BETAS = {"b1": 0.9, "b2": 0.999, "eps": 1e-8}

# name -> (the chain with weight decay, its twin without)
PAIRS = {
    "wd_free_sgd, table": (
        optax.chain(optax.add_decayed_weights(DECAY), optax.sgd(RATE, MOMENTUM)),
        wd_free_sgd(RATE, DECAY, MOMENTUM, num_steps=STEPS),
    ),
    "wd_free_sgd, open-ended": (
        optax.chain(optax.add_decayed_weights(DECAY), optax.sgd(RATE, MOMENTUM)),
        wd_free_sgd(RATE, DECAY, MOMENTUM),
    ),
    "texp": (
        optax.chain(optax.add_decayed_weights(DECAY), optax.sgd(RATE, MOMENTUM)),
        texp((4000, 8000), (RATE, RATE / 10, RATE / 100), DECAY, MOMENTUM),
    ),
    "wd_free_adamw, table": (
        optax.adamw(1e-3, weight_decay=0.01, **BETAS),
        wd_free_adamw(1e-3, BETAS["b1"], BETAS["b2"], BETAS["eps"], 0.01, num_steps=STEPS),
    ),
}


def compiled(optimizer, parameters):
    """A donated step of the optimizer alone, its first arguments and its cost."""
    params = {"w": jnp.ones(parameters)}
    gradient = {"w": jnp.full(parameters, 1e-3)}
    state = optimizer.init(params)

    def step(params, state, gradient):
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    program = jax.jit(step, donate_argnums=(0, 1)).lower(params, state, gradient).compile()
    return program, params, state, gradient, program.cost_analysis()


def once(program, params, state, gradient):
    """(seconds, the new parameters and state)."""
    start = time.perf_counter()
    params, state = jax.block_until_ready(program(params, state, gradient))
    return time.perf_counter() - start, params, state


def main():
    """Prints a line a transform."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parameters", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=41)
    flags = parser.parse_args()
    print(f"{flags.parameters:,} parameters, {flags.repeats} interleaved repeats; twin / chain with weight decay")
    for name, pair in PAIRS.items():
        programs = [list(compiled(optimizer, flags.parameters)) for optimizer in pair]
        times: list[list[float]] = [[], []]
        for _ in range(flags.repeats):
            for place, own in enumerate(programs):
                seconds, own[1], own[2] = once(*own[:4])
                times[place].append(seconds)
        ratios = [b / a for a, b in zip(*times, strict=True)]
        flops, moved = ([own[4][key] for own in programs] for key in ("flops", "bytes accessed"))
        print(
            f"{name:<24} time {statistics.median(ratios):.2f} ({1e3 * statistics.median(times[0]):.2f} ms the chain)   "
            f"FLOPs {flops[1] / flops[0]:.2f}   bytes {moved[1] / moved[0]:.2f}"
        )


if __name__ == "__main__":
    main()
