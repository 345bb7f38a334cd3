"""Both forms of every slip, against numbers worked by hand: the schedule has alpha_bar = 0.9, 0.54."""

import pytest
import torch
from torch.testing import assert_close

from ldm.config import ScheduleConfig
from ldm.schedule import Schedule
from p2p.alpha import Alpha, Step
from p2p.equations.examples import written
from p2p.equations.slips import SLIPS
from tests.support.normal import normal

SHORT = Schedule(ScheduleConfig(betas="linear", T=2, beta_start=0.1, beta_end=0.4))  # alpha = 0.9, 0.6
EXACT = dict(rtol=1e-12, atol=1e-12)  # float64, a few operations


def z(value: float) -> torch.Tensor:
    return torch.full((1, 1, 1, 1), value, dtype=torch.float64)


def both(id: str, *args) -> tuple[float, float]:
    return tuple(form(SHORT, *args).item() for form in SLIPS[id])


@pytest.mark.equation("D6")
def test_d6_the_noise_is_scaled_by_the_root():
    """z_0 = 2, eps = 10, t = 2: 2 sqrt(0.54) and 0.46 or sqrt(0.46) of the noise."""
    assert_close(both("D6", z(2.0), z(10.0), 2), (2 * 0.54**0.5 + 4.6, 2 * 0.54**0.5 + 10 * 0.46**0.5), **EXACT)


@pytest.mark.equation("D7")
def test_d7_the_printed_mean_is_too_large():
    """z_t = 1, z_0 = 1, t = 2: Bayes' rule has precisions 1 / 0.1 and 0.6 / 0.4."""
    printed = 0.54**0.5 * 0.4 / 0.46 + 0.6**0.5
    bayes = (0.9**0.5 / 0.1 + 0.6**0.5 / 0.4) / (1 / 0.1 + 0.6 / 0.4)
    assert_close(both("D7", z(1.0), z(1.0), 2), (printed, bayes), **EXACT)
    of_z_0, of_z_t = SHORT.alpha_of_z_0(2, 1).item(), SHORT.alpha_of_z_t(2, 1).item()
    assert_close((of_z_0, of_z_t), (0.9**0.5 / 0.1 / 11.5, 0.6**0.5 / 0.4 / 11.5), **EXACT)


@pytest.mark.equation("D9", "D12")
def test_d9_the_printed_form_starts_from_what_it_is_to_find():
    """z_0 = 2, eps = 1, t = 2: (2 + 0.46) / sqrt(0.54) where 2 is right; option C's mean goes wrong with it."""
    z_t = SHORT.add_noise(z(2.0), z(1.0), 2)
    printed, corrected = both("D9", z_t, z(2.0), z(1.0), 2)
    assert_close((printed, corrected), (2.46 / 0.54**0.5, 2.0), **EXACT)
    assert SLIPS["D9"].printed(SHORT, z_t + 1, z(2.0), z(1.0), 2).item() == printed  # z_t plays no part
    mean = lambda z_0: (0.9**0.5 / 0.1 * z_0 + 0.6**0.5 / 0.4 * z_t.item()) / 11.5
    assert_close(both("D12", z_t, z(2.0), z(1.0), 2), (mean(printed), mean(2.0)), **EXACT)


@pytest.mark.equation("D13")
def test_d13_without_f_the_mean_is_the_noise():
    """z_t = 1, eps = 0.5, t = 2: (1 - 0.4 / sqrt(0.46) 0.5) / sqrt(0.6)."""
    assert_close(both("D13", z(1.0), z(0.5), 2), (0.5, (1 - 0.2 / 0.46**0.5) / 0.6**0.5), **EXACT)


@pytest.mark.equation("D4")
def test_d4_the_marginal_of_unit_latents_is_noise_and_the_conditional_is_not():
    """The marginal of z_0 ~ N(0, 1) is N(0, 1) exactly, as printed; that of other data is not, nor q(z_T given z_0)."""
    printed, corrected = SLIPS["D4"]
    assert_close(corrected(SHORT, 0.0, 1.0), (0.0, 1.0), **EXACT)
    assert_close(corrected(SHORT, 3.0, 0.25), (3 * 0.54**0.5, 0.54 * 0.25 + 0.46), **EXACT)
    assert_close(corrected(SHORT, 1.0, 0.0), (0.54**0.5, 0.46), **EXACT)  # given z_0 = 1
    assert printed(SHORT, 3.0, 0.25) == (0.0, 1.0)


@pytest.mark.equation("D15")
def test_d15_without_a_step_size_a_step_is_the_whole_gradient():
    """On the loss (theta - 3)^2 from theta = 1 the printed step goes to 5 and back, for ever; with 1/4 it halves."""
    theta = {"printed": 1.0, "corrected": 1.0}
    passed = {name: [] for name in theta}
    for _ in range(4):
        for name, step in zip(theta, SLIPS["D15"]):
            theta[name] = step(theta[name], 2 * (theta[name] - 3), 0.25)
            passed[name].append(theta[name])
    assert passed == {"printed": [5, 1, 5, 1], "corrected": [2, 2.5, 2.75, 2.875]}


@pytest.mark.equation("D15")
def test_d15_pixels_are_not_what_the_unet_is_trained_on(tiny):
    """Printed: x_0 and x_t. The UNet has the latent's channels, four for an image's three, and refuses pixels."""
    x_0, context = torch.zeros(1, 3, 16, 16), torch.zeros(1, 32, 32)
    tiny.unet(torch.zeros(1, 4, 16, 16), torch.tensor([1]), context)
    with pytest.raises(ValueError, match="channels"):
        tiny.unet(x_0, torch.tensor([1]), context)


@pytest.mark.equation("C4")
def test_c4_the_printed_products_do_not_exist():
    """N = 6 positions of d_eps = 4, 7 tokens of d_tau = 5, d = 3. Every factor of the printed products is one that the
    slide names; neither its shapes nor the right ones fit from the left."""
    phi, tau = normal(6, 4), normal(7, 5, seed=1)
    W_Q, W_K, W_V = normal(3, 4, seed=2), normal(3, 5, seed=3), normal(3, 5, seed=4)
    for weights in ((normal(3, 5), W_K, normal(3, 4)), (W_Q, W_K, W_V)):
        with pytest.raises(RuntimeError, match="cannot be multiplied"):
            SLIPS["C4"].printed(phi, tau, *weights)
    Q, K, V = SLIPS["C4"].corrected(phi, tau, W_Q, W_K, W_V)
    assert (Q.shape, K.shape, V.shape) == ((6, 3), (7, 3), (7, 3))
    # row by row, as C1 and C2 have it: q_i = W_Q phi_i
    assert_close(Q, torch.stack([W_Q @ row for row in phi]), **EXACT)
    assert_close(K, torch.stack([W_K @ row for row in tau]), **EXACT)
    assert_close(V, torch.stack([W_V @ row for row in tau]), **EXACT)


@pytest.mark.equation("C5")
def test_c5_n_is_a_quarter_at_each_level_below(tiny):
    """In every cross-attention of a UNet of two levels."""
    seen = set()

    def watch(site, Q, K, V):
        seen.add((site.height * site.width, Q.shape[-2]))
        return torch.nn.functional.scaled_dot_product_attention(Q, K, V)

    tiny.unet(torch.zeros(1, 4, 16, 16), torch.tensor([1]), torch.zeros(1, 32, 32), watch)
    printed, corrected = SLIPS["C5"]
    assert seen == {(n, n) for n in (corrected(4, 16, 16, 0), corrected(4, 16, 16, 1))} == {(256, 256), (64, 64)}
    assert printed(4, 16, 16, 0) == 1024


@pytest.mark.equation("P4")
def test_p4_until_tau_begins_at_T_and_includes_tau():
    alpha = Alpha(Step(3)).compile(written("a cat"), 5)
    printed, corrected = SLIPS["until tau"]
    assert corrected(5, 3) == [t for t in range(5, 0, -1) if alpha(t)[1] == 1] == [5, 4, 3]
    assert printed(5, 3) == [4, 3]


@pytest.mark.equation("P3")
def test_p3_there_is_a_map_for_every_step():
    printed, corrected = SLIPS["steps"]
    assert corrected(4) == [4, 3, 2, 1] and printed(4) == [3, 2, 1]


@pytest.mark.equation("P7")
def test_p7_the_column_is_split_and_not_averaged():
    """A row of A is a distribution; with orange's share split it stays one, with averages it does not."""
    orange, cat, big = (torch.tensor([share], dtype=torch.float64) for share in (0.6, 0.4, 0.1))
    split = SLIPS["average"].corrected(orange, big)
    assert torch.equal(split, torch.tensor([[0.3, 0.3]], dtype=torch.float64))
    assert_close((split.sum() + cat).item(), 1.0, **EXACT)
    averaged = SLIPS["average"].printed(orange, big)
    assert_close(averaged, torch.tensor([[0.35, 0.35]], dtype=torch.float64), **EXACT)


def test_the_samples_of_five_days_take_eight_seconds_each():
    printed, corrected = SLIPS["cost"]
    assert corrected(50_000, 5) == 8.64 and printed(50_000, 5) == 15
