"""The codebook bottleneck [B3]: nearest entry, straight-through gradient, losses, moving averages; and how much smaller
a latent is [B1]."""

import math

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from ldm.autoencoder import Autoencoder
from ldm.config import AutoencoderConfig, ModelConfig
from ldm.presets import AUTOENCODERS, PRESETS
from ldm.quantize import (
    IDLE,
    Codebook,
    CodebookAverages,
    codebook_loss,
    commitment_loss,
    perplexity,
    straight_through,
    usage,
)
from tests.support.normal import normal
from tests.support.random_models import randomise
from weights.load import SHIPPED
from weights.training.train_autoencoder import mean_psnr, reconstructions, vq_loss

VQ = AUTOENCODERS["stickers-vq"]
# float64 sums of at most a few dozen terms
EXACT = dict(rtol=1e-12, atol=1e-12)


def codebook_of(entries: torch.Tensor) -> Codebook:
    codebook = Codebook(*entries.shape).to(entries.dtype)
    codebook.embedding.weight.data.copy_(entries)
    return codebook.requires_grad_(False)


def latent(vectors: torch.Tensor) -> torch.Tensor:
    """(n, c) -> (1, c, 1, n)"""
    return vectors.T[None, :, None]


def of_latent(z: torch.Tensor) -> torch.Tensor:
    return z[0, :, 0].T


# ---------------------------------------------------------------------------------------------------------------------
# the nearest entry


@pytest.mark.equation("B3")
def test_b3_index_is_the_arg_min_over_all_entries():
    """[B3] One position and one entry at a time."""
    entries, z = normal(17, 3), normal(2, 3, 4, 5, seed=1)
    index = codebook_of(entries).indices(z)
    assert index.shape == (2, 4, 5)
    for b in range(2):
        for y in range(4):
            for x in range(5):
                distances = [sum((z[b, :, y, x] - entry).tolist()[c] ** 2 for c in range(3)) for entry in entries]
                assert index[b, y, x] == distances.index(min(distances))


@pytest.mark.equation("B3")
def test_b3_index_is_that_of_the_expanded_square():
    """[B3] ||z - e||^2 = ||z||^2 - 2 z e + ||e||^2, away from ties."""
    entries, z = normal(100, 8), normal(200, 8, seed=1)
    expanded = z.square().sum(1, keepdim=True) - 2 * z @ entries.T + entries.square().sum(1)
    assert torch.equal(codebook_of(entries).indices(latent(z)).flatten(), expanded.argmin(1))
    assert torch.equal(codebook_of(entries).indices(latent(z)).flatten(), torch.cdist(z, entries).argmin(1))


@pytest.mark.equation("B3")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_b3_quantising_twice_is_quantising_once(dtype):
    """[B3] To the bit; also of entries so close together that the expanded square finds almost none of them again."""
    for entries in (normal(50, 4), 3 + 1e-3 * normal(200, 4)):
        codebook, z = codebook_of(entries.to(dtype)), normal(2, 4, 6, 6, seed=1).to(dtype)
        once = codebook(z)
        assert torch.equal(codebook(once), once) and not torch.equal(once, z)
        everything = codebook.embedding.weight
        assert torch.equal(of_latent(codebook(latent(everything))), everything)
    if dtype == torch.float32:
        expanded = torch.cdist(everything, everything, compute_mode="use_mm_for_euclid_dist").argmin(1)
        assert (expanded != torch.arange(200)).float().mean() > 0.5


# ---------------------------------------------------------------------------------------------------------------------
# gradients and losses


@pytest.mark.equation("B3")
def test_b3_gradient_goes_straight_through():
    """[B3] Value of the entries, to the bit; gradient of the identity, whatever comes after; none to the entries."""
    codebook, z = codebook_of(normal(5, 3)).requires_grad_(True), normal(2, 3, 2, 2, seed=1).requires_grad_(True)
    z_q = codebook(z)
    assert torch.equal(z_q, codebook.vectors(codebook.indices(z)))
    after = z_q.detach().clone().requires_grad_(True)
    (after**3).sum().backward()
    (z_q**3).sum().backward()
    assert torch.equal(z.grad, after.grad) and (z.grad != 0).all()
    assert codebook.embedding.weight.grad is None
    eye = torch.autograd.functional.jacobian(lambda z: straight_through(z, z.round()), normal(4))
    assert torch.equal(eye, torch.eye(4, dtype=torch.float64))


@pytest.mark.equation("B3")
def test_b3_losses_by_hand():
    """[B3] z = (1, 3), z_q = (2, 5): both losses are (1 + 4) / 2; one pulls z_q alone, the other z alone."""
    z, z_q = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in ([1.0, 3.0], [2.0, 5.0]))
    for loss, pulled, other, gradient in ((codebook_loss, z_q, z, [1.0, 2.0]), (commitment_loss, z, z_q, [-1.0, -2.0])):
        value = loss(z, z_q)
        assert value.item() == 2.5
        of_pulled, of_other = torch.autograd.grad(value, (pulled, other), allow_unused=True)
        assert of_pulled.tolist() == gradient and of_other is None


@pytest.mark.equation("B3")
def test_b3_the_codebook_loss_is_least_at_the_mean_of_the_assigned_vectors():
    """[B3] What the moving averages reach without a gradient."""
    vectors = normal(20, 3)
    entry = vectors.mean(0).requires_grad_(True)
    codebook_loss(vectors, entry.expand(20, 3)).backward()
    assert_close(entry.grad, torch.zeros(3, dtype=torch.float64), **EXACT)


# ---------------------------------------------------------------------------------------------------------------------
# moving averages


@pytest.mark.equation("B3")
def test_b3_moving_averages_by_hand():
    """[B3] gamma = 3/4. First step: 1 and 3 choose entry 0, so N = 1/2, m = 1, e = 2. Second: 5 and 6 do, so
    N = 3/8 + 1/2, m = 3/4 + 11/4, e = 4. Entry 1 is chosen by none, and stays."""
    codebook = codebook_of(torch.tensor([[2.5], [100.0]], dtype=torch.float64))
    averages = CodebookAverages(codebook, gamma=0.75)
    for vectors, N, m, e in (([1.0, 3.0], 0.5, 1.0, 2.0), ([5.0, 6.0], 0.875, 3.5, 4.0)):
        z = latent(torch.tensor(vectors, dtype=torch.float64)[:, None])
        averages.update(codebook, z, codebook.indices(z))
        assert averages.N.tolist() == [N, 0] and averages.m.flatten().tolist() == [m, 0]
        assert codebook.embedding.weight.flatten().tolist() == [e, 100.0]


@pytest.mark.equation("B3")
def test_b3_moving_averages_have_the_mean_of_the_assigned_vectors_as_fixed_point():
    """[B3] From N_k = 1, m_k = e_k, s steps on one batch give e_k = (g e_k + (1 - g) n_k mean) / (g + (1 - g) n_k),
    with g = gamma^s."""
    start = torch.tensor([[10.0, 0.0], [-10.0, 0.0], [0.0, 10.0]], dtype=torch.float64)
    vectors = start.repeat_interleave(torch.tensor([5, 3, 1]), dim=0) + normal(9, 2)
    codebook, z = codebook_of(start), latent(vectors)
    index = codebook.indices(z)
    n = torch.tensor([[5.0], [3.0], [1.0]], dtype=torch.float64)
    assert index.flatten().tolist() == [0] * 5 + [1] * 3 + [2]
    mean = torch.stack([part.mean(0) for part in vectors.split([5, 3, 1])])
    averages = CodebookAverages(codebook, gamma=0.9)
    averages.N.fill_(1)
    averages.m.copy_(start)
    for step in range(1, 401):
        averages.update(codebook, z, index)
        g = 0.9**step
        # up to 400 roundings of 1e-16 each
        assert_close(
            codebook.embedding.weight, (g * start + (1 - g) * n * mean) / (g + (1 - g) * n), rtol=0, atol=1e-11
        )
    assert_close(codebook.embedding.weight, mean, rtol=0, atol=1e-11)  # 0.9^400 = 5e-19 is left of the start
    assert torch.equal(codebook.indices(z), index)


@pytest.mark.equation("B3")
def test_b3_an_entry_that_nothing_chooses_stays_for_ever():
    """[B3] Though its N and m fall below the smallest number there is."""
    codebook = codebook_of(torch.tensor([[0.0], [1.0]]))
    averages = CodebookAverages(codebook, gamma=0.5)
    for vector in [1.1] + [0.1] * 200:
        z = torch.full((1, 1, 1, 1), vector)
        averages.update(codebook, z, codebook.indices(z))
    assert averages.N[1] == 0
    assert_close(codebook.embedding.weight, torch.tensor([[0.1], [1.1]]), rtol=1e-6, atol=0)  # float32


@pytest.mark.equation("B3")
def test_b3_entries_hardly_chosen_begin_again_at_vectors_of_the_batch():
    codebook, z = codebook_of(normal(6, 3)), normal(2, 3, 4, 4, seed=1)
    averages = CodebookAverages(codebook)
    N = [1.0, 0.0, 0.9 * IDLE, 1.1 * IDLE, 2.0, 3.0 - 2 * IDLE]  # mean 1
    averages.N.copy_(torch.tensor(N, dtype=torch.float64))
    averages.m.copy_(averages.N[:, None] * codebook.embedding.weight)
    before = codebook.embedding.weight.clone()
    averages.restart(codebook, z, torch.Generator().manual_seed(0))
    moved = (codebook.embedding.weight != before).any(1)
    assert moved.tolist() == [False, True, True, False, False, False]
    vectors = z.permute(0, 2, 3, 1).flatten(0, 2)
    assert (codebook.embedding.weight[moved][:, None] == vectors).all(-1).any(-1).all()
    assert_close(averages.N[moved], torch.ones(2, dtype=torch.float64), **EXACT)
    assert_close(averages.m / averages.N[:, None], codebook.embedding.weight, **EXACT)


# ---------------------------------------------------------------------------------------------------------------------
# how much of the codebook is used


@pytest.mark.equation("B3")
@pytest.mark.parametrize(
    ("counts", "share", "expected"),
    [
        ([7], 1 / 8, 1.0),
        ([3, 3, 3, 3, 3, 3, 3, 3], 1.0, 8.0),
        ([5, 5, 5, 5], 0.5, 4.0),
        ([2, 1, 1], 3 / 8, 2**1.5),  # entropy 1/2 ln 2 + 2 * 1/4 ln 4
        ([3, 1], 2 / 8, 4 / 3**0.75),  # entropy ln 4 - 3/4 ln 3
    ],
)
def test_b3_usage_and_perplexity_of_known_distributions(counts, share, expected):
    """[B3] Of 8 entries; 1 is perplexity's least, the number of entries in use its largest."""
    index = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts)).flip(0)
    assert usage(index, 8) == share
    assert_close(perplexity(index), expected, **EXACT)


# ---------------------------------------------------------------------------------------------------------------------
# the autoencoder


@pytest.mark.equation("B1")
def test_b1_compression_by_hand():
    """[B1] Stickers: 128 * 128 * 3 numbers to 16 * 16 * 8. Stable Diffusion: 512 * 512 * 3 to 64 * 64 * 4."""
    assert PRESETS["stickers"].autoencoder.compression == VQ.compression == 49152 / 2048 == 24
    assert PRESETS["sd15"].autoencoder.compression == 786432 / 16384 == 48
    assert 256 * VQ.bits == 2560
    assert 256 * PRESETS["stickers"].autoencoder.bits == 32768


def small() -> Autoencoder:
    config = AutoencoderConfig(channels=(8, 8), layers=1, latent_channels=3, groups=4, scale=0.5, codebook=16)
    return randomise(Autoencoder(config)).double()


@pytest.mark.equation("B1")
def test_b1_the_latent_has_the_promised_size():
    x = normal(1, 3, 16, 16)
    model = small()
    assert x.numel() / model.encode(x).numel() == model.config.compression


def coder(monkeypatch, decode) -> Autoencoder:
    """One whose latent is the picture."""
    model = small()
    monkeypatch.setattr(model, "encode", lambda x: x)
    monkeypatch.setattr(model, "decode", decode)
    return model


@pytest.mark.equation("B1")
def test_b1_reconstructions_are_bytes_in_the_order_of_the_pictures(monkeypatch):
    pictures = np.random.default_rng(0).integers(0, 256, (23, 4, 6, 3), dtype=np.uint8)
    np.testing.assert_array_equal(reconstructions(coder(monkeypatch, lambda z: z), pictures), pictures)
    tripled = np.clip(np.round(3 * (pictures - 127.5) + 127.5), 0, 255)
    np.testing.assert_array_equal(reconstructions(coder(monkeypatch, lambda z: 3 * z), pictures), tripled)


@pytest.mark.equation("B1")
def test_b1_psnr_by_hand(monkeypatch):
    """[B1] Off by 10 everywhere: 10 log10(255^2 / 100). By 2 in half the values: 10 log10(255^2 / 2). Their mean."""
    pictures = np.full((2, 2, 2, 3), 100, np.uint8)
    error = torch.zeros(2, 3, 2, 2)
    error[0], error[1, :, 0] = 10 / 127.5, -2 / 127.5
    expected = (10 * math.log10(65025 / 100) + 10 * math.log10(65025 / 2)) / 2
    # float32
    assert_close(mean_psnr(coder(monkeypatch, lambda z: z + error), pictures), expected, rtol=1e-6, atol=0)


@pytest.mark.equation("B3")
def test_b3_quantisation_is_in_the_decoder():
    """[B3] encode gives what the encoder says; decode quantises, and a latent quantised before gives the same."""
    model, x = small(), normal(1, 3, 16, 16).clamp(-1, 1)
    z_0 = model.encode(x)
    z = model.quant_conv(model.encoder(x))
    assert torch.equal(z_0, 0.5 * z)
    z_q = model.quantize(z)
    assert not torch.equal(z_q, z)
    picture = model.decode(z_0)
    assert torch.equal(picture, model.decoder(model.post_quant_conv(z_q)))
    assert torch.equal(picture, model.decode(0.5 * z_q))  # 0.5 rounds nothing


def test_an_autoencoder_with_a_codebook_has_no_gaussian():
    model, x = small(), normal(1, 3, 16, 16)
    for call in (lambda: model.posterior(x), lambda: model.encode(x, normal(1, 3, 8, 8))):
        with pytest.raises(ValueError, match="no Gaussian"):
            call()


@pytest.mark.equation("B3")
def test_b3_training_moves_every_parameter_and_fits_a_batch():
    """[B3] Encoder and decoder by gradients, the codebook by its averages."""
    model = small().requires_grad_(True)
    model.quantize.requires_grad_(False)
    averages, generator = CodebookAverages(model.quantize), torch.Generator().manual_seed(0)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.Adam((p for p in model.parameters() if p.requires_grad), lr=3e-3)
    x = torch.from_numpy(np.kron(normal(2, 3, 4, 4).clamp(-1, 1).numpy(), np.ones((4, 4))))  # blocks of 4x4
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = vq_loss(model, averages, x, generator)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert [name for name, p in model.named_parameters() if torch.equal(p, before[name])] == []
    assert losses[-1] < 0.6 * losses[0]


# ---------------------------------------------------------------------------------------------------------------------
# configurations


def test_a_codebook_survives_json_and_is_none_by_default():
    shipped = ModelConfig.from_json((SHIPPED["stickers"] / "config.json").read_bytes())
    assert shipped.autoencoder.codebook is None
    config = ModelConfig(**{**vars(PRESETS["stickers"]), "autoencoder": VQ})
    assert VQ.codebook == 1024 and ModelConfig.from_json(config.to_json()) == config


def test_a_codebook_without_entries_is_refused():
    with pytest.raises(ValueError, match="cannot have 0 entries"):
        AutoencoderConfig(codebook=0)


def test_a_bottleneck_of_either_kind_has_the_channels_it_needs():
    assert Autoencoder(AutoencoderConfig(channels=(8, 8), groups=4)).quant_conv.weight.shape[:2] == (8, 8)
    assert small().quant_conv.weight.shape[:2] == (3, 3)
    assert math.prod(small().quantize.embedding.weight.shape) == 16 * 3
