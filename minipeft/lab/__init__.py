"""Instruments: what checks gradients, counts, draws, runs many trainings, and looks into a model.

    from minipeft.lab import draw, sweep, samples

A name is imported when it is first asked for, so that nobody waits for matplotlib before something is drawn.
"""

from importlib import import_module

INSTRUMENTS = {  # where each one is
    "diagram": "draw draw_attention draw_lora draw_methods draw_outer",
    "gradcheck": "nudge off_zero wrong_gradients",
    "ledger": "count_parameters counting products saved_bytes",
    "picture": "Picture canvas",
    "charts": "plot_heat plot_lines plot_seeds",
    "sweeps": "SweepError sweep",
    "results": "Sweep",
    "table": "Table",
    "heads": "attention_map attention_weights prefix_map prefix_share written_by",
    "changes": "changed deltas moved spectrum",
    "examination": "examine",
    "texts": "samples",
    "symbols": "commonest_letter show_writing skills write",
}
HOMES = {name: home for home, names in INSTRUMENTS.items() for name in names.split()}
__all__ = sorted(HOMES)


def __getattr__(name):
    if name not in HOMES:
        raise AttributeError(f"module 'minipeft.lab' has no attribute {name!r}; there are: {', '.join(__all__)}")
    globals()[name] = getattr(import_module(f"{__name__}.{HOMES[name]}"), name)
    return globals()[name]


def __dir__():
    return sorted([*globals(), *__all__])
