"""The stages of the shipped model's training: what they refuse, and what they go on from."""

from copy import deepcopy
from functools import cache

import numpy as np
import pytest
import torch

from ldm.autoencoder import Autoencoder
from p2p.experiments.contact_sheet import held_out_captions
from weights.training import train
from weights.training.data import held_out_scenes, training_scenes
from weights.training.train_autoencoder import AT_THINGS, CROP, random_crops
from weights.training.train_diffusion import encode_all
from weights.training.world import Scene, Thing, caption


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("diffusion", "--steps", "0"), "--steps must be at least 1"),
        (("vq", "--steps", "-5"), "--steps must be at least 1"),
        (("export", "--steps", "5"), "export takes none"),
        (("vq", "--from-shipped"), "is for autoencoder and diffusion, not for vq"),
        (("export", "--from-shipped"), "is for autoencoder and diffusion, not for export"),
        (("autoencoder", "--from-shipped"), "holds a run, which goes on"),
    ],
)
def test_options_that_a_stage_would_not_heed_are_refused(tmp_path, monkeypatch, capsys, args, message):
    (tmp_path / "autoencoder").mkdir()
    (tmp_path / "autoencoder" / "state.pt").touch()
    monkeypatch.setattr("sys.argv", ["train", *args, "--runs", str(tmp_path)])
    monkeypatch.setattr(train, "render_all", lambda *_: pytest.fail("work began"))
    with pytest.raises(SystemExit) as stopped:
        train.main()
    assert stopped.value.code == 2 and message in capsys.readouterr().err


def test_a_decoder_of_another_autoencoder_is_not_exported(tiny, tmp_path):
    model = deepcopy(tiny.autoencoder)
    trained = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    train.check_encoder(model, trained, tmp_path)
    trained["encoder.conv_in.weight"][0, 0, 0, 0] += 1
    with pytest.raises(ValueError, match="decoder belongs to an autoencoder that has been trained anew"):
        train.check_encoder(model, trained, tmp_path)


def test_hard_scenes_are_drawn_twice_as_often():
    scenes = [
        Scene((Thing("cat"),)),
        Scene((Thing("cat"), Thing("bicycle")), relation="next to"),
        Scene((Thing("cat"),), style="pencil drawing"),
        Scene((Thing("cat"),), style="painting"),
    ]
    assert train.shares(scenes) == [0, 1, 1, 2, 2, 3]


def test_most_crops_lie_at_a_thing_and_half_are_mirrored():
    """Of an image whose red and green are x and y; crops at its thing begin in [0, 12] x [44, 64]."""
    y, x = np.mgrid[:128, :128].astype(np.uint8)
    image, number = np.stack([x, y, x], axis=-1)[None], 1000
    crops = random_crops(image, [[(20.0, 100.0)]], number, torch.Generator().manual_seed(0))
    found = ((crops + 1) * 127.5).round()
    mirrored = found[:, 0, 0, 0] > found[:, 0, 0, -1]
    left, top = found[:, 0].amin(dim=(1, 2)), found[:, 1, 0, 0]
    assert (found[:, 0].amax(dim=(1, 2)) == left + CROP - 1).all() and (found[:, 1, -1, 0] == top + CROP - 1).all()
    at_thing = ((left <= 12) & (top >= 44)).double().mean()
    # of the others (13 / 65) (21 / 65) lie there too; four standard deviations of 1,000 draws
    assert abs(at_thing - (AT_THINGS + (1 - AT_THINGS) * 13 / 65 * 21 / 65)) < 0.06
    assert abs(mirrored.double().mean() - 0.5) < 0.065


def test_latents_are_cached_for_their_pictures_and_their_encoder(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr("weights.training.train_diffusion.cache_dir", lambda: tmp_path)
    pictures = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    first = encode_all(tiny.autoencoder, pictures)
    monkeypatch.setattr(Autoencoder, "encode", lambda *_: pytest.fail("encoded again"))
    assert torch.equal(encode_all(tiny.autoencoder, pictures), first)
    monkeypatch.undo()
    monkeypatch.setattr("weights.training.train_diffusion.cache_dir", lambda: tmp_path)
    pictures[0, 0, 0] ^= 255
    assert not torch.equal(encode_all(tiny.autoencoder, pictures), first)
    other = deepcopy(tiny.autoencoder)
    other.quant_conv.bias.add_(1)
    assert not torch.equal(encode_all(other, pictures), encode_all(tiny.autoencoder, pictures))
    assert len(list(tmp_path.iterdir())) == 3


def test_the_contact_sheet_has_a_hundred_untrained_captions(monkeypatch, unchecked):
    drawn = cache(training_scenes)  # twenty thousand, which is seconds
    monkeypatch.setattr("p2p.experiments.contact_sheet.training_scenes", drawn)
    captions = held_out_captions(100)
    trained = {caption(scene) for scene in drawn(train.LATENTS)}
    assert len(set(captions)) == 100 and trained.isdisjoint(captions)
    assert sum(caption(scene) in captions for scene in held_out_scenes(200)) >= 100
