"""Prompt-to-Prompt."""

from ldm.helpers.lazy import exports

__version__ = "0.1.0"

__all__, __getattr__, __dir__ = exports(  # torch is imported with the first of them
    __name__,
    {
        "p2p.api": "attention compare edit generate invert replay restore show sweep",
        "p2p.result": "Drawing Maps Result",
        "p2p.experiments.restore": "Restored",
        "p2p.experiments.comparison": "Comparison",
        "p2p.inversion.reconstruction": "Reconstruction",
        "p2p.call": "Blend Call Sampling Target",
        "p2p.edits": "Edit Matrices Preserve Refine Renormalise Reweight Swap used",
        "p2p.alpha": "Alpha Step Window",
        "p2p.mappers": "align aligned_columns mapper",
        "p2p.words": "columns",
        "p2p.algorithm": "PromptToPrompt SelfInjection",
        "p2p.inject": "Layers layout_side",
        "p2p.maps": "MapHistory WordMaps",
        "p2p.local_blend": "LocalBlend Region",
        "p2p.masks": "read_mask",
        "weights.checkpoints": "CHECKPOINTS LICENCES",
        "weights.key_names": "compvis_sources",
        "weights.load": "load load_autoencoder load_clip",
    },
)
