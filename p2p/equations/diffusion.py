"""D: diffusion in latent space."""

from p2p.equations.formula import Formula
from p2p.equations.slides import IDEAS, LATENT, LOSS, MEAN, PARAMETERISATIONS, PROPERTIES, TRAINING

DIFFUSION = (
    Formula(
        "D1",
        "The forward process",
        "printed",
        LATENT,
        r"q(z_{1:T}) = q(z_0) \prod_{t=1}^T q(z_t \mid z_{t-1})",
        "ldm.equations.variational_bound.log_q",
        r"q(z_{0:T}) = q(z_0) \prod_{t=1}^T q(z_t \mid z_{t-1})",
        r"The right side depends on $z_0$: it is the joint density of $z_0, \dots, z_T$.",
    ),
    Formula(
        "D2",
        "One step of it",
        "printed",
        LATENT,
        r"q(z_t \mid z_{t-1}) = \mathcal{N}(\sqrt{\alpha_t} z_{t-1}, (1 - \alpha_t) I)",
        "ldm.schedule.Schedule.forward_step",
    ),
    Formula(
        "D3",
        "The reverse process",
        "printed",
        LATENT,
        r"p_\theta(z_{1:T}) = p(z_T) \prod_{t=1}^T p_\theta(z_{t-1} \mid z_t, \tau(y)), "
        r"\quad p(z_T) = \mathcal{N}(0, I)",
        "ldm.equations.variational_bound.log_p",
        r"p_\theta(z_{0:T}) = p(z_T) \prod_{t=1}^T p_\theta(z_{t-1} \mid z_t, \tau(y))",
        r"As D1: the last factor is a density of $z_0$ too.",
    ),
    Formula(
        "D4",
        "The end of the forward process",
        "printed",
        LATENT,
        r"\alpha_t \text{ follows a fixed schedule so that } q(z_T) \sim \mathcal{N}(0, I)",
        "ldm.equations.variational_bound.prior_term",
        r"q(z_T) \approx \mathcal{N}(0, I), \quad \text{for } z_0 \text{ of mean } m \text{ and variance } s^2: \quad "
        r"\mathbb{E} z_T = \sqrt{\bar\alpha_T} m, \quad \mathrm{Var} z_T = \bar\alpha_T s^2 + 1 - \bar\alpha_T",
        r"An aim, which the marginal reaches exactly for $z_0 \sim \mathcal{N}(0, I)$, at every $t$, and else nearly. "
        r"The conditional $q(z_T \mid z_0) = \mathcal{N}(\sqrt{\bar\alpha_T} z_0, (1 - \bar\alpha_T) I)$ never does: "
        r"Stable Diffusion's $\bar\alpha_{1000}$ is $0.00466$, so $0.068$ of $z_0$ is left in $z_T$.",
    ),
    Formula(
        "D5",
        "Property 1: all steps at once",
        "printed",
        PROPERTIES,
        r"q(x_t \mid x_0) = \mathcal{N}(\sqrt{\bar\alpha_t} x_0, (1 - \bar\alpha_t) I), "
        r"\quad \bar\alpha_t = \prod_{s=1}^t \alpha_s",
        "ldm.schedule.Schedule.alpha_bar",
    ),
    Formula(
        "D6",
        "A noisy latent as a sum",
        "printed",
        PROPERTIES,
        r"x_t = \sqrt{\bar\alpha_t} x_0 + (1 - \bar\alpha_t) \epsilon",
        "ldm.schedule.Schedule.add_noise",
        r"x_t = \sqrt{\bar\alpha_t} x_0 + \sqrt{1 - \bar\alpha_t} \epsilon",
        r"The variance is $1 - \bar\alpha_t$ (D5), so the noise is scaled by its root. D15 is correct.",
    ),
    Formula(
        "D7",
        "Property 2: the posterior's mean",
        "printed",
        PROPERTIES,
        r"\tilde\mu = \frac{\sqrt{\bar\alpha_t} (1 - \alpha_t)}{1 - \bar\alpha_t} x_0 "
        r"+ \frac{\sqrt{\alpha_t} (1 - \bar\alpha_t)}{1 - \bar\alpha_t} x_t",
        "ldm.schedule.Schedule.posterior",
        r"\tilde\mu = \frac{\sqrt{\bar\alpha_{t-1}} (1 - \alpha_t)}{1 - \bar\alpha_t} x_0 "
        r"+ \frac{\sqrt{\alpha_t} (1 - \bar\alpha_{t-1})}{1 - \bar\alpha_t} x_t",
        r"By Bayes' rule the prior of $x_{t-1}$ is D5 at $t - 1$; both numerators print its $\bar\alpha_{t-1}$ as "
        r"$\bar\alpha_t$.",
    ),
    Formula(
        "D8",
        "The posterior's variance",
        "printed",
        PROPERTIES,
        r"\sigma_t^2 = \frac{(1 - \bar\alpha_{t-1})(1 - \alpha_t)}{1 - \bar\alpha_t}",
        "ldm.schedule.Schedule.sigma",
        note=r"$\sigma_1 = 0$: the last step draws nothing.",
    ),
    Formula(
        "D9",
        "Property 3: the clean latent",
        "printed",
        PROPERTIES,
        r"x_0 = (x_0 + (1 - \bar\alpha_t) \epsilon) / \sqrt{\bar\alpha_t}",
        "ldm.schedule.Schedule.z_0_from_eps",
        r"x_0 = (x_t - \sqrt{1 - \bar\alpha_t} \epsilon) / \sqrt{\bar\alpha_t}",
        r"It is D6 solved for $x_0$. Three slips: $x_0$ on the right for $x_t$, plus for minus, and no root.",
    ),
    Formula(
        "D10",
        "The posterior's mean from the noise",
        "printed",
        PROPERTIES,
        r"\tilde\mu = \frac{1}{\sqrt{\alpha_t}} "
        r"\left( x_t - \frac{1 - \alpha_t}{\sqrt{1 - \bar\alpha_t}} \epsilon \right)",
        "ldm.schedule.Schedule.mean_from_eps",
        note="Corrected D9 substituted into corrected D7; with either as printed it does not follow.",
    ),
    Formula(
        "D11",
        "The reverse step",
        "printed",
        IDEAS,
        r"\Sigma_\theta = \sigma_t^2 I, \quad \mu_\theta \approx \tilde\mu",
        "ldm.equations.variational_bound.step_term",
        note=r"Two Gaussians of equal variance: their KL is $\lVert \tilde\mu - \mu_\theta \rVert^2 / 2 \sigma_t^2$, "
        r"minimal where the means agree.",
    ),
    Formula(
        "D12",
        "The parameterisations",
        "printed",
        PARAMETERISATIONS,
        r"\mu_\theta = \alpha_t^{(0)} x_\theta^{(0)} + \alpha_t^{(t)} x_t, "
        r"\quad x_\theta^{(0)} = (x_0 + (1 - \bar\alpha_t) \epsilon_\theta) / \sqrt{\bar\alpha_t}",
        "ldm.schedule.Schedule.predict",
        r"x_\theta^{(0)} = (x_t - \sqrt{1 - \bar\alpha_t} \epsilon_\theta) / \sqrt{\bar\alpha_t}",
        r"A predicts the mean, B $x_0$, C the noise; C inherits the slips of D9. "
        r"$v = \sqrt{\bar\alpha_t} \epsilon - \sqrt{1 - \bar\alpha_t} x_0$ is a fourth, on no slide. "
        r"$\alpha_t^{(0)}$ and $\alpha_t^{(t)}$ are the factors of $x_0$ and $x_t$ in D7: `Schedule.alpha_of_z_0` and "
        r"`Schedule.alpha_of_z_t`.",
    ),
    Formula(
        "D13",
        "The mean, given the prompt",
        "printed",
        MEAN,
        r"\mu_\theta(z_t, t, \tau(y)) = f(\mathrm{UNet}(z_t, t, \tau(y)))",
        "ldm.schedule.Schedule.predict",
        note=r"$f$ depends on what the network predicts: for $\epsilon$ it is D12's option C. The included model "
        r"predicts $v$, and its timestep is $t - 1$: `LatentDiffusion.predict` gives $\epsilon$ and $z_0$ for any "
        r"model, and D10 or D7 the mean.",
    ),
    Formula(
        "D14",
        "The loss",
        "printed",
        LOSS,
        r"L_\mathrm{LDM} = \mathbb{E} \lVert \epsilon - \epsilon_\theta(z_t, t, \tau_\theta(y)) \rVert^2",
        "ldm.train.ldm_loss",
    ),
    Formula(
        "D15",
        "Algorithm 1: training",
        "printed",
        TRAINING,
        r"\text{for } e = 1..E \text{, over } (x_0, y): \quad t \sim \mathrm{Uniform}(1..T), \quad "
        r"\epsilon \sim \mathcal{N}(0, I), \quad "
        r"x_t = \sqrt{\bar\alpha_t} x_0 + \sqrt{1 - \bar\alpha_t} \epsilon, \quad "
        r"\ell_t(\theta) = \lVert \epsilon - \epsilon_\theta(x_t, t, \tau_\theta(y)) \rVert^2, \quad "
        r"\theta \leftarrow \theta - \nabla_\theta \ell_t(\theta)",
        "ldm.train.ldm_loss",
        r"z_t = \sqrt{\bar\alpha_t} z_0 + \sqrt{1 - \bar\alpha_t} \epsilon, \quad z_0 = \mathrm{encoder}(x_0), \quad "
        r"\theta \leftarrow \theta - \eta \nabla_\theta \ell_t(\theta)",
        r"Two slips: no step size $\eta$, and pixels $x_0$, $x_t$ where the latent is meant. Text encoder and UNet are "
        r"trained together.",
    ),
    Formula(
        "D16",
        "DDPM sampling",
        "added",
        None,
        r"z_{t-1} = \tilde\mu(z_t, \hat z_0) + \sigma_t n, \quad n \sim \mathcal{N}(0, I)",
        "ldm.samplers.ddpm_step",
    ),
    Formula(
        "D17",
        "DDIM sampling",
        "added",
        None,
        r"z_{t'} = \sqrt{\bar\alpha_{t'}} \hat z_0 + \sqrt{1 - \bar\alpha_{t'} - \sigma^2} \hat\epsilon + \sigma n",
        "ldm.samplers.ddim_step",
        note=r"$\sigma = \eta \sigma_t$ (D8 for the stride). $\eta = 1$ is D16. Trailing spacing gives exactly the "
        r"requested number of steps, from 1 to $T$.",
    ),
    Formula(
        "D18",
        "Classifier-free guidance",
        "added",
        None,
        r"\epsilon = \epsilon_u + w (\epsilon_c - \epsilon_u)",
        "ldm.schedule.guided",
        note=r"$w = 1$ is no guidance, $w = 0$ ignores the prompt.",
    ),
    Formula(
        "D19",
        "One step of the reverse process",
        "printed",
        MEAN,
        r"p_\theta(z_{t-1} \mid z_t, \tau(y)) = \mathcal{N}(\mu_\theta(z_t, t, \tau(y)), \Sigma_\theta)",
        "ldm.equations.variational_bound.reverse_step",
        note=r"With $\Sigma_\theta = \sigma_t^2 I$ (D11). An ideal network's mean is exact; $\sigma_t^2$ is the "
        r"variance for a known $z_0$, without the rest, $(\alpha_t^{(0)})^2 \mathrm{Var}(z_0 \mid z_t)$.",
    ),
)
