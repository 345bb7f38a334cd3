"""Running a command: its options are checked, its model is loaded, and its files are written."""

import json
import re
import sys
from dataclasses import asdict, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from PIL.PngImagePlugin import PngImageFile, PngInfo

from ldm.config import ModelConfig
from ldm.helpers.files import check_writable, save_atomically
from ldm.pipeline import LatentDiffusion
from ldm.presets import PRESETS
from p2p.call import CALL, Call
from p2p.cli import commands, options
from p2p.cli.calls import call_of, mask_of, real_image_of, sampling_of
from p2p.cli.groups import Inversion, Loading, Output, RealImage
from p2p.cli.profile import profiled
from p2p.cli.unknown_words import tokenised
from p2p.equations.explain import explanation, listing
from p2p.experiments.comparison import compared
from p2p.experiments.restore import Given, check_settings, given_by, given_to_enlarge, restored
from p2p.inversion.reconstruction import reconstructed
from p2p.masks import decoding
from p2p.photo import as_pixels, digest, fitted
from weights.checkpoints import fetched
from weights.load import load, load_vocabulary

IMAGE = re.compile(r"\.(png|jpe?g|webp|gif|tiff?|bmp)$", re.IGNORECASE)
LONE = {"a", "an", "the", "of", "on", "in", "at", "with", "and", "to"}  # words that are no prompt by themselves


def read_call(path: Path) -> Call:
    """Read the call in a JSON file, or in the metadata of an image.

    Raises:
        ValueError: the file can't be read, or holds no edit.
    """
    if path.suffix.lower() == ".png":
        with decoding(str(path)), PngImageFile(path) as image:  # of any size: its pixels are not decoded
            text = str(image.info.get("p2p", ""))
        if not text:
            raise ValueError(f"{path} holds no edit to replay: `p2p edit` did not make it, or its metadata is gone")
        if other := re.search(r'"command": "(\w+)"', text):
            raise ValueError(f"{path} was made by `p2p {other[1]}`: only images made by `p2p edit` can be replayed")
    else:
        try:
            text = path.read_bytes()
        except OSError as e:
            raise ValueError(f"could not read {path}: {e}") from e
    try:
        return Call.from_json(text)
    except ValueError as e:
        raise ValueError(f"{path} holds no edit to replay: {e}") from e


def check_files(given: Any) -> None:
    """Raises ValueError or OSError for an output file that can't be written."""
    for f in fields(given):
        path: Path | None = getattr(given, f.name)
        endings = f.metadata.get("writes")
        if not endings or path is None:
            continue
        if path.suffix.lower() not in endings:
            raise ValueError(f"the output must be a {' or '.join(endings)} file, got {str(path)!r}")
        if not path.parent.is_dir():
            raise ValueError(f"the output's folder {str(path.parent)!r} does not exist")
        check_writable(path)
        for read in (f.name for f in fields(given) if f.metadata.get("reads")):
            source = getattr(given, read)
            if isinstance(source, Path) and _same(source, path):
                raise ValueError(f"the output {str(path)!r} would overwrite the {read}: give it another name")


def _same(path: Path, other: Path) -> bool:
    """Whether both are one file, also by names that a file system does not tell apart, such as A.PNG and a.png."""
    return path.resolve() == other.resolve() or (path.exists() and other.exists() and path.samefile(other))


def check_use(given: Any) -> None:
    """Raises ValueError for options that would have no effect, and for prompts without quotes."""
    prompts = [given.source, *given.targets] if hasattr(given, "targets") else []
    if files := [prompt for prompt in prompts if IMAGE.search(prompt)]:
        raise ValueError(f"{files[0]!r} is a file and no prompt: give it by --image, and a prompt that describes it")
    if len(prompts) > 2 and (lone := [prompt for prompt in prompts if prompt.lower() in LONE]):
        raise ValueError(f"{lone[0]!r} is no prompt by itself: put each prompt of several words in quotes")
    if getattr(given, "seeds", None) is not None:
        if given.seeds < 1:
            raise ValueError(f"--seeds must be at least 1, got {given.seeds}")
        if idle := [name for name in ("--gif", "--save-maps") if getattr(given, name[2:].replace("-", "_"), None)]:
            raise ValueError(f"{idle[0]} is for a single seed: leave out --seeds")
        if getattr(given, "image", None) is not None and given.seeds != type(given).seeds:
            raise ValueError("--seeds draws images from several noises, and an image has one: leave it out for --image")
    if isinstance(given, Inversion) and given.image is not None:
        # SDEdit and inpainting, which `compare` draws too, add noise to the image
        seeded = given.invert == "edit-friendly" or isinstance(given, options.Compare)
        if given.seed and not seeded:
            raise ValueError("an image has a noise of its own, so --seed would do nothing: leave it out")
    if isinstance(given, RealImage) and given.image is None:
        for name in (f.name for f in fields(Inversion)):
            if getattr(given, name) != getattr(Inversion, name):
                raise ValueError(f"--{name} is for an image: give --image too")
    if hasattr(given, "compare") and given.scale and not given.compare:
        raise ValueError("--scale applies to the maps that --compare draws: give both")


def save(made: commands.Made, output: Path | None, made_by: str) -> list[Path]:
    """Write the image, with the JSON of the call that made it in its metadata, and the other files; return their
    paths."""
    info = PngInfo()
    info.add_itxt("p2p", made_by)
    fill = lambda part: made.image.save(part, format="PNG", pnginfo=info)
    files = ({output: fill} if output else {}) | made.also
    for path, fill in files.items():
        save_atomically(fill, path)
    return list(files)


def make(given: Any, model: LatentDiffusion | None = None) -> tuple[commands.Product, list[Path]]:
    """Make an image or a figure, with the model given or with the one that the options name.

    Returns:
        The result, and the paths of the files that were written.

    Raises:
        ValueError, OSError: the options do not fit; nothing has been sampled.
        FloatingPointError: the settings lead to numbers that are not finite.
    """
    if given.profile:
        with profiled() as profile:
            made = _made(given, model)
        print(profile, file=sys.stderr)
        return made
    return _made(given, model)


def _made(given: Any, model: LatentDiffusion | None) -> tuple[commands.Product, list[Path]]:
    """As `make`, without a profile."""
    check_files(given)
    check_use(given)
    if own := OWN.get(type(given)):
        made, written = own(given, model)
    else:
        sampling = sampling_of(given)
        model = model or _load(given.model, given, not given.no_ema, given.parameterisation)
        sampling.times(model.schedule)
        made, written = commands.FIGURES[type(given)](model, given), described(given)
    return made.result, save(made, given.output, written)


def image_of(given: RealImage) -> commands.Pixels | None:
    """The real image to edit, if one is given. Raises ValueError for a file that is no image, and for settings by which
    none is inverted."""
    if given.image is None:
        return None
    sampling_of(given).check_invertible()
    return as_pixels(given.image)


def edit(given: options.Edit, model: LatentDiffusion | None) -> tuple[commands.Made, str]:
    """Make an edit; also return the JSON of its call."""
    sampling_of(given)  # refuses wrong settings before a model is loaded
    image = image_of(given)
    model = model or _load(given.model, given, not given.no_ema, given.parameterisation)
    tokens = tokenised(model, [given.source, *given.targets])
    call = call_of(given, model, tokens, image)
    text = call.to_json()
    return commands.edit(call.p2p(model, tokens), call, given, image), text


def replay(given: options.Replay, model: LatentDiffusion | None) -> tuple[commands.Made, str]:
    """Repeat an edit from a file or a call; also return the JSON of its call."""
    saved = not isinstance(given.file, Call)
    call, name = (read_call(given.file), given.file) if saved else (given.file, "the call")
    image = None if given.image is None else as_pixels(given.image)
    if bool(call.image) != (image is not None):
        raise ValueError(
            f"{name} edits an image, which is not saved with it: give --image"
            if call.image
            else f"{name} edits a generated image: leave out --image"
        )
    if call.image and digest(image) != call.image.sha256:
        raise ValueError(f"{name} edits another image than the one given: its pixels have another sha256")
    if given.model is None and call.model not in PRESETS:  # no path is taken from a file
        raise ValueError(f"{name} was made by the model {call.model!r}, which is no known name: give --model")
    if given.model is None and saved:  # a file from elsewhere may name a model that is gigabytes to download
        print(f"{name} asks for the model {call.model}", file=sys.stderr)
    call = replace(
        call,
        model=str(given.model or call.model),
        ema=call.ema and not given.no_ema,
        parameterisation=given.parameterisation or call.parameterisation,
    )
    model = model or _load(given.model or call.model, given, call.ema, call.parameterisation)
    tokens = tokenised(model, [call.source, *(target.prompt for target in call.targets)])
    return commands.edit(call.p2p(model, tokens), call, given, image), call.to_json()


def compare(given: options.Compare, model: LatentDiffusion | None) -> tuple[commands.Made, str]:
    """Make an edit by several methods; also return the JSON of its call."""
    sampling_of(given)
    image = image_of(given)
    model = model or _load(given.model, given, not given.no_ema, given.parameterisation)
    tokens = tokenised(model, [given.source, *given.targets])
    mask = None if given.mask is None else mask_of(given.mask, model)
    everywhere = {f.name: getattr(given, f.name) for f in fields(given) if f.name not in ("mask", "t_0")}
    call = call_of(options.Edit(**everywhere), model, tokens, image)
    result = compared(call.p2p(model, tokens), call, mask, given.t_0, image)
    written = {"command": given.command, "t_0": given.t_0, "call": json.loads(call.to_json())}
    return commands.Made(result, result.image), json.dumps(written, ensure_ascii=False)


def sweep(given: options.Swept, model: LatentDiffusion | None) -> tuple[commands.Made, str]:
    """Make an edit in several ways; also return the JSON of the options."""
    sampling, image = sampling_of(given), image_of(given)
    model = model or _load(given.model, given, not given.no_ema, given.parameterisation)
    sampling.times(model.schedule)
    return commands.FIGURES[type(given)](model, given, image), described(given, image)


def restore(given: options.Restore, model: LatentDiffusion | None) -> tuple[commands.Made, str]:
    """Restore an image; also return the JSON of the options."""
    check_settings(given.task, mask=given.mask, box=given.box, factor=given.factor)
    sampling, image = sampling_of(given), as_pixels(given.image)
    if model is None and (config := PRESETS.get(given.model)):  # by its name, which a Path is not
        _known(given, config, image)  # refuses before gigabytes are loaded
    model = model or _load(given.model, given, not given.no_ema, given.parameterisation)
    known = _known(given, model.config, image)
    context = commands.context_of(model, given.prompt)
    result = restored(model, known, given.prompt, context, sampling, given.visits, given.length)
    return commands.Made(result, result.image), described(given)


def _known(given: options.Restore, config: ModelConfig, image: commands.Pixels) -> Given:
    """What a model of this configuration is given of the image to restore. Raises ValueError for options that do not
    fit it."""
    if not config.unet.condition_channels:
        how = {"mask": given.mask, "box": given.box, "factor": given.factor}
        return given_by(given.task, image, config.image_size, **how)
    for name in ("prompt", "guidance", "visits", "length"):
        if getattr(given, name) != getattr(options.Restore, name):
            raise ValueError(f"--{name} has no effect on {config.name}, which enlarges by the image: leave it out")
    return given_to_enlarge(config, given.task, image, given.factor)


def invert(given: options.Invert, model: LatentDiffusion | None) -> tuple[commands.Made, str]:
    """Invert an image and sample from it again; also return the JSON of the options."""
    sampling, image = sampling_of(given), as_pixels(given.image)
    model = model or _load(given.model, given, not given.no_ema, given.parameterisation)
    image = fitted(image, model.config.image_size, given.fit)
    (tokens,) = tokenised(model, [given.prompt])
    result = reconstructed(model, image, tokens, given.invert, sampling)
    print(result.summary, file=sys.stderr)
    return commands.Made(result, result.image), described(given)


OWN = {
    options.Edit: edit,
    options.Replay: replay,
    options.Compare: compare,
    options.Restore: restore,
    options.Invert: invert,
    **dict.fromkeys(options.SWEEP.values(), sweep),
}


def _load(name: str | Path, given: Loading, ema: bool, parameterisation: str | None) -> LatentDiffusion:
    return load(name, given.device, given.dtype, ema=ema, parameterisation=parameterisation)


def described(given: Any, image: commands.Pixels | None = None) -> str:
    """The options as JSON, without the files to write and to read; a real image is described as in a call."""
    kind = {"command": given.command} | ({"figure": given.figure} if hasattr(given, "figure") else {})
    left_out = [f.name for f in fields(given) if f.metadata.get("writes") or f.metadata.get("reads")]
    left_out += [f.name for f in fields(Output)]
    if isinstance(given, RealImage):
        left_out += [f.name for f in fields(Inversion)]
    found = {f.name: getattr(given, f.name) for f in fields(given) if f.name not in left_out}
    if image is not None:
        found["image"] = real_image_of(given, image)
    plain = lambda value: asdict(value) if is_dataclass(value) else str(value)  # a window, a weight, an image; a path
    return json.dumps(kind | found, default=plain, ensure_ascii=False)


def run(given: Any) -> None:
    """Run a command, and print its output or the paths of its files. Raises as `make`."""
    match given:
        case options.Schema():
            print(json.dumps(CALL.json_schema(), indent=2))
        case options.Equations():
            print(explanation(given.id) if given.id else listing())
        case options.Vocabulary():
            words = load_vocabulary(given.model)
            if words is None:
                raise ValueError(f"{given.model} has no list of the words it was trained on: its prompts are free text")
            print(words)
        case options.Download():
            print(fetched(given.name))
        case _:
            _, files = make(given)
            print(*files, sep="\n")
