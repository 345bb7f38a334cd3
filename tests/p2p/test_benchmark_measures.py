"""The measures of the benchmark by hand, and its scenes' promises."""

import numpy as np
import pytest
import torch

import p2p
from p2p.benchmark.draw import SEEDS, changed
from p2p.benchmark.measures import ByClip, edited, interval, iou, kept, nearest, shift, ssim
from p2p.benchmark.scenes import FOLDER, KINDS, load_scenes
from weights.training.data import HELD_OUT_SEEDS
from weights.training.world import NOUNS

GREY = np.full((32, 32, 3), 100, np.uint8)


def with_square(level: int, top: int = 8, left: int = 8, ground: int = 100) -> np.ndarray:
    """A square of 8 pixels on a ground of 32."""
    picture = np.full((32, 32, 3), ground, np.uint8)
    picture[top : top + 8, left : left + 8] = level
    return picture


def test_an_offset_has_its_psnr_where_it_is():
    """An error of 51 = 255 / 5 everywhere has 10 log10(25) = 13.98 dB, and equal images have that of rounding."""
    source, target = GREY, with_square(200)
    equal = 10 * np.log10(255**2 * 12)
    lifted = target.copy()
    lifted[8:16, 8:16] -= 51
    assert kept(lifted, source, target) == pytest.approx(equal)
    assert edited(lifted, source, target) == pytest.approx(10 * np.log10(25))
    assert kept(target + 51, source, target) == pytest.approx(10 * np.log10(25))
    assert edited(source, source, target) == pytest.approx(20 * np.log10(255 / 100))  # nothing was edited
    assert np.isnan(kept(target, source, source + 1)) and np.isnan(edited(target, source, source))


def test_a_pixel_that_differs_in_one_channel_is_not_kept():
    target = GREY.copy()
    target[:16, :, 2] = 0
    image = GREY.copy()
    image[16:] += 51  # of the half that should be kept
    assert kept(image, GREY, target) == pytest.approx(10 * np.log10(25))
    assert edited(image, GREY, target) == pytest.approx(10 * np.log10(3 * 255**2 / 100**2))  # one channel of three


def test_ssim_of_flat_images_compares_their_means():
    C1 = 2.55**2
    expected = (2 * 100 * 150 + C1) / (100**2 + 150**2 + C1)
    assert ssim(GREY, GREY + 50) == pytest.approx(expected)


@pytest.mark.parametrize("contrast", [20, -20])
def test_ssim_of_checkerboards_compares_their_contrasts(contrast):
    """Of +-40 and +-contrast about one mean the covariance is 40 * contrast, so that SSIM is
    (80 contrast + C2) / (40^2 + contrast^2 + C2): below 0 where light and dark are exchanged."""
    board = lambda a: (100 + a * (-1.0) ** np.add.outer(np.arange(32), np.arange(32)))[..., None].repeat(3, -1)
    C2 = 7.65**2
    found = ssim(board(40).astype(np.uint8), board(contrast).astype(np.uint8))
    # alternating signs leave the windows' means unequal by 1e-5 of the contrast, in each direction
    assert found == pytest.approx((80 * contrast + C2) / (40**2 + contrast**2 + C2), abs=1e-4)


def test_the_nearest_candidate_is_told_by_all_that_differ():
    candidates = np.stack([GREY, with_square(180), with_square(240), with_square(180, left=20)])
    image = with_square(200, ground=255)  # the ground is far from all of them where the square is not
    image[8:16, 20:28] = 100
    assert nearest(image, candidates) == 1
    image[8:16, 20:28] = 180  # and the second square now counts as much as the first
    image[8:16, 8:16] = 100
    assert nearest(image, candidates) == 3
    assert [nearest(candidate, candidates) for candidate in candidates] == [0, 1, 2, 3]
    one, eight = GREY.copy(), GREY.copy()
    one[0, 0], eight[0, :8] = 200, 120  # squared 100^2 against 8 * 20^2, though 100 is less than 8 * 20
    assert nearest(GREY, np.stack([one, eight])) == 1


@pytest.mark.parametrize(("down", "across"), [(0, 0), (3, -4), (-8, 6), (12, 5)])
def test_a_moved_object_has_its_distance(down, across):
    rng = np.random.default_rng(0)
    thing, outline = rng.integers(0, 256, (16, 16, 3), np.uint8), np.zeros((64, 64))
    target, image = (np.full((64, 64, 3), 90, np.uint8) for _ in range(2))
    target[20:36, 24:40], outline[20:36, 24:40] = thing, 0.9
    outline[10] = 0.4  # less than half covered: not the object
    image[20 + down : 36 + down, 24 + across : 40 + across] = thing
    assert shift(image, target, outline) == pytest.approx(np.hypot(down, across))


def test_an_object_at_the_edge_is_compared_where_it_is_seen():
    rng = np.random.default_rng(0)
    thing, outline = rng.integers(0, 256, (16, 16, 3), np.uint8), np.zeros((32, 32))
    target, image = GREY.copy(), GREY.copy()
    target[10:26, :16], outline[10:26, :16] = thing, 1
    image[10:26, :11] = thing[:, 5:]  # five columns are beyond the left edge
    image[10:26, 11:25] = thing[:, :14]  # of another one, eleven to the right, two columns are not there
    assert shift(image, target, outline) == 5
    assert shift(GREY, GREY, outline) == 0  # all fit alike: the shortest
    with pytest.raises(ValueError, match="covers no pixel by half"):
        shift(image, target, 0.4 * outline)


def test_the_interval_of_equal_values_is_a_point():
    assert interval([2.5] * 30) == (2.5, 2.5, 2.5)
    assert interval([2.5, float("nan"), 2.5]) == (2.5, 2.5, 2.5)
    with pytest.raises(ValueError, match="no scene has a value"):
        interval([float("nan")])


def test_the_interval_of_right_answers_is_the_binomials():
    """The share of right among n = 400 resampled scenes is binomial, with a standard deviation of
    sqrt(p (1 - p) / n) = 0.02 for p = 0.2; 95% of a normal distribution lie within 1.96 of them."""
    found = interval([1.0] * 80 + [0.0] * 320)
    # steps of the share are 1/400, and a quantile of 10,000 draws is uncertain by 0.0005
    np.testing.assert_allclose(found, (0.2, 0.2 - 0.0392, 0.2 + 0.0392), atol=0.003)
    values = np.random.default_rng(0).normal(size=30).tolist()
    assert interval(values) == interval(values)


def test_iou_by_hand():
    """A map of 4 x 4, on an image of 4 x 4: two positions are common, of four in the map's region and three in the
    object's."""
    attention, outline = torch.full((4, 4), 0.2), np.zeros((4, 4))
    attention[0] = torch.tensor([1.0, 0.9, 0.4, 0.31])
    outline[0, :2], outline[1, 0], outline[3, 3] = 0.5, 1, 0.49
    assert iou(attention, outline) == iou(0.5 * attention, outline) == pytest.approx(2 / 5)
    assert iou(attention, outline, threshold=0.5) == pytest.approx(2 / 3)
    # resized to 64 columns, 1 falls to 0 from 16 to 48 and reaches 0.3 at 38.4: the centres of 38 columns lie before
    half = np.zeros((64, 64))
    half[:, :32] = 1
    assert iou(torch.tensor([[1.0, 0.0]]), half) == pytest.approx(32 / 38)
    with pytest.raises(ValueError, match="nothing to compare"):
        iou(torch.zeros(2, 2), np.zeros((4, 4)))


def test_the_scenes_are_as_many_as_promised_and_small():
    scenes = load_scenes()
    assert [scene.index for scene in scenes] == list(range(120))
    for kind in KINDS:
        assert [len(load_scenes(split, [kind])) for split in ("dev", "test", None)] == [10, 10, 20]
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) < 8e6
    assert SEEDS >= 2 * HELD_OUT_SEEDS  # apart from the training's and its held-out ones
    captions = " ".join(caption for scene in scenes for caption in scene.captions)
    assert "snowflakes" not in captions and "sprinkles" not in captions


@pytest.mark.parametrize("kind", KINDS)
def test_a_scene_holds_what_its_list_says(kind):
    for scene in load_scenes(kinds=[kind]):
        n = len(scene.values)
        assert scene.candidates.shape == (n, 128, 128, 3) and n == len(scene.captions) <= len(NOUNS)
        assert len(set(scene.values)) == len(set(scene.captions)) == n
        assert (scene.words, scene.edited_words) == changed(scene.caption, scene.edited_caption) != ((), ())
        assert nearest(scene.target, scene.candidates) == 1 and nearest(scene.image, scene.candidates) == 0
        assert (len(scene.outlines), len(scene.edited_outlines)) == (len(scene.things), len(scene.edited_things))
        assert {thing.noun for thing in scene.things} <= set(scene.caption.split())
        assert {thing.noun for thing in scene.edited_things} <= set(scene.edited_caption.split())
        assert shift(scene.target, scene.target, scene.edited_outlines[scene.thing or 0]) == 0
        if kind in ("noun", "colour", "insertion"):  # nothing changes but where the thing was and is
            things = scene.edited_outlines[scene.thing].copy()
            if kind == "noun":
                things = np.maximum(things, scene.outlines[scene.thing])
            assert not scene.mask[things == 0].any()
            assert scene.mask[things > 0.5].mean() > 0.5
        elif kind == "place":  # things stay
            assert not scene.mask[scene.outlines.max(axis=0) == 1].any()


def test_the_small_clip_tells_the_true_images_apart():
    """Two captions that differ in the noun, and each one's rendering, for a few scenes of one thing."""
    clip = ByClip(*p2p.load_clip("stickers-clip", device="cpu"))
    scenes = [scene for scene in load_scenes("dev", ["noun"]) if len(scene.things) == 1]
    among = lambda s, image: clip.nearest(image, s.captions[:2])
    assert [among(s, s.image) for s in scenes] == [0] * len(scenes) and len(scenes) > 5
    assert sum(among(s, s.target) for s in scenes) >= 0.8 * len(scenes)
