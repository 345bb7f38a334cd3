"""The slides of CMU 10-423/623 Generative AI, Lecture 13 (Oct. 9, 2024), by what they show, in order.

The slides themselves are not part of this project. A subject in quotation marks is their own wording; another describes
the slide, or the run of slides on one subject.
"""

from typing import NamedTuple


class Slide(NamedTuple):
    """A slide's subject, and what shows it here besides the rows of the register: Markdown, or empty."""

    subject: str
    shown: str = ""


TASKS = Slide(
    "Tasks of image generation",
    "text to image: `p2p generate`; style transfer: [`docs/gallery.png`](docs/gallery.png); inpainting and uncropping: "
    "`inpaint` and `uncrop` of [`baselines.py`](p2p/experiments/baselines.py); class-conditional generation: "
    "[`class_embedder.py`](ldm/class_embedder.py), `p2p generate cat --model stickers-classes`; colourisation and "
    "super-resolution: [`restoration.py`](ldm/restoration.py), `p2p restore`",
)
COST = Slide(
    "Why latent diffusion: what diffusion on pixels costs",
    "operations on latents and on pixels: `p2p equations B1`",
)
AUTOENCODER = Slide("The autoencoder")
PROMPT_MODEL = Slide(
    "The prompt model",
    "the shipped model's text encoder, [`text_encoder.py`](ldm/text_encoder.py)",
)
CLIP = Slide(
    "Contrastive pre-training of CLIP (figure)",
    "`contrastive_loss` and `zero_shot` of [`contrastive.py`](ldm/contrastive.py), in numbers: `p2p equations C9`; "
    "trained on the stickers: [`train_clip.py`](weights/training/train_clip.py), "
    "[`docs/lecture.png`](docs/lecture.png)",
)
LATENT = Slide("Diffusion in latent space")
PROPERTIES = Slide("Properties 1, 2 and 3 of the forward and the exact reverse process")
IDEAS = Slide("Ideas 1 and 2 for the learned reverse process")
PARAMETERISATIONS = Slide("Three ways to parameterise the mean")
MEAN = Slide('"How do we define the mean to condition on the prompt representation?"')
LOSS = Slide("The loss of latent diffusion")
TRAINING = Slide('"Algorithm 1: Training"', "`make train-stickers`, [`docs/training.md`](docs/training.md)")
SELF_ATTENTION = Slide("Self-attention, element by element")
CROSS_ATTENTION = Slide("Cross-attention, element by element")
MATRICES = Slide("Cross-attention as matrices")
TRANSLATION = Slide(
    'Translation: "estoy llegando tarde" to "I am running late"',
    "[`translation.py`](ldm/equations/translation.py), [`docs/lecture.png`](docs/lecture.png)",
)
IN_UNET = Slide(
    "Cross-attention inside the UNet", "`p2p attention`, [`docs/editing.md`](docs/editing.md#attention-maps)"
)
LAYER = Slide(
    "The transformer layer inside the UNet (table)",
    "[`table_layer.py`](ldm/equations/table_layer.py), line by line: `p2p equations C6`",
)
BASELINES = Slide("Two baselines for editing", "`p2p edit --compare` draws the fixed seed beside the edit")
TWO_RUNS = Slide(
    "Prompt-to-Prompt in two runs",
    "`record` and `rerun` of [`record.py`](p2p/experiments/record.py), [`docs/editing.md`](docs/editing.md#recordings)",
)
WHY_FIRST = Slide(
    '"Why do we use the original attention weights for a while before swapping?"',
    "`p2p sweep window`, and in the plane [`docs/plane.png`](docs/plane.png)",
)
ALGORITHM = Slide('"Algorithm 1" of Prompt-to-Prompt')
MAPPER = Slide("Prompts of different lengths: the mapper", "[`docs/lecture.png`](docs/lecture.png), `p2p show mapper`")
BLENDING = Slide("Alpha-blending", "[`docs/lecture.png`](docs/lecture.png), `p2p show schedule`")
EDITS = Slide("Kinds of edits", "[`docs/gallery.png`](docs/gallery.png), [`docs/which-edit.md`](docs/which-edit.md)")
FIGURE_5 = Slide("Fig. 5: object preservation", "`p2p sweep word`, `p2p edit --preserve`")
FIGURE_6 = Slide("Fig. 6: attention injected in 0% to 100% of the steps", "`p2p sweep tau`")

SLIDES = (
    *(TASKS, COST, AUTOENCODER, PROMPT_MODEL, CLIP, LATENT, PROPERTIES, IDEAS, PARAMETERISATIONS, MEAN, LOSS, TRAINING),
    *(SELF_ATTENTION, CROSS_ATTENTION, MATRICES, TRANSLATION, IN_UNET, LAYER),
    *(BASELINES, TWO_RUNS, WHY_FIRST, ALGORITHM, MAPPER, BLENDING, EDITS, FIGURE_5, FIGURE_6),
)
