"""The JSON files of public repositories, with small vocabularies."""

from functools import cache

from parity.test_tokenizer import BOS, EOS, public_clip

# ---------------------------------------------------------------------------------------------------------------------
# vocabularies


@cache
def small_clip() -> tuple[dict[str, int], list[str]]:
    """The beginning of CLIP's vocabulary: bytes, bytes that end a word, the first merges; then the special tokens."""
    vocab, merges = public_clip()
    entries = [*list(vocab)[: 512 + 300], BOS, EOS]
    return {entry: i for i, entry in enumerate(entries)}, merges[:300]


LETTERS = "abcdefghijklmnopqrstuvwxyz"
WORDPIECES = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS, *(f"##{c}" for c in LETTERS)]
WORDPIECES += ["photo", "of", "cat", "on", "##ing", "paint"]


# ---------------------------------------------------------------------------------------------------------------------
# what the JSON files say

MODEL, UNET, VAE, VQ = "model_index.json", "unet/config.json", "vae/config.json", "vqvae/config.json"
TEXT, BERT, SCHEDULER = "text_encoder/config.json", "bert/config.json", "scheduler/scheduler_config.json"


def unet_json(down: list[str], up: list[str], channels: list[int], **more) -> dict:
    """Stable Diffusion 1's, as far as all have it."""
    return {
        "_class_name": "UNet2DConditionModel",
        "_diffusers_version": "0.12.0.dev0",
        "act_fn": "silu",
        "attention_head_dim": 8,
        "block_out_channels": channels,
        "center_input_sample": False,
        "down_block_types": down,
        "downsample_padding": 1,
        "flip_sin_to_cos": True,
        "freq_shift": 0,
        "in_channels": 4,
        "layers_per_block": 2,
        "mid_block_scale_factor": 1,
        "norm_eps": 1e-05,
        "norm_num_groups": 32,
        "out_channels": 4,
        "sample_size": 8,
        "up_block_types": up,
        **more,
    }


WITH, WITHOUT = ("CrossAttnDownBlock2D", "CrossAttnUpBlock2D"), ("DownBlock2D", "UpBlock2D")


def autoencoder_json(channels: list[int], **more) -> dict:
    """As in most repositories, without a scaling factor."""
    return {
        "_class_name": "AutoencoderKL",
        "_diffusers_version": "0.2.2",
        "act_fn": "silu",
        "block_out_channels": channels,
        "down_block_types": ["DownEncoderBlock2D"] * len(channels),
        "in_channels": 3,
        "latent_channels": 4,
        "layers_per_block": 2,
        "out_channels": 3,
        "sample_size": 512,
        "up_block_types": ["UpDecoderBlock2D"] * len(channels),
        **more,
    }


def text_json(**more) -> dict:
    """With ids of special tokens that are not the vocabulary's, and kept so for their use in old code."""
    return {
        "architectures": ["CLIPTextModel"],
        "attention_dropout": 0.0,
        "bos_token_id": 0,
        "eos_token_id": 2,
        "pad_token_id": 1,
        "hidden_act": "quick_gelu",
        "hidden_size": 32,
        "intermediate_size": 48,
        "max_position_embeddings": 77,
        "model_type": "clip_text_model",
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "vocab_size": len(small_clip()[0]),
        **more,
    }


def bert_json(**more) -> dict:
    """The latent diffusion paper's prompt model."""
    return {
        "activation_function": "gelu",
        "architectures": ["LDMBertModel"],
        "d_model": 1280,
        "dropout": 0.1,
        "encoder_attention_heads": 2,
        "encoder_ffn_dim": 48,
        "encoder_layers": 2,
        "head_dim": 16,
        "max_position_embeddings": 77,
        "model_type": "ldmbert",
        "vocab_size": len(WORDPIECES),
        **more,
    }


PNDM = {
    "_class_name": "PNDMScheduler",
    "_diffusers_version": "0.6.0",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "trained_betas": None,
    "clip_sample": False,
}
DDIM_V = PNDM | {"_class_name": "DDIMScheduler", "prediction_type": "v_prediction"}
FIRST_DDIM = {  # of diffusers' first release
    "_class_name": "DDIMScheduler",
    "_diffusers_version": "0.0.4",
    "beta_end": 0.012,
    "beta_schedule": "linear",
    "beta_start": 0.00085,
    "clip_sample": False,
    "num_train_timesteps": 1000,
    "timestep_values": None,
    "trained_betas": None,
}
SUPER_RESOLUTION_DDIM = {
    "_class_name": "DDIMScheduler",
    "_diffusers_version": "0.8.0.dev0",
    "beta_end": 0.0155,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.0015,
    "clip_sample": False,
    "num_train_timesteps": 1000,
    "set_alpha_to_one": True,
    "steps_offset": 0,
    "trained_betas": None,
}
SD_INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "_diffusers_version": "0.6.0",
    "feature_extractor": ["transformers", "CLIPImageProcessor"],
    "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
    "scheduler": ["diffusers", "PNDMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}
NO_CHECKER = {"safety_checker": [None, None], "requires_safety_checker": False, "feature_extractor": [None, None]}
