"""The figure of the report: times beside each other, rates beside the machine's, and growth."""

from statistics import median

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from p2p.figures import sheets
from p2p.speed.growth import fitted

SIZE = 8  # of the type
OTHERS = ("diffusers", "reference layout", "onnxruntime")


def bars(axis: Axes, found: dict[str, dict], title: str) -> None:
    """The median time of each contestant, with the range, the first on top."""
    for place, (name, each) in enumerate(found.items()):
        seconds = each["seconds"]
        middle = median(seconds)
        axis.barh(
            place,
            middle,
            color=sheets.COLOURS[1 if name.startswith(OTHERS) else 0],
            xerr=[[middle - min(seconds)], [max(seconds) - middle]],
            error_kw={"ecolor": sheets.INK, "elinewidth": 1},
        )
    axis.set_yticks(range(len(found)), list(found))
    axis.invert_yaxis()
    axis.set_xlabel("seconds", fontsize=SIZE)
    axis.set_title(title, fontsize=SIZE + 1)


def rates(axis: Axes, found: dict, precision: str) -> None:
    """The rate of each group, with the machine's as a line."""
    for place, (group, seconds) in enumerate(found["seconds"].items()):
        large = found["convolution" if group == "convolutions" else "product"] / 1e9
        axis.barh(place, found["operations"][group] / seconds / 1e9, color=sheets.COLOURS[0])
        axis.plot([large, large], [place - 0.4, place + 0.4], color=sheets.INK, linewidth=2)
    axis.set_yticks(range(len(found["seconds"])), list(found["seconds"]))
    axis.invert_yaxis()
    axis.set_xlabel("GFLOP/s; line: the machine's", fontsize=SIZE)
    axis.set_title(f"rates, {precision}", fontsize=SIZE + 1)


def growth(axis: Axes, found: dict[str, dict]) -> None:
    """Times over the smallest point's, on logarithmic scales, with the fitted exponents."""
    for i, (name, each) in enumerate(found.items()):
        seconds = [median(point) for point in each["seconds"]]
        label = f"{name}: {fitted(each)['all']:.1f}"
        style = {"marker": "os^vDP"[i % 6], "color": sheets.COLOURS[i % len(sheets.COLOURS)], "label": label}
        axis.loglog([x / each["x"][0] for x in each["x"]], [s / seconds[0] for s in seconds], markersize=4, **style)
    axis.set_xlabel("times the smallest", fontsize=SIZE)
    axis.set_ylabel("times its time", fontsize=SIZE)
    axis.set_title("growth, with the exponent", fontsize=SIZE + 1)
    for side in (axis.xaxis, axis.yaxis):
        side.set_major_formatter("{x:g}")
        side.set_minor_formatter(NullFormatter())


def draw(found: dict) -> Figure:
    """A row of times and rates for each precision, then the included model's and the growth."""
    rows = len(found["step"]) + 1
    figure = sheets.new_figure(12.0, 3.2 * rows)
    axes = figure.subplots(rows, 3, squeeze=False)
    for (first, second, _), (precision, step) in zip(axes, found["step"].items()):
        bars(first, step, f"a step at {found['pixels']} pixels, {precision}")
        rates(second, found["roofline"][precision], precision)
    bars(axes[-1][0], found["included step"], "a step of the included model, float32")
    bars(axes[-1][1], found["ten edits"], f"ten edits of {found['steps']} steps, included model")
    growth(axes[0][2], found["growth"])
    for axis in axes[1:, 2]:
        axis.axis("off")
    axes[1][2].legend(*axes[0][2].get_legend_handles_labels(), fontsize=SIZE, frameon=False, loc="upper center")
    for axis in axes.flat:
        axis.tick_params(labelsize=SIZE)
        axis.spines[["top", "right"]].set_visible(False)
    return figure
