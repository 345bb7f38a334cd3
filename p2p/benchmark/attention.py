"""How well the attention of a noun agrees with its thing, whose outline is known."""

from ldm.pipeline import LatentDiffusion
from p2p.benchmark.measures import iou
from p2p.benchmark.methods import Work, last
from p2p.benchmark.scenes import BenchmarkScene
from p2p.inject import watching
from p2p.maps import MapHistory

THRESHOLDS = (0.2, 0.3, 0.4, 0.5, 0.6)  # fractions of a map's maximum; local blend's is 0.3
GUIDANCE = 1.0  # at which the run of an inverted image stays near it


def overlaps(model: LatentDiffusion, scene: BenchmarkScene) -> list[dict]:
    """The IoU of each noun's map with its thing: for every resolution, threshold and thing of the scene's image.

    The maps are means over the steps, heads and layers of a run that follows the inverted image (`direct`).
    """
    work = Work(model, scene, "real image")
    tokens, how = work.tokens[0], work.sampling(GUIDANCE)
    history = MapHistory(tokens, [thing.noun for thing in scene.things])
    options = how.options() | work.inverted("direct", GUIDANCE).options(1)
    run = model.denoise(model.encode_tokens([tokens]), [work.seed], attn_fn=lambda t: watching(history), **options)
    last(history.along(run, how.times(model.schedule)))
    found = []
    for side in sorted({group.side for group in history.groups}, reverse=True):
        maps = history.mean(history.at_side(side))
        for thing, outline in zip(scene.things, scene.outlines):
            for threshold in THRESHOLDS:
                agreement = iou(maps[thing.noun], outline, threshold)
                found.append({"side": side, "noun": thing.noun, "threshold": threshold, "iou": agreement})
    return found
