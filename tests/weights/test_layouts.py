"""Files with the names and shapes of the public ones are recognised, and every parameter finds its tensor in them."""

import re

import pytest

from ldm.presets import AUTOENCODERS, PRESETS
from tests.support.compvis_files import SCHEDULE_BUFFERS, compvis_autoencoder
from tests.support.public_files import public_names
from tests.support.public_shapes import FIRST_STAGES, PATH, Shapes, as_file, compvis_file, first_stage, shapes_of
from weights import detect
from weights.build import parts_of
from weights.key_names import is_dropped

# ---------------------------------------------------------------------------------------------------------------------
# files are recognised, and fit


@pytest.fixture
def opens(monkeypatch):
    def opens(tensors: Shapes) -> None:
        monkeypatch.setattr(detect, "open_tensors", lambda path: as_file(tensors))

    return opens


@pytest.mark.parametrize("preset", ["sd15", "ldm-text2im", "ldm-celebahq", "ldm-super-resolution-4x"])
def test_a_compvis_file_is_recognised_by_its_shapes(preset, opens):
    opens(compvis_file(preset))
    opened, config, _ = detect.compvis_file(PATH, None, ema=True)
    assert parts_of(config) == parts_of(PRESETS[preset]) and config.schedule == PRESETS[preset].schedule
    assert not opened.misfit(), str(opened.misfit())
    # counters alone are no averages; and nothing in a file tells 1.4 from 1.5
    names = "sd14 or sd15 (the same model)" if preset == "sd15" else preset
    assert opened.what == f"{names}, a CompVis file"
    opens(compvis_file(preset, averaged=True))
    for ema in (True, False):
        opened, *_ = detect.compvis_file(PATH, None, ema=ema)
        assert not opened.misfit(), str(opened.misfit())
        assert ("averaged weights" in opened.what) is ema
        ((_, _, layout),) = [piece for piece in opened.pieces if piece[0] == "unet"]
        assert all(name.startswith("model_ema." if ema else "model.diffusion_model.") for name, *_ in layout.values())


def test_averages_and_plain_weights_are_not_mixed(opens):
    tensors = compvis_file("ldm-celebahq", averaged=True)
    del tensors["model_ema.diffusion_modelout2bias"]
    opens(tensors)
    opened, *_ = detect.compvis_file(PATH, "ldm-celebahq", ema=True)
    assert opened.misfit() == {"missing": {"unet.conv_out.bias": ""}}
    opened, *_ = detect.compvis_file(PATH, "ldm-celebahq", ema=False)
    assert not opened.misfit()


def test_shapes_do_not_tell_stable_diffusion_2s_models_apart(opens):
    opens(compvis_file("sd21"))
    with pytest.raises(ValueError, match="may be any of several models") as error:
        detect.compvis_file(PATH, None, ema=True)
    named = re.findall(r"([\w-]+)=", str(error.value))
    assert named == ["sd21-base", "sd21", "sd-turbo"]
    for preset in named:
        opened, config, _ = detect.compvis_file(PATH, preset, ema=True)
        assert config == PRESETS[preset] and not opened.misfit()


@pytest.mark.parametrize("name", FIRST_STAGES)
@pytest.mark.parametrize("compvis", [True, False])
def test_a_first_stage_is_recognised_by_its_shapes(name, compvis, opens):
    module = first_stage(name)
    opens(shapes_of(compvis_autoencoder(module) if compvis else public_names(module)))
    opened = detect.autoencoder_file(PATH)
    assert opened.parts == {"autoencoder": AUTOENCODERS[name]} and not opened.misfit()
    assert f"{name}, an autoencoder in a {'CompVis' if compvis else 'diffusers'} file" == opened.what


# names


CLIP = ("cond_stage_model.model.", "conditioner.embedders.0.model.")
DROPPED = [
    *SCHEDULE_BUFFERS,
    *("lvlb_weights", "logvar", "scale_factor", "denoiser.sigmas"),
    *("first_stage_model.loss.perceptual_loss.net.slice1.0.weight", "loss.discriminator.main.0.weight"),
    *("model_ema.decay", "model_ema.diffusion_modelout2bias"),
    *("text_model.embeddings.position_ids", "cond_stage_model.transformer.embeddings.position_ids"),
    "cond_stage_model.transformer.to_logits.weight",
    *(f"{clip}{name}" for clip in CLIP for name in ("text_projection", "logit_scale")),
    *(f"{clip}transformer.resblocks.23.ln_1.weight" for clip in CLIP),
]
KEPT = [
    *("model.diffusion_model.betas", "model.diffusion_model.out.2.bias", "denoiser.weight", "glossary.weight"),
    *("control_model.zero_convs.0.0.weight", "lora_te_text_model_encoder_layers_0_mlp_fc1.alpha"),
    *("text_projection.weight", "embeddings.position_ids_of_another.weight"),
    *(f"{clip}transformer.resblocks.{i}.ln_1.weight" for clip in CLIP for i in (22, 24, 230)),
    "conditioner.embedders.0.model.ln_final.weight",
    "conditioner.embedders.1.model.text_projection",  # SDXL's second prompt model
]


@pytest.mark.parametrize("name, dropped", [*((name, True) for name in DROPPED), *((name, False) for name in KEPT)])
def test_only_what_is_no_part_of_the_model_is_dropped(name, dropped):
    assert is_dropped(name, PRESETS["sd21"].text) is dropped
    if "resblocks" in name:  # without a prompt model no layer of one is unused
        assert not is_dropped(name, None)
