"""Figures of the first version's claims: stages across networks, and plateaus by rate and complexity."""

from lrjax.experiment.rundir.lanes import by_arm, lanes, recorded
from lrjax.experiment.rundir.metrics import RunResult
from lrjax.papers.claim import NotMeasured
from lrjax.papers.drawn import seeds_and_mean
from lrjax.papers.lr_decay.checks import ALL
from lrjax.papers.lr_decay.drawing import SEEDS, colours, curves, mark_decays
from lrjax.papers.lr_decay.level_checks import plateau_arms, plateau_values
from lrjax.plots.drawing import Figure, canvas, legend_below, thousands

SCHEDULES = {
    "constant": "no decay",
    "decay_1": "early, x 0.1",
    "decay_2": "late, x 0.1",
    "decay_3": "late, x 0.2",
}


def networks(run: RunResult) -> Figure | None:
    """Test accuracy through training, a network a panel, a schedule a colour."""
    arms = by_arm(recorded(run, ALL))
    names = list(dict.fromkeys(arm.rsplit("_constant", 1)[0] for arm in arms if arm.endswith("_constant")))
    if not names:
        return None
    fig, axes = canvas(len(names), 1, height=1.9 * len(names) + 0.9, sharex=True, sharey=True)
    shades = colours(list(SCHEDULES))
    for axis, network in zip(axes[:, 0], names, strict=True):
        for place, (schedule, words) in enumerate(SCHEDULES.items()):
            own = arms.get(f"{network}_{schedule}", [])
            if own:
                curves(axis, own, ALL, shades[schedule], words, place)
                mark_decays(axis, own)
        axis.set(title=network.replace("_", " "), ylabel="test accuracy", ylim=(0.4, 1.02))
    axes[-1, 0].set_xlabel("step")
    thousands(axes[-1, 0])
    legend_below(fig, 2)
    caption = (
        f"{SEEDS} Each decayed run is the undecayed one up to its decay (dotted). Judged is the best after a decay minus the "
        "best before it, against that of the undecayed run to the same step."
    )
    return Figure("networks", "A stage after the decay, across networks and schedules", caption, fig)


def plateaus(run: RunResult) -> Figure | None:
    """Complex accuracy at the end against the rate, a complexity a colour."""
    try:
        rows, values = plateau_arms(run), plateau_values(run)
    except NotMeasured:
        return None
    fig, axes = canvas(1, 1, height=3.4)
    axes[0, 0].set_xscale("log")
    shades = colours(list(map(str, rows)))
    for place, ((count, names), levels) in enumerate(zip(rows.items(), values, strict=True)):
        rates = [lanes(run, name)[0][0]["learning_rate"] for name in names]
        series = [(rates, seed) for seed in levels.T]
        words = f"{count} patterns a class"
        seeds_and_mean(axes[0, 0], series, shades[str(count)], words, place, marker="o", markersize=4)
    ticks = sorted({lane["learning_rate"] for lane in run.lanes})
    axes[0, 0].set_xticks(ticks, [f"{rate:g}" for rate in ticks])
    axes[0, 0].minorticks_off()
    axes[0, 0].set(xlabel="constant learning rate", ylabel="complex patterns at the end,\ntest accuracy, judged")
    legend_below(fig, 3)
    return Figure("plateaus", "What a level of noise lets be learned", SEEDS, fig)
