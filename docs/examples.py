"""An example of every public name, for the reference; tests/test_site.py runs them all."""

EXAMPLES = {
    "AdamW": """
>>> from minipeft import AdamW, LoRA, get_peft_model, load_base
>>> optimizer = AdamW(get_peft_model(load_base("symbols"), LoRA(r=2)), lr=1e-3)
>>> len(optimizer.parameters())
8
>>> optimizer.nbytes() == 2 * sum(p.data.nbytes for p in optimizer.parameters())
True
""",
    "Adapter": """
>>> from minipeft import Adapter, get_peft_model, load_base
>>> model = get_peft_model(load_base("symbols"), Adapter(m=4))
>>> sum(p.data.size for _, p in model.named_parameters() if p.requires_grad)
2320
""",
    "After": """
>>> import numpy as np
>>> from minipeft import After, Linear
>>> class Doubled(After):  # y = u + path(u)
...     def path(self, u):
...         return u, lambda dy: dy
>>> y, backward = Doubled(Linear.from_arrays(np.eye(2)))(np.array([[1.0, 2.0]]))
>>> y
array([[2., 4.]])
>>> backward(np.ones((1, 2)))
array([[2., 2.]])
""",
    "Beside": """
>>> import numpy as np
>>> from minipeft import Beside, Linear
>>> class Skip(Beside):  # y = base(x) + x
...     def path(self, x):
...         return x, lambda dy: dy
>>> y, backward = Skip(Linear.from_arrays(np.eye(2)))(np.array([[1.0, 2.0]]))
>>> y
array([[2., 4.]])
""",
    "BitFit": """
>>> from minipeft import BitFit, get_peft_model, load_base
>>> model = get_peft_model(load_base("symbols"), BitFit())
>>> sum(p.data.size for _, p in model.named_parameters() if p.requires_grad)
1472
""",
    "DoRA": """
>>> from minipeft import DoRA, get_peft_model, load_base
>>> model = get_peft_model(load_base("symbols"), DoRA(r=2))
>>> sum(p.data.size for _, p in model.named_parameters() if p.requires_grad)
1280
""",
    "FullFineTuning": """
>>> from minipeft import FullFineTuning, get_peft_model, load_base
>>> model = get_peft_model(load_base("symbols"), FullFineTuning())
>>> sum(p.data.size for _, p in model.named_parameters() if p.requires_grad)
104512
""",
    "GPT2": """
>>> import numpy as np
>>> from minipeft import GPT2, GPT2Config
>>> model = GPT2(GPT2Config(vocab_size=10, n_positions=8, n_embd=4, n_layer=1, n_head=2), seed=0)
>>> logits, backward = model(np.array([[1, 2, 3]]))
>>> logits.shape
(1, 3, 10)
""",
    "GPT2Config": """
>>> from minipeft import GPT2Config
>>> GPT2Config(vocab_size=10, n_positions=8, n_embd=4, n_layer=1, n_head=2)
GPT2Config(vocab_size=10, n_positions=8, n_embd=4, n_layer=1, n_head=2, dtype='float64')
""",
    "IA3": """
>>> from minipeft import IA3, get_peft_model, load_base
>>> model = get_peft_model(load_base("symbols"), IA3())
>>> sum(p.data.size for _, p in model.named_parameters() if p.requires_grad)
768
""",
    "LastBlocks": """
>>> from minipeft import LastBlocks, get_peft_model, load_base
>>> model = get_peft_model(load_base("symbols"), LastBlocks(k=1))
>>> sum(p.data.size for _, p in model.named_parameters() if p.requires_grad)
49984
""",
    "LayerNormTuning": """
>>> from minipeft import LayerNormTuning, get_peft_model, load_base
>>> model = get_peft_model(load_base("symbols"), LayerNormTuning())
>>> sum(p.data.size for _, p in model.named_parameters() if p.requires_grad)
640
""",
    "Linear": """
>>> import numpy as np
>>> from minipeft import Linear
>>> layer = Linear.from_arrays(np.array([[1.0, 2.0], [0.0, 1.0]]))
>>> y, backward = layer(np.array([[3.0, 1.0]]))
>>> y
array([[3., 7.]])
>>> backward(np.array([[1.0, 0.0]]))  # dx = dy Wᵀ
array([[1., 0.]])
>>> layer.weight.grad  # dW = xᵀ dy
array([[3., 0.],
       [1., 0.]])
""",
    "LoRA": """
>>> from minipeft import LoRA, get_peft_model, load_base
>>> model = get_peft_model(load_base("symbols"), LoRA(r=2, alpha=4, targets="*.q_proj"))
>>> sum(p.data.size for _, p in model.named_parameters() if p.requires_grad)
512
""",
    "LoRAPlus": """
>>> from minipeft import LoRAPlus, get_peft_model, load_base
>>> model = get_peft_model(load_base("symbols"), LoRAPlus(r=2))
>>> sum(p.data.size for _, p in model.named_parameters() if p.requires_grad)
1024
""",
    "METHODS": """
>>> from minipeft import METHODS
>>> METHODS["lora"](r=4).alpha
16
""",
    "Method": """
>>> from minipeft import METHODS, Method
>>> all(issubclass(method, Method) for method in METHODS.values())
True
""",
    "Module": """
>>> from minipeft import Module, load_base
>>> model = load_base("symbols").requires_grad_(False)
>>> isinstance(model, Module)
True
>>> model.trains()
False
>>> [path for path, _ in model.named_parameters()][:3]
['wte.weight', 'wpe.weight', 'h.0.ln_1.weight']
""",
    "Parameter": """
>>> import numpy as np
>>> from minipeft import Parameter
>>> p = Parameter(np.zeros(2))
>>> p.add_grad(np.ones(2))
>>> p.grad
array([1., 1.])
>>> Parameter(np.zeros(2), requires_grad=False).grad is None
True
""",
    "PrefixTuning": """
>>> from minipeft import PrefixTuning, get_peft_model, load_base
>>> model = get_peft_model(load_base("symbols"), PrefixTuning(m=3))
>>> sum(p.data.size for _, p in model.named_parameters() if p.requires_grad)
768
""",
    "PromptTuning": """
>>> from minipeft import PromptTuning, get_peft_model, load_base
>>> model = get_peft_model(load_base("symbols"), PromptTuning(m=3))
>>> sum(p.data.size for _, p in model.named_parameters() if p.requires_grad)
192
""",
    "QLoRA": """
>>> from minipeft import QLoRA, get_peft_model, load_base
>>> model = get_peft_model(load_base("symbols"), QLoRA(r=2))
>>> sum(p.data.size for _, p in model.named_parameters() if p.requires_grad)
4608
""",
    "SGD": """
>>> import numpy as np
>>> from minipeft import SGD, Parameter
>>> p = Parameter(np.array([1.0, 2.0]))
>>> p.add_grad(np.array([1.0, 0.0]))
>>> SGD([p], lr=0.5).step()
>>> p.data
array([0.5, 2. ])
""",
    "Stack": """
>>> from minipeft import LoRA, PrefixTuning, Stack, get_peft_model, load_base
>>> both = Stack((LoRA(r=2), PrefixTuning(m=3)))
>>> model = get_peft_model(load_base("symbols"), both)
>>> both.merges, both.identity_at_init
(False, False)
""",
    "VeRA": """
>>> from minipeft import VeRA, get_peft_model, load_base
>>> model = get_peft_model(load_base("symbols"), VeRA(r=16))
>>> sum(p.data.size for _, p in model.named_parameters() if p.requires_grad)
320
""",
    "Wrapper": """
>>> import numpy as np
>>> from minipeft import Linear, Wrapper
>>> class Half(Wrapper):
...     def forward(self, x):
...         y, back = self.base(x)
...         return y / 2, lambda dy: back(dy / 2)
>>> layer = Half(Linear.from_arrays(np.eye(2)))
>>> layer.shape, layer.own_parameters()
((2, 2), [])
""",
    "base_names": """
>>> from minipeft import base_names
>>> base_names()
['english', 'symbols']
""",
    "counting": """
>>> import numpy as np
>>> from minipeft import Linear, counting
>>> layer = Linear.from_arrays(np.ones((4, 5)))
>>> with counting() as flops:
...     y, backward = layer(np.ones((3, 4)))
>>> flops.total  # 2 · 3 · 4 · 5
120
""",
    "cross_entropy": """
>>> import numpy as np
>>> from minipeft import cross_entropy
>>> loss, backward = cross_entropy(np.zeros((1, 1, 4)), np.array([[2]]))
>>> round(loss, 4)  # ln 4: four tokens of equal chance
1.3863
>>> backward()  # p − onehot(target)
array([[[ 0.25,  0.25, -0.75,  0.25]]])
""",
    "disabled": """
>>> import numpy as np
>>> from minipeft import PromptTuning, disabled, get_peft_model, load_base
>>> ids = np.array([[1, 2, 3]])
>>> before, _ = load_base("symbols")(ids)
>>> model = get_peft_model(load_base("symbols"), PromptTuning(m=2))
>>> with disabled(model):
...     inside, _ = model(ids)
>>> np.array_equal(before, inside), np.array_equal(before, model(ids)[0])
(True, False)
""",
    "evaluate": """
>>> import numpy as np
>>> from minipeft import evaluate, load_base, symbols_batches
>>> scores = evaluate(load_base("symbols"), [symbols_batches("copy")(np.random.default_rng(0))])
>>> scores.accuracy
1.0
""",
    "fit": """
>>> from minipeft import AdamW, LoRA, fit, get_peft_model, load_base, symbols_batches
>>> model = get_peft_model(load_base("symbols"), LoRA(r=4))
>>> history = fit(model, symbols_batches("near", 8), 30, AdamW(model, lr=1e-2), progress=False)
>>> len(history.loss), history.loss[-1] < history.loss[0]
(30, True)
""",
    "gelu": """
>>> import numpy as np
>>> from minipeft import gelu
>>> y, slope = gelu(np.array([0.0, 1.0]))
>>> y.round(4), slope.round(4)
(array([0.    , 0.8412]), array([0.5  , 1.083]))
""",
    "generate": """
>>> from minipeft import generate, load_base, load_tokens
>>> tokens = load_tokens("english")
>>> ids = generate(load_base("english"), tokens.encode("The sea")[None], 5)
>>> ids.shape[1] - len(tokens.encode("The sea"))
5
""",
    "get_peft_model": """
>>> from minipeft import LoRA, get_peft_model, load_base
>>> model = get_peft_model(load_base("symbols"), LoRA(r=4))  # freeze everything, put something in
>>> [path for path, p in model.named_parameters() if p.requires_grad][:2]
['h.0.attn.q_proj.A', 'h.0.attn.q_proj.B']
""",
    "gradcheck": """
>>> import numpy as np
>>> from minipeft import gradcheck, load_base, symbols_batches
>>> batch = symbols_batches("copy", n=2)(np.random.default_rng(0))
>>> errors = gradcheck(load_base("symbols"), batch, np.random.default_rng(1))
>>> max(errors.values()) < 1e-5
True
""",
    "gradcheck_layer": """
>>> import numpy as np
>>> from minipeft import Linear, gradcheck_layer
>>> rng = np.random.default_rng(0)
>>> errors = gradcheck_layer(Linear(4, 3, rng), (rng.normal(size=(2, 4)),))
>>> sorted(errors), max(errors.values()) < 1e-6
(['bias', 'input 0', 'weight'], True)
""",
    "load_adapter": """
>>> import tempfile
>>> from pathlib import Path
>>> from minipeft import LoRA, get_peft_model, load_adapter, load_base, save_adapter
>>> with tempfile.TemporaryDirectory() as folder:
...     save_adapter(get_peft_model(load_base("symbols"), LoRA(r=4)), Path(folder, "mine.npz"))
...     model = load_adapter(load_base("symbols"), Path(folder, "mine.npz"))
>>> model.h[0].attn.q_proj.A.data.shape
(64, 4)
""",
    "load_base": """
>>> from minipeft import load_base
>>> load_base("symbols", "float32").config.n_embd
64
""",
    "load_tokens": """
>>> from minipeft import load_tokens
>>> tokens = load_tokens("english")
>>> tokens.decode(tokens.encode("Sea ice"))
'Sea ice'
""",
    "matmul": """
>>> import numpy as np
>>> from minipeft import matmul
>>> matmul(np.ones((2, 3, 4)), np.ones((4, 5))).shape
(2, 3, 5)
""",
    "merge": """
>>> import numpy as np
>>> from minipeft import LoRA, get_peft_model, load_base, merge
>>> model = merge(get_peft_model(load_base("symbols"), LoRA(r=4)))  # W + s A B
>>> type(model.h[0].attn.q_proj).__name__
'Linear'
""",
    "outer": """
>>> import numpy as np
>>> from minipeft import outer
>>> outer(np.ones((2, 3, 4)), np.ones((2, 3, 5))).shape  # xᵀ dy, summed over batch and time
(4, 5)
""",
    "quantise": """
>>> from minipeft import load_base, quantise
>>> model = quantise(load_base("symbols"))  # 4 bits for each number of a weight
>>> type(model.h[0].attn.q_proj).__name__
'NF4Linear'
""",
    "save_adapter": """
>>> import tempfile
>>> from pathlib import Path
>>> from minipeft import LoRA, get_peft_model, load_base, save_adapter
>>> with tempfile.TemporaryDirectory() as folder:
...     save_adapter(get_peft_model(load_base("symbols"), LoRA(r=4)), Path(folder, "mine.npz"))
...     print([file.name for file in Path(folder).iterdir()])
['mine.npz']
""",
    "surrogate": """
>>> from minipeft import DoRA, get_peft_model, load_base, surrogate
>>> model = get_peft_model(load_base("symbols"), DoRA(r=2))
>>> with surrogate(model):  # the norms of DoRA are held
...     print(model.h[0].attn.q_proj.held is not None)
True
>>> model.h[0].attn.q_proj.held is None
True
""",
    "symbols_batches": """
>>> import numpy as np
>>> from minipeft import symbols_batches
>>> ids, targets, mask = symbols_batches("copy", n=4)(np.random.default_rng(0))
>>> ids.shape == targets.shape == mask.shape
True
""",
    "train_step": """
>>> import numpy as np
>>> from minipeft import AdamW, LoRA, get_peft_model, load_base, symbols_batches, train_step
>>> model, rng = get_peft_model(load_base("symbols"), LoRA(r=4)), np.random.default_rng(0)
>>> optimizer, batch = AdamW(model, lr=1e-2), symbols_batches("near", 8)(rng)
>>> losses = [train_step(model, batch, optimizer)[0] for _ in range(5)]
>>> losses[-1] < losses[0]
True
""",
    "unwrap": """
>>> from minipeft import LoRA, get_peft_model, load_base, unwrap
>>> model = unwrap(get_peft_model(load_base("symbols"), LoRA(r=4)))
>>> type(model.h[0].attn.q_proj).__name__
'Linear'
""",
}
