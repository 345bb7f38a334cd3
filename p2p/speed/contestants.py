"""The contestants: each makes one result, in a process of its own.

Those of one `case` compute the same, and are compared with the first of them before any is timed.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from ldm.pipeline import LatentDiffusion
from ldm.schedule import Schedule, guided
from p2p.algorithm import PromptToPrompt, SelfInjection
from p2p.alpha import Alpha, Time, Window
from p2p.call import Call
from p2p.cli.gallery import HOUSE, houses
from p2p.edits import Swap
from p2p.experiments.record import record, rerun
from p2p.speed.models import Inputs, Layout, Setting, inputs, ours, theirs, without_weights
from p2p.speed.stored_maps import StoredMaps
from weights.load import load

Run = Callable[[], Tensor]

T, GUIDANCE = 500, 4.0  # any step t in the middle of the schedule: what it costs depends on the edit alone
CASES: dict[str, Time | Window] = {  # when the source's attention is used
    "outside": "never",
    "inside": 0.2,
    "soft": Window(end=0.2, level=0.5),  # half of the source's and half of its own
}


class Contestant(NamedTuple):
    case: str
    make: Callable[[Setting], Run]


def edit_of(model: LatentDiffusion, case: str, targets: int = 1) -> PromptToPrompt:
    """A swap of a token for two, so that P is not the identity; self-attention is injected too."""
    when = CASES[case]
    target, swap = "a photo of a bicycle on the grass", Swap("cat", "bicycle", Alpha(when))
    return PromptToPrompt(
        model, "a photo of a cat on the grass", (target,) * targets, (swap,) * targets, SelfInjection(when)
    )


def our_step(setting: Setting, case: str, explicit: bool = False) -> Run:
    """One step of an edit by our engines: the guided prediction for source and target."""
    return step_of(ours(setting), setting, case, explicit)


def step_of(model: LatentDiffusion, setting: Setting, case: str, explicit: bool = False) -> Run:
    """The same by this model."""
    edit, (z_t, context, empty) = edit_of(model, case), inputs(setting)
    watch = (lambda site, A: None) if explicit else None
    return lambda: model.predict(z_t, T, context, GUIDANCE, edit.attn_fn(T, watch), empty).eps


def compiled_step(setting: Setting) -> Run:
    """The same with a UNet that PyTorch has compiled, as docs/editing.md does it."""
    model = ours(setting)
    model.unet.compile(dynamic=False, options={"freezing": True})
    step = step_of(model, setting, "inside")
    step()  # compiles, which is part of loading
    return step


def finished(both: Tensor, given: Inputs, schedule: Schedule) -> Tensor:
    """The guided prediction of a network's output, as `LatentDiffusion.predict` makes it."""
    output = guided(*both.to(given.z_t.dtype).chunk(2), GUIDANCE)
    return schedule.predict(given.z_t, output, T).eps


def doubled(given: Inputs) -> tuple[Tensor, Tensor]:
    """The latents and the contexts of both halves of the batch, without and with the prompts."""
    empty = given.empty.expand(len(given.z_t), -1, -1)
    return torch.cat([given.z_t, given.z_t]).to(given.context.dtype), torch.cat([empty, given.context])


def diffusers_step(setting: Setting, layout: Layout, stored: bool = False) -> Run:
    """One step of diffusers' UNet: plain generation of two images, or an edit with `StoredMaps`."""
    unet, given, schedule = theirs(setting, layout), inputs(setting), Schedule(setting.config.schedule)
    (x, context), timestep = doubled(given), torch.tensor(T - 1, device=setting.device)
    maps = StoredMaps(edit_of(without_weights(setting), "inside").injection(T)) if stored else None
    if maps:
        unet.set_attn_processor(maps)

    @torch.no_grad()
    def run() -> Tensor:
        both = unet(x, timestep, context).sample
        if maps:
            maps.between_steps()
        return finished(both, given, schedule)

    return run


def graph_step(setting: Setting) -> Run:
    """One step of the included model's graph in onnxruntime: the graph of the page that edits in the browser."""
    import onnxruntime

    from p2p.live.graphs import graphs

    model = ours(setting)
    exported = graphs(model)["unet"]().SerializeToString()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(exported, options)
    needed = onnxruntime.RunOptions()  # alone: not the average of the maps, which the graph returns too
    needed.only_execute_path_to_fetches = True
    given, injection = inputs(setting), edit_of(model, "inside").injection(T)
    (x, context), ((P, Q, _),) = doubled(given), injection.matrices
    share = torch.tensor(injection.self_shares)
    feeds = {"z": x, "t": torch.tensor([T]), "context": context, "P": P.float(), "Q": Q.float(), "self_share": share}
    arrays = {name: tensor.numpy() for name, tensor in feeds.items()}
    return lambda: finished(torch.from_numpy(session.run(["v"], arrays, needed)[0]), given, model.schedule)


def ten_edits(setting: Setting) -> tuple[LatentDiffusion, Call]:
    """The edits of docs/targets.png."""
    model = load(setting.model, setting.device)
    call = houses(model)
    return model, replace(call, sampling=replace(call.sampling, steps=setting.steps))


def separately(setting: Setting) -> Run:
    """Ten calls, each with the source and one target."""
    model, call = ten_edits(setting)

    def run() -> Tensor:
        edits = [replace(call, targets=(target,)) for target in call.targets]
        return torch.cat([list(edit.start(model))[-1].z_t[1:] for edit in edits])

    return run


def together(setting: Setting) -> Run:
    """One call with the source and ten targets."""
    model, call = ten_edits(setting)
    return lambda: list(call.start(model))[-1].z_t[1:]


def recorded(setting: Setting) -> Run:
    """The source once, recorded, then ten targets on the recording."""
    model, call = ten_edits(setting)
    return lambda: list(rerun(call.p2p(model), record(model, HOUSE, call.sampling)))[-1].z_t[1:]


STEP = {
    "diffusers": Contestant("outside", partial(diffusers_step, layout="contiguous")),
    "diffusers, channels-last": Contestant("outside", partial(diffusers_step, layout="channels-last")),
    "ours, outside": Contestant("outside", partial(our_step, case="outside")),
    "ours, explicit, outside": Contestant("outside", partial(our_step, case="outside", explicit=True)),
    "reference layout": Contestant("inside", partial(diffusers_step, layout="channels-last", stored=True)),
    "ours": Contestant("inside", partial(our_step, case="inside")),
    "ours, explicit": Contestant("inside", partial(our_step, case="inside", explicit=True)),
    "ours, soft alpha": Contestant("soft", partial(our_step, case="soft")),
    "ours, explicit, soft alpha": Contestant("soft", partial(our_step, case="soft", explicit=True)),
}
GRAPH = {"onnxruntime": Contestant("inside", graph_step)}
COMPILED = {"ours, compiled": Contestant("inside", compiled_step)}
SHIPPED_STEP = GRAPH | {name: STEP[name] for name in ("reference layout", "ours", "ours, explicit")} | COMPILED
TEN = {
    "separately": Contestant("ten", separately),
    "together": Contestant("ten", together),
    "recorded": Contestant("ten", recorded),
}
