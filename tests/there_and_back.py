"""A method in the folders of Hugging Face peft, where interop asks the methods themselves what they are there."""

import numpy as np
import pytest
from parity import distance

from minipeft import get_peft_model


def translated():
    """minipeft.interop, where it takes the methods' own word for what they are in peft."""
    for name in ("torch", "transformers", "peft", "safetensors"):
        pytest.importorskip(name, reason="needs torch, transformers and peft: pip install minipeft[hf-test]")
    import minipeft.interop

    return minipeft.interop


def there_and_back(method, tmp_path):
    """A method off its start has the same logits in peft, comes back as it was, and is written again as it was."""
    interop = translated()
    import peft
    from test_interop_gpt2 import some_ids, torch_gpt2, torch_logits

    torch_gpt2().double().save_pretrained(tmp_path / "base")
    model, rng = get_peft_model(interop.load_gpt2(tmp_path / "base", "float64"), method), np.random.default_rng(6)
    trained = [p for _, p in model.named_parameters() if p.requires_grad]
    for p in trained:
        p.data += rng.normal(0, 0.2, p.data.shape)
    ids = some_ids()
    logits = model.eval()(ids)[0]
    interop.export_peft(model, tmp_path / "adapter")
    theirs = peft.PeftModel.from_pretrained(torch_gpt2().double(), tmp_path / "adapter").double().eval()
    peft.set_peft_model_state_dict(theirs, peft.load_peft_weights(str(tmp_path / "adapter")))
    assert distance(logits, torch_logits(theirs, ids)) < 1e-10
    back = interop.import_peft(interop.load_gpt2(tmp_path / "base", "float64"), tmp_path / "adapter")
    assert distance(back.eval()(ids)[0], logits) < 1e-12
    interop.export_peft(back, tmp_path / "again")
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        assert (tmp_path / "again" / file).read_bytes() == (tmp_path / "adapter" / file).read_bytes()
    assert [p.data.shape for _, p in back.named_parameters() if p.requires_grad] == [p.data.shape for p in trained]
    return back.peft[0].method
