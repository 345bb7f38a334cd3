"""A scene's picture follows from its fields one by one. The art is not needed: `SyntheticArt` gives every noun a plain
picture of the shape that a test wants."""

import colorsys
import itertools

import numpy as np
import pytest

from ldm.helpers.images import to_tensor
from tests.support.scenes import SyntheticArt, one, two
from weights.training import world
from weights.training.art import Art
from weights.training.render import SIZE, boxes, render
from weights.training.world import Scene, Thing


@pytest.fixture(scope="module")
def art() -> Art:
    return SyntheticArt()


def inside(scene: Scene, which: int = 0, margin: int = 1) -> np.ndarray:
    """Mask of the pixels in a thing's box; the margin is for pixels that the box's edges cut."""
    x, y, side, _ = boxes(scene)[which]
    v, u = np.mgrid[0:SIZE, 0:SIZE] + 0.5
    return (abs(u - x) <= side / 2 + margin) & (abs(v - y) <= side / 2 + margin)


def changed(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a != b).any(-1)


EVERY_SCENE = [
    one("cat", "red", place=place, weather=weather, style=style, seed=seed)
    for seed, (place, weather, style) in enumerate(
        itertools.product(world.PLACES, (None, *world.WEATHERS), world.STYLES)
    )
]


@pytest.mark.parametrize("place", world.PLACES)
def test_pictures_are_bytes_and_the_same_each_time(art, place):
    patterned = [one("cat", pattern=pattern, place=place) for pattern in world.PATTERNS]
    for scene in [*(scene for scene in EVERY_SCENE if scene.place == place), *patterned]:
        picture = render(scene, art)
        assert picture.shape == (128, 128, 3) and picture.dtype == np.uint8
        np.testing.assert_array_equal(render(scene, SyntheticArt()), picture)  # nor does it hang on the cache
        assert np.ptp(picture) > 20  # something is on it
        assert changed(picture, render(scene.replace(seed=1000), art)).mean() > 0.1  # and the seed moves it


@pytest.mark.parametrize("weather", [None, "fog", "snow"])
@pytest.mark.parametrize("place", world.PLACES)
@pytest.mark.parametrize(
    "other",
    [Thing("cat", "blue"), Thing("cat", pattern="striped"), Thing("cat", pattern="with sprinkles"), Thing("dog")],
    ids=str,
)
def test_another_look_changes_no_pixel_outside_the_box(art, place, weather, other):
    scene = one("cat", place=place, weather=weather, seed=11)
    edited = scene.replace(things=(other,))
    assert boxes(edited) == boxes(scene)
    difference = changed(render(scene, art), render(edited, art))
    assert not difference[~inside(scene)].any()
    assert difference[inside(scene)].any()


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("relation", world.RELATIONS)
def test_recolouring_one_of_two_things_leaves_the_other_alone(art, relation, which):
    things = [Thing("cat", size="small"), Thing("dog", size="small")]  # small, so that the boxes lie apart
    scene = two(things[0], relation, things[1], seed=5)
    assert not (inside(scene, 0) & inside(scene, 1)).any()
    things[which] = Thing(things[which].noun, "purple", "small")
    difference = changed(render(scene, art), render(two(things[0], relation, things[1], seed=5), art))
    assert not difference[~inside(scene, which)].any()
    assert difference[inside(scene, which)].any()


def test_changing_the_place_keeps_the_thing_pixel_for_pixel(art):
    """hat is a full square, so nothing of the place shows through it."""
    for seed in range(5):
        scene = one("hat", place=world.PLACES[0], seed=seed)
        picture = render(scene, art)
        core = inside(scene, margin=-1)
        for place in world.PLACES[1:]:
            edited = scene.replace(place=place)
            assert boxes(edited) == boxes(scene)
            difference = changed(render(edited, art), picture)
            assert not difference[core].any()
            assert difference[~inside(scene)].mean() > 0.5  # while most of the rest is another place's


def test_leaving_the_place_unsaid_changes_the_caption_alone(art):
    for scene in EVERY_SCENE[::7]:
        np.testing.assert_array_equal(render(scene.replace(says_place=False), art), render(scene, art))


def test_words_that_move_nothing_keep_the_boxes():
    for seed in range(50):
        scene = one("cat", seed=seed)
        for change in [dict(style="painting"), dict(weather="fog"), dict(weather="snow", strength=0.9)]:
            assert boxes(scene.replace(**change)) == boxes(scene)


@pytest.mark.parametrize("place", ["at night", "in the snow"])
def test_more_snow_keeps_the_flakes_that_were_there(art, place):
    """A flake only brightens, so with more of them no pixel may be darker; and few pixels may differ at all."""
    scene = one("cat", place=place, seed=2)
    clear = render(scene, art)
    amounts = [0.0, 0.2, 0.5, 1.0]
    snowy = [render(scene.replace(weather="snow", strength=strength), art) for strength in amounts]
    for less, more in itertools.pairwise([clear, *snowy]):
        assert (more >= less).all()
    for (a, less), (b, more) in itertools.pairwise(zip(amounts, snowy)):
        added = 80 * (b - a)
        difference = changed(more, less)
        # a flake's radius is at most 2.4 pixels and its soft edge half a pixel more: it covers at most 32 pixel centres
        assert 0 < difference.sum() <= 32 * added
    assert changed(snowy[0], clear).sum() <= 32 * 20  # the least that counts as snow is twenty flakes


def test_more_fog_hides_more(art):
    spread = [render(one("cat", weather="fog", strength=s, seed=3), art).std() for s in (0.0, 0.5, 1.0)]
    assert render(one("cat", seed=3), art).std() > spread[0] > spread[1] > spread[2] > 5


# ---------------------------------------------------------------------------------------------------------------------
# boxes


EVERY_LAYOUT = [
    scene
    for seed in range(40)
    for size, other in itertools.product(world.SIZES, world.SIZES)
    for scene in (
        one("cat", size=size, seed=seed),
        *(two(Thing("cat", size=size), relation, Thing("dog", size=other), seed=seed) for relation in world.RELATIONS),
    )
]


def test_every_box_is_inside_the_picture():
    for scene in EVERY_LAYOUT:
        for x, y, side, _ in boxes(scene):
            # 1e-9: centre and half a side are rounded apart, in float64
            assert side / 2 - 1e-9 <= min(x, y) and max(x, y) <= SIZE - side / 2 + 1e-9


def test_sizes_are_told_apart_by_the_side_whatever_the_seed():
    sides = {size: [boxes(one("cat", size=size, seed=seed))[0][2] for seed in range(200)] for size in world.SIZES}
    assert max(sides["small"]) < 0.85 * min(sides[None])
    assert max(sides[None]) < 0.85 * min(sides["big"])


def test_above_puts_the_first_thing_above_the_second():
    for scene in EVERY_LAYOUT:
        if scene.relation == "above":
            (x0, y0, *_), (x1, y1, *_) = boxes(scene)
            assert y1 - y0 > 0.3 * SIZE
            assert abs(x1 - x0) < 0.25 * SIZE  # not beside it


def test_next_to_is_side_by_side_in_either_order():
    orders = set()
    for scene in EVERY_LAYOUT:
        if scene.relation == "next to":
            (x0, y0, side0, _), (x1, y1, side1, _) = boxes(scene)
            assert abs(x1 - x0) > max(side0, side1) / 2  # neither covers the other's middle
            # 1e-9 pixels: the same number, added up in float64 in another order
            assert y0 + side0 / 2 == pytest.approx(y1 + side1 / 2, abs=1e-9)
            orders.add(x0 < x1)
    assert orders == {True, False}


def test_the_order_of_two_things_does_not_hang_on_their_words():
    """A swap of nouns must not make them change places."""
    for seed in range(20):
        a = boxes(two(Thing("cat"), "next to", Thing("dog"), seed=seed))
        b = boxes(two(Thing("car", "red"), "next to", Thing("hat", pattern="striped"), place="at night", seed=seed))
        assert a == b


# ---------------------------------------------------------------------------------------------------------------------
# looks


def test_the_picture_keeps_a_wide_stickers_shape(art):
    scene = one("car", "red", place="in the snow", seed=4)
    empty = render(one("car", "blue", place="in the snow", seed=4), art)
    rows, columns = np.where(changed(render(scene, art), empty))
    height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
    side = boxes(scene)[0][2]
    assert abs(width - side) <= 3  # rounded to pixels, and the disc's faint rim may round to nothing on either side
    assert abs(height - side / 2) <= 3  # the sticker is 120 x 60


def test_half_of_the_seeds_mirror_the_sticker(art):
    mirrored = [boxes(one("cat", seed=seed))[0][3] for seed in range(200)]
    assert 70 < sum(mirrored) < 130  # 200 fair coins: standard deviation 7, so four of them
    for seed in (mirrored.index(True), mirrored.index(False)):
        scene = one("bicycle", place="on a table", seed=seed)
        x, y, side, flip = boxes(scene)[0]
        row = render(scene, art)[round(y), round(x - 0.4 * side) : round(x + 0.4 * side), 0].astype(float)
        expected = np.asarray(art.sticker("bicycle"))[30, 12:108, 0].astype(float)
        expected = np.interp(np.linspace(0, 1, len(row)), np.linspace(0, 1, 96), expected)
        likeness = [np.corrcoef(row, e)[0, 1] for e in (expected, expected[::-1])]
        assert likeness[flip] > 0.9 and likeness[not flip] < 0


@pytest.mark.parametrize("colour", world.COLOURS)
def test_a_colour_word_sets_the_hue(art, colour):
    scene = one("ball", colour, seed=1)
    pixels = render(scene, art)[inside(scene, margin=-1)] / 255
    hues = np.array([colorsys.rgb_to_hsv(*pixel)[0] for pixel in pixels[::17]])
    away = (hues - world.COLOURS[colour] + 0.5) % 1 - 0.5  # around the circle
    # a sixth of the circle is spread over max - min, here at least 0.37 * 255 = 94 bytes, each rounded by a half: that
    # moves the hue by 0.002, twice, once in the sticker and once in the picture
    assert abs(away).max() < 0.01


def test_no_colour_word_keeps_the_stickers_own(art):
    scene = one("ball", seed=1)
    pixels = render(scene, art)[inside(scene, margin=-1)].astype(float)
    # the art is r : g : b = 10 : 8 : 6; two roundings to bytes of at least 76 * 0.6 = 46 move a ratio by 0.03
    np.testing.assert_allclose(pixels[:, 1] / pixels[:, 0], 0.8, atol=0.03)
    np.testing.assert_allclose(pixels[:, 2] / pixels[:, 0], 0.6, atol=0.03)


@pytest.mark.parametrize("pattern", world.PATTERNS)
def test_a_pattern_stays_within_the_stickers_outline(art, pattern):
    """cat is a disc: its pattern may not fill the corners of the box."""
    scene = one("cat", seed=6)
    difference = changed(render(scene, art), render(one("cat", pattern=pattern, seed=6), art))
    x, y, side, _ = boxes(scene)[0]
    v, u = np.mgrid[0:SIZE, 0:SIZE] + 0.5
    disc = np.hypot(u - x, v - y) <= side / 2 + 1  # a pixel for rounding
    assert not difference[~disc].any()
    assert difference[disc].mean() > 0.1  # and it can be seen


def test_a_pencil_drawing_is_grey_and_mostly_paper(art):
    for place in world.PLACES:
        picture = render(one("cat", style="pencil drawing", place=place, seed=8), art)
        assert (picture == picture[..., :1]).all()
        assert np.median(picture) > 128
        assert picture.min() < 128  # with lines on it


def test_a_painting_has_few_steps_of_brightness(art):
    for place in world.PLACES:
        scene = one("cat", "blue", place=place, seed=8)
        photo, painting = (render(scene.replace(style=style), art).max(-1) for style in ("photo", "painting"))
        assert len(np.unique(painting)) <= 2 * 9 < len(np.unique(photo))  # 9 steps of 32, each byte rounded or cut


def test_to_tensor_maps_bytes_to_minus_one_to_one():
    pictures = np.zeros((2, 4, 6, 3), dtype=np.uint8)
    pictures[0, 1, 2] = [255, 0, 51]
    pictures.flags.writeable = False  # as np.asarray of a PIL image is, which torch would warn of
    x = to_tensor(pictures)
    assert x.shape == (2, 3, 4, 6)
    # 1e-6: one float32 division and subtraction; 51 / 127.5 - 1 = -0.6
    np.testing.assert_allclose(x[0, :, 1, 2].numpy(), [1, -1, -0.6], atol=1e-6)
    assert (x[1] == -1).all()


def test_art_that_is_not_the_published_package_is_refused(tmp_path):
    junk = tmp_path / "fluent-emoji-3d-1.1.0.tgz"
    junk.write_bytes(b"\x1f\x8b not the package")
    with pytest.raises(ValueError, match=r"fluent-emoji-3d-1\.1\.0\.tgz is not @lobehub/.*digest differs"):
        Art(junk)
