"""A student's first mistakes: each is refused by the function itself, in one sentence that names the fix.

A notebook has no shape checks. So all the calls are made in one process of their own, which has none either.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SETTING = """
import json, sys
import numpy as np, torch
from PIL import Image
import p2p
import weights.load
from ldm.attention import Attention, SelfAttentionBlock, attend, element_wise
from ldm.equations.variational_bound import last_term, step_term
from ldm.config import *
from ldm.equations.ideal_denoiser import IdealDenoiser, data_set
from ldm.helpers.likeness import psnr, structure
from ldm.helpers.images import to_bytes, to_tensor
from ldm.quantize import codebook_loss, straight_through
from ldm.samplers import *
from ldm.schedule import *
from ldm.text_encoder import SelfAttention
from ldm.autoencoder import Autoencoder
from ldm.pipeline import LatentDiffusion
from ldm.unet import UNet
from p2p.algorithm import PromptToPrompt, SelfInjection
from p2p.alpha import Alpha
from p2p.experiments.baselines import blended, fixed_seed, sdedit, uncrop
from p2p.call import Call, Sampling, Target
from p2p.edits import Composition, Preserve, Refine, Reweight, Swap
from p2p.inject import Layers
from p2p.local_blend import Region
from p2p.mappers import align, mapper
from p2p.maps import MapHistory
from p2p.masks import Box
from p2p.experiments.reference import Reference
model = weights.load.load("stickers")
small = UNetConfig((8, 8), 1, (False, True), None, 4, None, latent_channels=3, condition_channels=3, groups=4)
first_stage = AutoencoderConfig((8, 8), 1, 3, groups=4)
config = ModelConfig("enlarger", 16, ScheduleConfig(), first_stage, small, None)
enlarger, no_prompt = LatentDiffusion(config, None, None, UNet(small), Autoencoder(first_stage)), torch.empty(1, 0, 0)
CAT, DOG = "a photo of a cat", "a photo of a dog"
source, target = map(model.tokenizer.encode, (CAT, DOG))
context = model.encode_prompts([CAT])
S = model.schedule
x, z, two = torch.zeros(5), torch.ones(3, 8, 2, 2), torch.ones(2, 8, 16, 16)
ts = torch.tensor([5, 6, 7])
bytes_ = np.zeros((1, 16, 16, 3), np.uint8)
image = Image.new("RGB", (16, 16))
square = torch.ones(16, 16)
edit = Swap("cat", "dog")
said = []
for snippet in json.loads(sys.argv[1]):
    try:
        value = eval(snippet)
        said.append(["", repr(value)])
    except Exception as e:
        said.append([type(e).__name__, str(e)])
print(json.dumps(said))
"""

# a call, and what its error must say
REFUSED = {
    # options that do not exist
    'mapper(align(source, target), 32, "average")': "merge must be 'sum', 'mean' or 'copy', got 'average'",
    'Swap("cat", "dog", merge="average")': "merge must be 'sum', 'mean' or 'copy', got 'average'",
    'ScheduleConfig(beta_schedule="cosine")': "beta_schedule must be 'scaled_linear' or 'linear', got 'cosine'",
    'ScheduleConfig(beta_schedule="scaled-linear")': "'scaled_linear' or 'linear', got 'scaled-linear'",
    'ScheduleConfig(parameterisation="x0")': "parameterisation must be 'eps' or 'v', got 'x0'",
    'ScheduleConfig(spacing="linspace")': "spacing must be 'trailing' or 'leading', got 'linspace'",
    "ScheduleConfig(last=2)": "last must be 0 or 1, got 2",
    'TextConfig(activation="relu")': "activation must be 'quick_gelu' or 'gelu', got 'relu'",
    'Layers(places=("upper",))': "places must be 'down', 'mid' or 'up', got 'upper'",
    'Sampling(sampler="DDIM")': "sampler must be 'ddim', 'ddpm', 'plms', 'dpm++' or 'euler', got 'DDIM'",
    'Reference("replacement")': "mapper must be 'replace' or 'refine', got 'replacement'",
    # shapes that would broadcast
    "S.add_noise(x, x, ts)": "write z_0.reshape(-1, 1, 1, 1)",
    "S.add_noise(x, x, 5)": "write z_0.reshape(-1, 1, 1, 1)",
    "S.add_noise(z, z[0], 5)": "write eps[None]",
    "S.add_noise(z, z[:1], 5)": "z_0 and eps must have one shape, got (3, 8, 2, 2) and (1, 8, 2, 2)",
    "S.add_noise(z, 0.5, 5)": "eps must be latents, a tensor (b, c, h, w), got float",
    "S.add_noise(z, z, ts[:2])": "there are 3 latents and 2 times t: give one for all, or one for each",
    "S.forward_step(z, z[:1], 5)": "z_prev and eps must have one shape",
    "S.z_0_from_eps(z, z[:1], 5)": "z_t and eps must have one shape",
    "S.eps_from_z_0(z, z[:1], 5)": "z_t and z_0 must have one shape",
    "S.v_from(z, z[:1], 5)": "z_0 and eps must have one shape",
    "S.mean_from_eps(z, z[:1], 5)": "z_t and eps must have one shape",
    "S.eps_from_mean(z, z[:1], 5)": "z_t and mean must have one shape",
    "S.posterior(z, z[:1], 5, 4)": "z_t and z_0 must have one shape",
    "S.predict(z, z[:1], 5)": "z_t and output must have one shape",
    "guided(z, z[:1], 2.0)": "eps_uncond and eps_cond must have one shape",
    "ddim_step(0.0)(S, z, Prediction(z, z), 5, 4, z[:1])": "z_t and noise must have one shape",
    "ddpm_step(S, Prediction(z, z), z, 5, 4, z)": "z_t must be latents, a tensor (b, c, h, w), got Prediction",
    "codebook_loss(z, z[:1])": "z and z_q must have one shape",
    "straight_through(z, z[:1])": "z and z_q must have one shape",
    "IdealDenoiser(S, data_set(torch.zeros(3, 2))).predict(torch.zeros(5, 2), 5)": "write z[..., None, None]",
    "element_wise(torch.ones(3, 4), torch.ones(5, 4), torch.ones(4, 4))": "share d and m, got the shapes",
    "element_wise(torch.ones(1, 2, 3, 4), torch.ones(1, 2, 5, 4), torch.ones(1, 2, 5, 4))": "one head, as Q[0, 0]",
    "attend(torch.ones(1, 2, 3, 4), torch.ones(1, 2, 5, 4), torch.ones(1, 2, 6, 4))": "there are 5 keys and 6 values",
    # times
    "S.add_noise(z, z, 0.5)": "t must be a whole number in 0..1000, or a tensor (b,) of them, got 0.5",
    "S.add_noise(z, z, True)": "t must be a whole number in 0..1000",
    "S.posterior(z, z, ts, 4)": "a t_prev for each t, got t_prev = 4, t = tensor([5, 6, 7])",
    "S.posterior(z, z, ts, ts)": "need 0 <= t_prev < t <= 1000",
    "step_term(S, z, z, z, ts)": "t must be a whole number, got tensor([5, 6, 7])",
    "model.predict(two, 0, context)": "t must lie in 1..1000, got 0",
    "model.predict(two, ts, context)": "there are 2 latents and 3 timesteps: give one for all, or one for each",
    "model.unet(two, 500, context)": "counted from 0, got 500: for the lecture's t write torch.tensor([t - 1])",
    "model.unet(two, torch.tensor(500), context)": "for the lecture's t write torch.tensor([t - 1])",
    "model.unet(two, ts, context)": "there are 2 latents and 3 timesteps",
    "times(S, 30.0)": "steps must be a whole number, got 30.0",
    "Schedule(1000)": "write ScheduleConfig(1000)",
    # what goes into the model
    "model.unet(z[:, :4], torch.tensor([5]), context)": "this model's latents have 8 channels, z_t is (3, 4, 2, 2)",
    "model.unet(two, torch.tensor([5]), context[0])": "context must be tau_theta(y), a tensor (b, m, e), got the shape",
    "model.unet(two, torch.tensor([5]), context)": "there are 2 latents and 1 prompts: give one for each",
    "model.unet(two, torch.tensor([5]), context[..., :9].expand(2, -1, -1))": "this model's tokens have 160 numbers",
    "model.predict(two, 5, [CAT])": "model.encode_prompts([prompt]) makes it",
    "model.denoise([CAT], [7])": "model.encode_prompts([prompt]) makes it",
    "model.encode_prompts(CAT)": "prompts must be a list of strings, got one string: write ['a photo of a cat']",
    "model.generate(CAT, [7])": "write ['a photo of a cat']",
    "fixed_seed(model, CAT, 7)": "write ['a photo of a cat']",
    "model.denoise(context, 7)": "seeds must be a list, one for each prompt, got 7: write [7]",
    "model.denoise(context, [7.0])": "a seed must be a whole number, got 7.0",
    'model.denoise(context, [7], sampler="ddim")': "write SAMPLERS['ddim']",
    "model.denoise(context, [7], sampler=ddim_step(0.5))": "write Sampler(step)",
    "model.denoise(context, [7], attn_fn=edit)": "an edit of prompts goes to PromptToPrompt",
    "model.denoise(context, [7], condition=two)": "stickers makes an image of a prompt alone: leave out condition",
    "model.predict(two, 5, context, condition=two)": "stickers makes an image of a prompt alone: leave out condition",
    "enlarger.generate([''], [7])": "enlarger makes an image of another one: give it as condition, or let `p2p restore",
    "enlarger.predict(z[:, :3], 5, no_prompt)": "enlarger makes an image of another one: give it as condition",
    "enlarger.predict(z[:, :3], 5, no_prompt, condition=two[:1, :3])": "images in [-1, 1], (b, 3, 2, 2), got torch",
    "enlarger.predict(z[:, :3], 5, no_prompt, condition=z[:2, :3])": "there are 3 images to make of 2: give one",
    "enlarger.generate([''] * 3, [7, 8, 9], condition=z[:2, :3])": "there are 3 images to make of 2: give one for all",
    "enlarger.denoise(no_prompt, [7], condition=two)": "in [-1, 1], (b, 3, h, w), got torch.float32 of shape (2, 8, 16",
    "enlarger.denoise(no_prompt, [7], condition=torch.from_numpy(bytes_))": "to_tensor converts bytes (b, H, W, 3)",
    "enlarger.denoise(no_prompt, [7], condition=bytes_)": "must be images in [-1, 1], (b, 3, h, w), got ndarray: ",
    "enlarger.unet(z[:, :3], torch.tensor([5]), no_prompt)": "and 3 of a condition follow them, z_t is (3, 3, 2, 2)",
    "model.decode(two[0])": "write z_0[None]",
    "model.decode(z[:, :4])": "this model's latents have 8 channels, z_0 is (1, 4, 2, 2)",
    "model.decode(next(model.denoise(context, [7], steps=1)))": "write state.z_t",
    # what comes out of it
    "model.denoise(context, [7]).z_t": "write `*_, last = run`, then `last.z_t`",
    "PromptToPrompt(model, CAT, (DOG,), (edit,)).denoise(7).z_t": "write `*_, last = run`, then `last.z_t`",
    # pictures
    "model.encode_images([image])": "write np.stack([np.asarray(image.convert('RGB')) for image in images])",
    "model.encode_images(image)": "write np.asarray(images.convert('RGB'))",
    "model.encode_images(bytes_[0])": "got one image (16, 16, 3): write images[None]",
    "model.encode_images(bytes_ / 255)": "write (255 * images).round().astype(np.uint8)",
    "model.encode_images(bytes_.transpose(0, 3, 1, 2))": "write images.transpose(0, 2, 3, 1)",
    "model.encode_images(torch.from_numpy(bytes_))": "got a tensor: images.numpy() of one of bytes",
    "model.autoencoder.encode(torch.full((1, 3, 16, 16), 200.0))": "got values up to 200: for bytes write",
    "model.autoencoder.encode(torch.zeros(1, 16, 16, 3))": "ldm.helpers.images.to_tensor converts bytes",
    "to_tensor(bytes_ / 255)": "got float64",
    "to_bytes(torch.zeros(1, 16, 16, 3))": "x must be images in [-1, 1], (b, 3, H, W), got torch.float32",
    "psnr(bytes_[0] / 255, bytes_[0] / 255)": "write (255 * image).round().astype(np.uint8)",
    "psnr(bytes_[0], bytes_[0][:8])": "the images must have one size",
    "structure(bytes_, bytes_)": "write image[0]",
    "uncrop(model, [CAT], image, Box(0, 0, 64, 64), 7)": "write np.asarray(image.convert('RGB'))",
    "blended(model, [CAT, DOG], square, 7)": "a mask must be a tensor of bool, got torch.float32",
    "sdedit(model, [CAT], bytes_, 0.5, 7)": "z_0 must be latents, a tensor (b, c, h, w), got ndarray",
    # edits
    'Swap("cat", "dog", 0.3)': "alpha must be an instance of Alpha, got 0.3: write Alpha(0.3)",
    'Preserve("cat", 0.3)': "write Alpha(0.3)",
    "Refine(0.3)": "write Alpha(0.3)",
    'Preserve(["cat"])': "word must be a string, got ('cat',)",
    'Reweight("dog", "2")': "factor must be a number, got '2'",
    'Region("dog")': "words must be a tuple, got 'dog': write ('dog',)",
    'MapHistory(source, "cat")': "write ['cat']",
    "PromptToPrompt(model, CAT, DOG, (edit,))": "targets must be a list of strings, got one string",
    "PromptToPrompt(model, CAT, (DOG,), edit)": "edits must be a tuple of edits, one for each target",
    'PromptToPrompt(model, CAT, (DOG,), ("cat",))': "edits must be a tuple of edits, one for each target",
    "PromptToPrompt(model, CAT, (DOG,), (edit,), 0.6)": "write SelfInjection(0.6)",
    "PromptToPrompt(model, CAT, (DOG,), (edit,), layers=16)": "write Layers(16)",
    "Call(CAT, (DOG,))": "targets must be an instance of Target, got 'a photo of a dog'",
    'align(source, target, {"cat": "dog"})': "such as (('cat', 'dog'),), got {'cat': 'dog'}",
    'align(source, target, ("cat", "dog"))': "such as (('cat', 'dog'),), got ('cat', 'dog')",
    "align(CAT, DOG)": "write model.tokenizer.encode(prompt)",
    # the one line
    "p2p.edit(CAT, DOG, model=model, steps=2.5)": "steps must be a whole number, got 2.5",
    'p2p.edit(CAT, DOG, model=model, sampler="dimm")': "sampler must be 'ddim', 'ddpm', ",
    'p2p.edit(CAT, DOG, model=model, reweight={"dog": "2"})': "factor must be a number, got '2'",
    # heads
    "Attention(30, 8, 4)": "a width of 30 cannot be cut into 4 heads: give a number that divides 30",
    "SelfAttentionBlock(30, 4, 5, 1e-6)": "a width of 30 cannot be cut into 4 heads",
    "SelfAttention(30, 4, False)": "a width of 30 cannot be cut into 4 heads",
}

# numbers of numpy's, lists, and a batch of t are as good as Python's own
TAKEN = {
    'align(source, target, [["cat", "dog"]]) == align(source, target, (("cat", "dog"),))': "True",
    "ScheduleConfig(T=np.int64(10)) == ScheduleConfig(T=10)": "True",
    'Reweight("dog", np.float32(2)) == Reweight("dog", 2.0)': "True",
    'Layers(places=["up"]) == Layers(places=("up",))': "True",
    "json.loads(Call(CAT, (), sampling=Sampling(seed=np.int64(7))).to_json())['sampling']['seed']": "7",
    "torch.equal(S.posterior(z, z, np.int64(5), np.int64(4))[0], S.posterior(z, z, 5, 4)[0])": "True",
    "times(S, np.int64(2))": "[1000, 500, 0]",
    "next(model.denoise(context, np.array([7]), steps=np.int64(1))).t": "0",
    "next(sdedit(model, [CAT], two[:1], np.float64(0.5), 7, steps=2)).t": "250",
    "model.predict(two, torch.tensor([5, 6]), context, 2.0).eps.shape": "torch.Size([2, 8, 16, 16])",
    # the scores are 10^6 / sqrt(2) apart: all of the weight is the first value's
    "element_wise(*(torch.tensor(m) for m in ([[1e3, 0]], [[1e3, 0], [1, 1]], [[1.0], [2]]))).item()": "1.0",
}


@pytest.fixture(scope="module")
def said() -> dict[str, tuple[str, str]]:
    """The kind of error and its text of each call, or no kind and the result's `repr`."""
    calls = [*REFUSED, *TAKEN]
    command = [sys.executable, "-c", SETTING, json.dumps(calls)]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert not ran.returncode, ran.stderr
    return dict(zip(calls, map(tuple, json.loads(ran.stdout))))


@pytest.mark.parametrize("call", REFUSED)
def test_a_mistake_is_told_in_one_sentence_that_names_the_fix(said, call):
    kind, text = said[call]
    assert kind == ("AttributeError" if call.endswith(".z_t") else "ValueError"), text
    assert REFUSED[call] in text
    assert "\n" not in text and len(text) < 300


@pytest.mark.parametrize("call", TAKEN)
def test_numbers_of_other_libraries_and_batches_are_taken(said, call):
    assert said[call] == ("", TAKEN[call])
