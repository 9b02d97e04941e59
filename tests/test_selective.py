"""What is particular to selective fine-tuning: which of the base's own parameters are trained, whatever stands around."""

from copy import deepcopy

import numpy as np
import pytest
from parity import base_of, distance, fill, load, under
from specimens import (
    CONFIG,
    activations,
    gradients,
    loss_of,
    off_start_of_added,
    snapshot,
    tiny_base_parameters,
    tiny_model,
)
from there_and_back import there_and_back, translated

from minipeft import (
    GPT2,
    Adapter,
    FullFineTuning,
    GPT2Config,
    LoRA,
    PromptTuning,
    Stack,
    cross_entropy,
    disabled,
    get_peft_model,
    gradcheck,
    load_adapter,
    merge,
    save_adapter,
    unwrap,
)
from minipeft.files import read_npz
from minipeft.methods import BitFit, LastBlocks, LayerNormTuning, VeRA
from minipeft.methods.method import thaw
from minipeft.training import AdamW, fit

L = CONFIG.n_layer
NAMES = [path for path, _ in tiny_model().named_parameters()]
TRAINS = {  # the method, and the paths that it should train
    "biases": (BitFit(), [path for path in NAMES if path.endswith(".bias")]),
    "half of them": (
        BitFit(targets=("*.q_proj", "*.c_fc")),
        [f"h.{i}.{path}.bias" for i in range(L) for path in ("attn.q_proj", "mlp.c_fc")],
    ),
    "norms": (LayerNormTuning(), [path for path in NAMES if "ln_" in path]),
    "some norms": (LayerNormTuning(targets=("*.ln_2", "ln_f")), [p for p in NAMES if "ln_2" in p or "ln_f" in p]),
    "last": (LastBlocks(), [path for path in NAMES if path.startswith("h.1.")]),
    "all blocks": (LastBlocks(k=L), [path for path in NAMES if path.startswith("h.")]),
}
AROUND = {
    "LoRA": LoRA(r=2, targets="*"),
    "adapters": Adapter(m=2),
    "adapters of blocks": Adapter(m=2, targets="h.[0-9]"),
    "a prompt": PromptTuning(m=2),
    "VeRA": VeRA(r=3),
}
every_choice = pytest.mark.parametrize("choice", TRAINS)


def bare(path):
    return path.replace(".base", "")


def trained(model):
    return [path for path, p in model.named_parameters() if p.requires_grad]


def base_bytes(model):
    return {path: p.data.tobytes() for path, p in tiny_base_parameters(model)}


# What is trained


@every_choice
def test_it_trains_these_and_no_others(choice, model):
    method, expected = TRAINS[choice]
    assert trained(get_peft_model(model, method)) == expected
    assert [one.path for one in model.peft[0].kept] == expected


@every_choice
@pytest.mark.parametrize("others", AROUND)
def test_it_trains_these_whatever_stands_around_them(choice, others, model):
    """And what another method has frozen stays frozen."""
    method, expected = TRAINS[choice]
    get_peft_model(model, AROUND[others])
    own = trained(model)
    get_peft_model(model, method)
    assert sorted(bare(path) for path in trained(model)) == sorted(expected)
    assert not set(own) & set(trained(model))


def test_full_fine_tuning_too_trains_the_base_and_nothing_else(model):
    get_peft_model(model, LoRA(r=2, train="B"))
    get_peft_model(model, FullFineTuning())
    assert sorted(bare(path) for path in trained(model)) == sorted(NAMES)
    model = get_peft_model(unwrap(model), Stack((LoRA(r=2, train="B"), FullFineTuning())))
    assert sorted(bare(path) for path in trained(model) if path[-2:] != ".B") == sorted(NAMES)


def test_lastk_is_the_last_of_many():
    model = get_peft_model(GPT2(GPT2Config(5, 4, 4, 12, 1)), LastBlocks(k=3))
    assert {path.split(".")[1] for path in trained(model)} == {"9", "10", "11"}
    model = get_peft_model(unwrap(model), LastBlocks(k=12))
    assert {path.split(".")[1] for path in trained(model)} == {str(i) for i in range(12)}


@pytest.mark.parametrize(
    ("method", "match"),
    [
        (BitFit(targets="*.nothing"), r"'\*.nothing' matches nothing that can be trained.* h.0.ln_1, h.0.attn.q_proj"),
        (BitFit(targets="wte"), "'wte' matches nothing"),
        (BitFit(targets=3), "glob"),
        (BitFit(targets=()), "glob"),
        (
            LayerNormTuning(targets="*.q_proj"),
            r"'\*.q_proj' matches nothing that can be trained.* there is: h.0.ln_1, h",
        ),
        (LayerNormTuning(targets=("ln_f", "ln_3")), "'ln_3' matches nothing"),
        (LastBlocks(k=0), r"k, the number of blocks.* 1 ... n_layer = 2"),
        (LastBlocks(k=3), "not 3"),
        (LastBlocks(k=1.0), "not 1.0"),
        (LastBlocks(k=True), "not True"),
    ],
    ids=str,
)
def test_settings_that_cannot_be_leave_the_model_as_it_was(method, match, model):
    before = snapshot(model)
    with pytest.raises(ValueError, match=match) as error:
        get_peft_model(model, method)
    assert snapshot(model) == before
    listed = str(error.value).partition("there is: ")[2].split(", ")
    assert len(listed) == len(set(listed))


def test_thaw_can_be_called_by_hand(model):
    thaw(get_peft_model(model, LoRA(r=2)), "h.0.attn.[qv]_proj", "weight")
    assert [path for path in trained(model) if "base" in path] == [f"h.0.attn.{one}_proj.base.weight" for one in "qv"]


# What that costs


def test_bitfit_keeps_no_input_of_a_linear_and_lastk_nothing_below(batch, ids):
    def kept(method):
        return sum(array.nbytes for array in activations(get_peft_model(tiny_model(), method)(ids)[1]))

    full = kept(FullFineTuning())
    assert kept(BitFit()) < 0.8 * full
    assert kept(LastBlocks()) < 0.6 * full
    assert kept(LastBlocks(k=2)) < full


def test_of_the_biases_only_those_of_the_keys_learn_nothing(batch):
    model = get_peft_model(tiny_model(), BitFit())
    loss_of(model, batch)()[1]()
    without = {path for path, grad in gradients(model).items() if abs(grad).max() < 1e-12}
    assert without == {f"h.{i}.attn.k_proj.bias" for i in range(L)}


# With other methods around


STACKS = {
    f"{others} and {choice}": Stack((AROUND[others], TRAINS[choice][0]))
    for others in AROUND
    for choice in ("biases", "norms", "last")
} | {
    "first, then LoRA": Stack((BitFit(), LoRA(r=2))),
    "all three": Stack((BitFit(), LayerNormTuning(), LastBlocks())),
    "LoRA between": Stack((LayerNormTuning(), LoRA(r=2, targets="*"), BitFit())),
}
every_stack = pytest.mark.parametrize("name", STACKS)


@every_stack
def test_gradients(name, batch):
    errors = gradcheck(off_start_of_added(get_peft_model(tiny_model(), STACKS[name])), batch, np.random.default_rng(1))
    assert {path: error for path, error in errors.items() if error > (1e-4 if "k_proj" in path else 1e-6)} == {}


@every_stack
def test_disabled_and_unwrap_show_the_base(name, ids):
    model, plain = off_start_of_added(get_peft_model(tiny_model(), STACKS[name])), tiny_model()
    logits, before = model(ids)[0], snapshot(model)
    with disabled(model):
        assert np.array_equal(model(ids)[0], plain(ids)[0])
        assert base_bytes(model) == base_bytes(plain)
    assert snapshot(model) == before
    assert np.array_equal(model(ids)[0], logits)
    assert base_bytes(unwrap(model)) == base_bytes(plain)
    assert trained(model) == []


@every_stack
def test_a_file_holds_what_is_trained_and_nothing_else(name, ids, tmp_path):
    model = off_start_of_added(get_peft_model(tiny_model(), STACKS[name]))
    save_adapter(model, tmp_path / "a.npz")
    assert sorted(read_npz(tmp_path / "a.npz", "adapter")[1]) == sorted(trained(model))
    loaded = load_adapter(tiny_model(), tmp_path / "a.npz")
    assert np.array_equal(loaded(ids)[0], model(ids)[0])
    assert base_bytes(unwrap(loaded)) == base_bytes(tiny_model())


@every_stack
def test_merged_where_all_can_be(name, ids):
    model = off_start_of_added(get_peft_model(tiny_model(), STACKS[name]))
    logits, before = model(ids)[0], snapshot(model)
    if not STACKS[name].merges:
        with pytest.raises(ValueError, match="cannot be merged"):
            merge(model)
        assert snapshot(model) == before
        return
    assert abs(merge(model)(ids)[0] - logits).max() < 1e-12
    with disabled(model):
        assert np.array_equal(model(ids)[0], tiny_model()(ids)[0])
    assert abs(model(ids)[0] - logits).max() < 1e-12
    assert base_bytes(unwrap(model)) == base_bytes(tiny_model())


def test_a_second_method_on_a_tuned_base(batch, tmp_path):
    """BitFit, trained; then LoRA on it, alone: both are in the file, and both come off."""
    model = get_peft_model(tiny_model(), BitFit())
    fit(model, [batch], 3, AdamW(model, lr=0.05), progress=False)
    off_start_of_added(get_peft_model(model, LoRA(r=2)))
    assert {path[-2:] for path in trained(model)} == {".A", ".B"}
    save_adapter(model, tmp_path / "a.npz")
    assert np.array_equal(load_adapter(tiny_model(), tmp_path / "a.npz")(batch[0])[0], model(batch[0])[0])
    assert base_bytes(unwrap(model)) == base_bytes(tiny_model())


@every_choice
def test_training_moves_only_what_it_should(choice, batch):
    method, expected = TRAINS[choice]
    model = get_peft_model(tiny_model(), method)
    fit(model, [batch], 3, AdamW(model, lr=0.01), progress=False, workers=2)
    before = dict(tiny_model().named_parameters())
    moved = [path for path, p in model.named_parameters() if not np.array_equal(p.data, before[path].data)]
    assert moved == expected


# As torch and peft have it


@every_choice
def test_gradients_are_those_that_torch_has_for_these(choice):
    """torch_arrays.npz has the gradient of every parameter of a GPT-2: each choice has its own out of them."""
    arrays = load("torch_arrays.npz")
    model = get_peft_model(base_of(arrays), TRAINS[choice][0])
    logits, back_model = model(arrays["ids"])
    back_model(cross_entropy(logits, arrays["targets"], arrays["mask"])[1]())
    theirs = under("grad/", arrays)
    for path, grad in gradients(model).items():
        assert abs(grad - theirs[path]).max() < 1e-10 * max(1, abs(theirs[path]).max()), path
    assert trained(model) == TRAINS[choice][1]


@pytest.fixture
def runs():
    """peft_runs, where peft is installed."""
    for name in ("torch", "transformers", "peft"):
        pytest.importorskip(name, reason="needs torch, transformers and peft: pip install minipeft[hf-test]")
    import make_vera_arrays  # noqa: F401  it knows where the tools are
    import peft_runs

    return peft_runs


def norms_in_peft(runs, seed):
    """(run, arrays) of LN tuning."""
    import peft

    run = runs.Run(peft.LNTuningConfig(task_type="CAUSAL_LM"), seed)

    def translate(kind):
        norms = [(path, layer.ln_tuning_layers["default"]) for path, layer in run.layers("ln_tuning_layers")]
        return {f"{path}.{name}": getattr(p, kind) for path, norm in norms for name, p in norm.named_parameters()}

    return run, run.arrays(translate)


def biases_in_peft(runs, seed):
    """(run, arrays) of a LoRA that trains all biases and has B = 0."""
    import peft
    import torch

    run = runs.Run(peft.LoraConfig(r=1, target_modules=["attn.c_attn"], bias="all", fan_in_fan_out=True), seed)
    with torch.no_grad():
        for _, layer in run.layers("lora_B"):
            layer.lora_B["default"].weight.zero_()

    def translate(kind):
        found = {}
        for name, p in run.model.base_model.model.named_parameters():
            if name.endswith(".bias"):
                path, b = runs.ours(name).replace(".base_layer", ""), getattr(p, kind)
                parts = zip("qkv", b.chunk(3), strict=True) if "c_attn" in path else [("", b)]
                found |= {path.replace("c_attn", f"{letter}_proj"): part for letter, part in parts}
        return found

    return run, run.arrays(translate)


IN_PEFT = {"norms": norms_in_peft, "biases": biases_in_peft}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("choice", IN_PEFT)
def test_logits_and_gradients_are_pefts(runs, choice):
    method, expected = TRAINS[choice]
    _, arrays = IN_PEFT[choice](runs, seed=3)
    model = get_peft_model(base_of(arrays), method)
    fill(model, under("own/", arrays))
    logits, back_model = model(arrays["ids"])
    loss, back_loss = cross_entropy(logits, arrays["targets"], arrays["mask"])
    back_model(back_loss())
    assert distance(logits, arrays["logits"]) < 1e-12
    assert distance(loss, arrays["loss"]) < 1e-12
    theirs = under("grad/", arrays)
    assert theirs.keys() == set(expected)
    for path, grad in gradients(model).items():
        assert abs(grad - theirs[path]).max() < 1e-12 * max(1, abs(theirs[path]).max()), path


IN_FILES = [
    BitFit(),
    BitFit(targets=("*.q_proj", "*.c_fc")),
    BitFit(targets=("ln_f", "h.1.attn.k_proj")),
    LayerNormTuning(),
    LayerNormTuning(targets=("*.ln_2", "h.0.ln_1", "ln_f")),
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("method", IN_FILES, ids=str)
def test_there_and_back(method, tmp_path):
    back = there_and_back(method, tmp_path)
    assert trained(get_peft_model(tiny_model(), back)) == trained(get_peft_model(tiny_model(), method))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("choice", IN_PEFT)
def test_what_peft_saved_is_the_same_function_here(runs, choice, tmp_path):
    interop = translated()
    run, arrays = IN_PEFT[choice](runs, seed=6)
    run.model.save_pretrained(tmp_path / "theirs")
    model = interop.import_peft(base_of(run.saved), tmp_path / "theirs")
    assert trained(model) == TRAINS[choice][1]
    assert distance(model(arrays["ids"])[0], arrays["logits"]) < 1e-12


@pytest.mark.filterwarnings("ignore")
def test_biases_stay_bitfit_when_peft_trains_them(runs, tmp_path):
    import peft

    run = biases_in_peft(runs, seed=5)[0]
    translated().export_peft(off_start_of_added(get_peft_model(base_of(run.saved), BitFit())), tmp_path)
    there = peft.PeftModel.from_pretrained(run.model.unload(), tmp_path, is_trainable=True).double()
    there(run.ids, labels=run.ids).loss.backward()
    named = [(name, p.grad) for name, p in there.named_parameters() if p.requires_grad]
    assert {name.split(".")[-1] for name, grad in named if grad is not None and grad.any()} == {"bias"}


@pytest.mark.filterwarnings("ignore")
def test_biases_beside_a_lora_that_does_something_are_refused(runs, tmp_path):
    import torch

    run = biases_in_peft(runs, seed=5)[0]
    with torch.no_grad():
        for _, layer in run.layers("lora_B"):
            layer.lora_B["default"].weight += 1
    run.model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"bias is 'all' beside a LoRA on h.0.attn.c_attn that is not zero"):
        translated().import_peft(model := base_of(run.saved), tmp_path)
    assert trained(model) == NAMES  # as it was: base_of freezes nothing


@pytest.mark.filterwarnings("ignore")
def test_biases_beside_a_lora_on_other_matrices(runs, tmp_path):
    """What has a LoRA has its bias under another name there."""
    import peft

    run = runs.Run(peft.LoraConfig(r=2, target_modules=["mlp.c_proj", "c_fc"], bias="all", fan_in_fan_out=True), 3)
    for name, p in run.model.named_parameters():
        p.data *= "lora_B" not in name
    run.model.save_pretrained(tmp_path)
    model = translated().import_peft(base_of(run.saved), tmp_path)
    assert distance(model(run.ids.numpy())[0], run.forward()[0].detach().numpy()) < 1e-12


def test_the_last_blocks_are_no_adapter(tmp_path):
    model = off_start_of_added(get_peft_model(tiny_model(), LastBlocks()))
    with pytest.raises(ValueError, match=r"no counterpart for LastBlocks, which changed the base itself.* save_gpt2"):
        translated().export_peft(model, tmp_path)


def test_a_deep_copy_trains_its_own_base(batch):
    model = get_peft_model(tiny_model(), Stack((LoRA(r=2), BitFit())))
    twin = deepcopy(model)
    fit(twin, [batch], 2, AdamW(twin, lr=0.05), progress=False)
    assert base_bytes(model) == base_bytes(tiny_model())
    assert base_bytes(unwrap(twin)) == base_bytes(tiny_model())
