"""What figures say: labels are tokens, numbers are the edit's, panels share one colour scale."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from ldm.attention import Site
from ldm.schedule import Prediction
from ldm.states import State
from p2p.alpha import Alpha, Step, Window
from p2p.edits import Preserve, Refine, Renormalise, Reweight, Swap
from p2p.experiments.self_attention_pca import Components
from p2p.experiments.sweeps import Preservation, Sweep
from p2p.figures import edit_matrices, fonts, sheets, sweep_plots
from p2p.mappers import align, mapper
from p2p.maps import MapHistory

CAT, BICYCLE = "a photo of a cat on the grass", "a photo of a bicycle on the grass"
CAT_TOKENS = ["BOS", "a", "photo", "of", "a", "cat", "on", "the", "grass", "EOS", "PAD", "PAD"]
BICYCLE_TOKENS = ["BOS", "a", "photo", "of", "a", "bicy", "cle", "on", "the", "grass", "EOS", "PAD"]
PICTURE = np.zeros((32, 32, 3), np.uint8)


def panels(figure) -> list:
    """The axes that are drawn on."""
    return [axis for axis in figure.axes if axis.images]


def words(labels) -> list[str]:
    return [label.get_text() for label in labels]


def test_matrices_have_token_labels_and_their_numbers(tokenizer):
    source, target = tokenizer.encode(CAT), tokenizer.encode(BICYCLE)
    M = mapper(align(source, target, (("cat", "bicycle"),)), 32)
    edit = Swap("cat", "bicycle", Alpha(0.4)) + Reweight("grass", -2.0)
    at = {t: edit.compile(source, target, 1000)(t) for t in (1000, 100)}
    renormalised = Swap("cat", "bicycle", Alpha(0.4)) + Reweight("grass", 2.0) + Renormalise()
    at[50] = renormalised.compile(source, target, 1000)(50)
    figure = edit_matrices.matrices(source, target, M, at)
    mapper_panel, early, early_strip, late, late_strip, later, later_strip = panels(figure)
    for panel in (mapper_panel, early, late):
        assert words(panel.get_yticklabels()) == CAT_TOKENS
        assert words(panel.get_xticklabels()) == BICYCLE_TOKENS
    assert words(late_strip.get_xticklabels()) == BICYCLE_TOKENS
    # 'cat' is shared out over two tokens; everything else, padding too, stays one
    assert sorted(words(mapper_panel.texts)) == ["0.5", "0.5"] + ["1"] * 11
    assert sorted(words(early.texts)) == ["-2", "0.5", "0.5"] + ["1"] * 10
    assert words(late.texts) == words(early_strip.texts) == []
    assert sorted(words(late_strip.texts)) == ["-2"] + ["1"] * 11
    assert mapper_panel.texts[5].get_position() == (5, 5) and mapper_panel.texts[6].get_position() == (6, 5)
    assert {panel.images[0].get_clim() for panel in panels(figure)} == {(-2, 2)}
    assert sorted(words(later_strip.texts)) == ["1"] * 11 + ["2"]
    titles = [panel.get_title() for panel in (early, late, later)]
    assert titles == ["P_t at t = 1000", "P_t at t = 100", "P_t at t = 50, rows renormalised"]


def test_many_tokens_have_colours_without_numbers(tokenizer):
    tokens = tokenizer.encode("a photo of a big red car next to a small blue house on the grass")
    figure = edit_matrices.matrices(tokens, tokens, torch.eye(32, dtype=torch.float64), {})
    (panel,) = panels(figure)
    assert len(panel.get_xticklabels()) == 19 and not panel.texts


def test_the_timeline_is_alpha_at_each_step(tokenizer):
    """By hand, on the steps 1000, 750, 500, 250: 'cat' until 0.6 T, 'grass' from 0.8 T on, the rest until 0.3 T."""
    target = tokenizer.encode(CAT)
    edit = Refine(Alpha(0.3, {"cat": 0.6, "grass": Window(end=0.0, start=0.8)}))
    names, numbers = edit_matrices.shares(target, target, edit, 0.5, [1000, 750, 500, 250, 0], T=1000)
    assert names == [*CAT_TOKENS[:-1], "self-attention"]
    rest, cat, grass, self_attention = [1, 1, 1, 0], [1, 1, 0, 0], [0, 1, 1, 1], [1, 1, 1, 0]
    expected = [rest] * 5 + [cat, rest, rest, grass, rest, rest, self_attention]
    assert_close(numbers, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=0)


KEEP = Refine(Alpha(0.5))


@pytest.mark.parametrize(
    ("edit", "taken"),
    [
        (KEEP, {"grass": [1, 0], "cat": [1, 0], "the": [1, 0]}),
        (KEEP + Preserve("grass"), {"grass": [1, 1], "cat": [1, 0], "the": [1, 0]}),
        (Preserve("grass"), {"grass": [1, 1]}),
        (Preserve("grass", Alpha(Window(0.5, level=0.25))), {"grass": [0.25, 0]}),
        (KEEP + Reweight("cat", -2.0) + Reweight("big", 3.0), {"grass": [1, 0], "cat": [1, 0], "the": [1, 0]}),
        (KEEP + Reweight("cat", 0.0) + Renormalise(), {"grass": [1, 0], "cat": [1, 0], "the": [1, 0]}),
        (Reweight("cat", 3.0), {}),
    ],
)
def test_the_timeline_ignores_weights(tokenizer, edit, taken):
    """On the steps 1000 and 499, the first of which lies above 0.5 T; 'big' is new and never the source's."""
    source, target = tokenizer.encode(CAT), tokenizer.encode("a photo of a big cat on the grass")
    names, numbers = edit_matrices.shares(source, target, edit, 0.5, [1000, 499, 0], T=1000)
    rows = dict(zip(names, numbers.tolist()))
    assert {name: rows[name] for name in ("grass", "cat", "the", "big")} == {
        name: taken.get(name, [0, 0]) for name in ("grass", "cat", "the", "big")
    }
    assert rows["self-attention"] == [1, 0]


def test_the_timeline_runs_from_the_first_timestep_to_the_last(tokenizer):
    """As Stable Diffusion visits them: it starts below T and ends at 1."""
    tokens = tokenizer.encode(CAT)
    figure = edit_matrices.timeline(tokens, tokens, KEEP, 0.5, [959, 499, 1], T=1000)
    (axis,) = figure.axes
    assert axis.get_xlim() == (959, 1)
    assert "starts at t = 959" in axis.get_xlabel() and axis.get_xlabel().endswith("ends at 1")
    assert words(axis.get_yticklabels()) == [*CAT_TOKENS[:-1], "self-attention"]
    assert axis.yaxis_inverted()  # the first token on top
    heights = [bar.get_paths()[0].get_extents() for bar in axis.collections if len(bar.get_paths()[0].vertices) > 2]
    drawn = [(box.x0, box.x1) for box in heights if box.height > 0]
    assert drawn == [(499, 959)] * 12


@pytest.fixture
def history(tokenizer) -> MapHistory:
    """Two steps of three layers, with some attention on every token."""
    history = MapHistory(tokenizer.encode(CAT), ["cat", "grass"])
    nothing = torch.zeros(1, 1, 1, 1)

    def states():
        for t in (500, 0):
            for layer, (place, side) in enumerate([("down", 4), ("mid", 2), ("up", 4)]):
                history(Site("cross", place, layer, side, side), torch.full((1, 2, side**2, 32), (layer + 1) / 100))
            yield State(t, nothing, Prediction(nothing, nothing))

    list(history.along(states(), [1000, 500, 0]))
    return history


@pytest.mark.parametrize(
    ("draw", "columns"),
    [
        (lambda history: sheets.by_step(history, PICTURE, side=4), ["t = 1000", "t = 500"]),
        (lambda history: sheets.by_step(history, PICTURE, side=4, times=[500]), ["t = 500"]),
        (lambda history: sheets.by_layer(history, PICTURE), ["down\n4×4", "mid\n2×2", "up\n4×4"]),
    ],
)
def test_map_tables_have_words_in_rows_with_their_shares(history, draw, columns):
    picture, *cells = panels(draw(history))
    assert picture.get_title() == "a photo of a cat on the\ngrass"
    cells = [cell for cell in cells if cell.images[0].get_array().shape == (64, 64)]
    assert len(cells) == 2 * len(columns)
    assert [cell.get_title() for cell in cells[: len(columns)]] == columns
    # the layers' attention is 1%, 2% and 3%: the mean of those of 4 x 4, and of all, is 2%
    assert [cell.get_ylabel() for cell in cells if cell.get_ylabel()] == ["cat\n2.0%", "grass\n2.0%"]


def test_components_are_shown_together_and_singly():
    maps = torch.tensor([[[3.0, 0], [0, -1]], [[0, 1], [0.5, 0]], [[0, 0], [0, 0]]])
    figure = sheets.components(PICTURE, Components(maps, torch.tensor([0.8, 0.15, 0.0])))
    _, together, *singly = panels(figure)[:5]
    expected = torch.stack([(maps[0] + 1) / 4, maps[1], maps[2]], dim=-1)  # each stretched; a flat one stays 0
    assert_close(torch.tensor(np.asarray(together.images[0].get_array())), expected)
    assert [axis.images[0].get_clim() for axis in singly] == [(-3, 3)] * 3
    assert "80% of the variance" in singly[0].get_title()


def test_what_was_not_recorded_is_not_drawn(tokenizer):
    history = MapHistory(tokenizer.encode(CAT))
    for draw in (sheets.by_step, sheets.by_layer):
        with pytest.raises(ValueError, match="no step was recorded"):
            draw(history, PICTURE)


def a_sweep(taus) -> Sweep:
    k = len(taus)
    pictures = np.zeros((2, k, 32, 32, 3), np.uint8)
    kept = torch.arange(2.0 * k).reshape(2, k)
    measured = dict(preservation=kept, structure=kept / 20, fidelity=kept / 10)
    measured |= dict(fidelity_of_originals=torch.tensor([-1.0, -3.0]), seeds=(0, 1))
    return Sweep(CAT, BICYCLE, 1000, tuple(taus), pictures[:, 0], pictures, **measured)


def test_the_tau_sweep_draws_means_over_the_seeds():
    figure = sweep_plots.tau_sweep([a_sweep(["never", 0.5, Step(200), 0.0])])
    titles = [axis.get_title() for axis in panels(figure)]
    assert titles == ["source", "never", "tau = 0.5 T", "tau: t = 200", "always"]
    keeps, follows, trade = [axis for axis in figure.axes if not axis.images and axis.lines]
    assert list(keeps.lines[0].get_ydata()) == [2, 3, 4, 5]  # of 0..3 and 4..7
    assert_close(torch.tensor(follows.lines[0].get_ydata()), torch.tensor([0.2, 0.3, 0.4, 0.5]))
    assert list(follows.lines[1].get_ydata()) == [-2, -2]  # the source's picture
    assert list(trade.lines[0].get_xdata()) == [2, 3, 4, 5]
    assert [label.get_text() for label in keeps.get_xticklabels()] == ["0%", "50%", "tau: t = 200", "100%"]


def test_the_window_sweep_draws_a_bar_over_the_steps_that_inject():
    figure = sweep_plots.window_sweep([a_sweep(["never", Window(end=0.6, start=0.8), 0.0])])
    assert [axis.get_title() for axis in panels(figure)] == ["source", "never", "0.8 T to 0.6 T", "always"]
    axes = [axis for axis in figure.axes if not axis.images and axis.lines]
    assert [axis.get_ylabel().split(":")[0] for axis in axes] == ["structure", "preservation"]
    for axis, kept in zip(axes, (0.125, 2.5)):  # of 1 and 4
        ((bar,),) = [collection.get_segments() for collection in axis.collections]
        # float32 means
        assert_close(torch.tensor(bar), torch.tensor([[800, kept], [600, kept]], dtype=torch.float64))
        assert axis.get_xlim() == (1000, 0)


def test_windows_in_time_steps_are_drawn_as_those_in_fractions():
    taus = ["never", Window(end=Step(600), start=Step(800)), Step(400), 0.3, Step(200)]
    figure = sweep_plots.window_sweep([a_sweep(taus)])
    titles = [axis.get_title() for axis in panels(figure)]
    assert titles == ["source", "never", "t = 800 to t = 600", "tau: t = 400", "tau = 0.3 T", "tau: t = 200"]
    axis = next(axis for axis in figure.axes if not axis.images and axis.lines)
    assert axis.collections[0].get_segments()[0][:, 0].tolist() == [800, 600]


def test_an_edit_that_changed_nothing_can_be_drawn():
    same = a_sweep(["never", Window(end=0.6, start=0.8), 0.0])
    same.preservation[:] = float("inf")
    for draw in (sweep_plots.tau_sweep, sweep_plots.window_sweep):
        sheets.as_image(draw([same] * 6), dpi=20)


@pytest.mark.parametrize("draw", [sweep_plots.tau_sweep, sweep_plots.window_sweep])
def test_a_sweep_of_a_real_image_shows_it_and_how_near_the_source_comes(draw):
    """The source is black, and the image 51 of 255 everywhere, a fifth of the range: 20 log10(5) = 14.0 dB."""
    figure = draw([replace(a_sweep(["never", 0.0]), given=np.full((32, 32, 3), 51, np.uint8))])
    shown = panels(figure)
    assert [axis.get_title() for axis in shown] == ["the image", "source, 14.0 dB", "never", "always"]
    assert [np.asarray(axis.images[0].get_array()).max() for axis in shown[:2]] == [51, 0]
    labels = [axis.get_ylabel() for axis in figure.axes]
    assert any("against the image, dB" in label for label in labels) and not any("the source" in x for x in labels)
    (legend,) = [axis.get_legend() for axis in figure.axes if axis.get_legend()]
    assert legend.get_title().get_text() == "one image"


def test_the_preserve_figure_of_a_real_image_begins_with_it():
    pictures = np.zeros((1, 32, 32, 3), np.uint8)
    found = Preservation(CAT, (BICYCLE,), "grass", PICTURE, *[pictures] * 3, given=PICTURE + 1)
    image, source, *_, none = panels(sweep_plots.preservation(found))
    assert image.get_title() == "the image" and (image.images[0].get_array() == PICTURE + 1).all()
    assert (source.images[0].get_array() == PICTURE).all() and "same noise" in none.get_title()


def test_the_preserve_figure_has_a_row_per_target():
    pictures = np.zeros((2, 32, 32, 3), np.uint8)
    found = Preservation(CAT, (BICYCLE, CAT), "grass", PICTURE, pictures, pictures, pictures)
    titles = [axis.get_title() for axis in panels(sweep_plots.preservation(found))]
    assert len(titles) == 8
    titles = [title.replace("\n", " ") for title in titles]
    assert titles[0].endswith(CAT) and all(title.endswith(BICYCLE) for title in titles[1:4])
    assert "'grass'" in titles[2] and "same seed" in titles[3]


def test_figures_become_pictures(history):
    picture = sheets.as_image(sheets.by_layer(history, PICTURE), dpi=50)
    assert picture.width > 200 and picture.height > 100


def test_captions_are_broken_at_words_and_keep_their_lines():
    width = fonts.length("a photo of", 9.0) + 0.01
    assert fonts.wrap("same seed:\na photo of a cat", width, 9.0) == "same\nseed:\na photo of\na cat"


def test_too_long_words_are_cut_and_wide_letters_count():
    width = fonts.length("m" * 10, 9.0) + 0.01
    assert fonts.wrap("m" * 25, width, 9.0) == "\n".join(["m" * 10, "m" * 10, "m" * 5])
    assert fonts.length("猫" * 4, 9.0) == 4 * 9 / 72  # squares
    assert fonts.wrap("猫" * 9, 4.5 * 9 / 72, 9.0) == "猫猫猫猫\n猫猫猫猫\n猫"


def test_rows_are_broken_evenly():
    assert [len(row) for row in sheets.broken(range(12), 7)] == [6, 6]
    assert [len(row) for row in sheets.broken(range(7), 7)] == [7]
    assert [len(row) for row in sheets.broken(range(11), 5)] == [4, 4, 3]


@pytest.mark.parametrize(
    ("share", "text"), [(0.443, "44%"), (0.0998, "10%"), (0.0994, "9.9%"), (0.0111, "1.1%"), (0.0, "0.0%")]
)
def test_shares_have_two_digits(share, text):
    assert sheets.percent(share) == text


@pytest.mark.parametrize(("scale", "tops"), [("word", [1.0, 0.5]), ("shared", [1.0, 1.0])])
def test_maps_have_their_shares_and_a_scale_each_or_one_for_all(scale, tops):
    """At 2 x 2, by hand: one position looks at 'cat', and all of them look at BOS by halves."""
    cat, special = torch.tensor([[1.0, 0.0], [0.0, 0.0]]), torch.full((2, 2), 0.5)
    figure = sheets.attention([("a cat", PICTURE, {"cat": cat, "BOS EOS PAD": special})], scale=scale)
    tiles = panels(figure)[1:]
    assert [tile.get_title() for tile in tiles[:2]] == ["cat\n25%", "BOS EOS PAD\n50%"]
    assert [tile.images[0].get_clim() for tile in tiles[:2]] == [(0, top) for top in tops]


@pytest.mark.parametrize(("scale", "tops"), [("word", [0.05, 0.05, 0.1, 0.1]), ("shared", [0.1] * 4)])
def test_a_word_has_one_scale_for_all_its_steps(tokenizer, scale, tops):
    """'cat' has 1% of the attention and then 5%, 'grass' twice as much."""
    history, nothing = MapHistory(tokenizer.encode("cat grass")), torch.zeros(1, 1, 1, 1)

    def states():
        for t, share in ((500, 0.01), (0, 0.05)):
            A = torch.zeros(1, 1, 4, 32)
            A[..., 1], A[..., 2] = share, 2 * share
            history(Site("cross", "up", 0, 2, 2), A)
            yield State(t, nothing, Prediction(nothing, nothing))

    list(history.along(states(), [1000, 500, 0]))
    _, *cells = panels(sheets.by_step(history, PICTURE, 2, scale=scale))
    assert_close(torch.tensor([cell.images[0].get_clim()[1] for cell in cells[:4]]), torch.tensor(tops))
