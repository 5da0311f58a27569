"""AutoLoRA in plain PyTorch: forward, gradients and hypergradients that the C program is compared with.

Everything is differentiated by torch.autograd; no derivative is written by hand.  All functions work on
flat dictionaries ``name -> tensor``:

    lora_A.<module>             A   [k, d_in]
    lora_B.<module>             B   [d_out, k]
    selection_logits.<module>   a   [k]
    <head parameter>            e.g. classifier.weight [labels, d], classifier.bias [labels]

W denotes the factors and the task head together (everything but the selection logits).

An adapted projection with frozen W0 [d_out, d_in] and bias b [d_out] maps x [T, d_in] to

    y = x W0^T + b + s ((x A^T) * q) B^T,      q = constraint(a),  s = lora_alpha / k      [T, d_out]
"""

import torch
from torch.func import functional_call
from torch.nn.functional import cross_entropy, mse_loss

IGNORED_LABEL = -100
FINITE_DIFFERENCE_RADIUS = 0.01

CONSTRAINTS = {
    "softmax": lambda a: torch.softmax(a, dim=0),
    "sigmoid": torch.sigmoid,
    "none": lambda a: a,
}


class AdaptedProjection(torch.nn.Module):
    """A frozen projection plus the low-rank update that ``slots[name] = (A, B, q, s)`` currently holds.

    q may be None (plain LoRA); a missing slot means that the projection has no update (rank 0).
    """

    def __init__(self, base, name, slots):
        super().__init__()
        self.base = base
        self.name = name
        self.slots = slots

    def forward(self, x):
        y = self.base(x)
        if self.name not in self.slots:
            return y
        A, B, q, s = self.slots[self.name]
        h = x @ A.T
        z = h if q is None else h * q
        return y + s * (z @ B.T)


class AdaptedFused(torch.nn.Module):
    """GPT-2's c_attn: one frozen projection whose outputs are query, key and value, each with its update."""

    PARTS = ("query", "key", "value")

    def __init__(self, base, name, slots):
        super().__init__()
        self.base = base
        self.updates = torch.nn.ModuleList(
            [AdaptedProjection(lambda x: 0, f"{name}.{part}", slots) for part in self.PARTS])

    def forward(self, x):
        y = self.base(x)
        width = y.shape[-1] // len(self.PARTS)
        updates = [update(x) for update in self.updates]
        return y + torch.cat([update if torch.is_tensor(update) else y.new_zeros(*y.shape[:-1], width)
                              for update in updates], dim=-1)


def projection_size(base):
    """(d_out, d_in) of a Linear [out, in] or of a Conv1D [in, out]."""
    if isinstance(base, torch.nn.Linear):
        return base.out_features, base.in_features
    d_in, d_out = base.weight.shape
    return d_out, d_in


class AdaptedModel:
    """A transformers model (double precision, evaluation mode) whose trained parts are arguments.

    modules: names of the adapted projections as in the model's state dictionary.
    per_token: True where the head gives one row a token, False where it gives one row a sequence.
    """

    def __init__(self, model, modules, per_token):
        self.model = model.double().eval().requires_grad_(False)
        self.modules = list(modules)
        self.per_token = per_token
        self.slots = {}
        self.sizes = {}  # module -> (d_out, d_in)
        for name in self.modules:
            parent, child = name.rsplit(".", 1)
            owner = self.model.get_submodule(parent)
            if isinstance(owner, AdaptedFused) or parent.endswith(".c_attn"):
                if not isinstance(owner, AdaptedFused):
                    attention, fused = parent.rsplit(".", 1)
                    owner_of_fused = self.model.get_submodule(attention)
                    owner = AdaptedFused(owner, parent, self.slots)
                    setattr(owner_of_fused, fused, owner)
                d_out, d_in = projection_size(owner.base)
                self.sizes[name] = (d_out // len(AdaptedFused.PARTS), d_in)
            else:
                base = getattr(owner, child)
                self.sizes[name] = projection_size(base)
                setattr(owner, child, AdaptedProjection(base, name, self.slots))

    def _run(self, head, batch):
        """Logits of a packed batch: [S, labels], or [T, labels] where the head works on tokens.

        One sequence at a time, so there is neither padding nor an attention mask to get wrong.
        """
        rows = []
        offsets = batch["offsets"].tolist()
        for begin, end in zip(offsets[:-1], offsets[1:]):
            inputs = {
                "input_ids": batch["input_ids"][None, begin:end],
                "attention_mask": torch.ones(1, end - begin, dtype=torch.int64),
            }
            if self.model.config.model_type != "gpt2":
                inputs["token_type_ids"] = batch["token_type_ids"][None, begin:end]
            logits = functional_call(self.model, head, kwargs=inputs).logits
            rows.append(logits[0] if self.per_token else logits)
        return torch.cat(rows)

    def search_logits(self, W, a, batch, constraint, lora_alpha):
        """Logits with selection variables q = constraint(a)."""
        self.slots.clear()
        for name in self.modules:
            A, B = W[f"lora_A.{name}"], W[f"lora_B.{name}"]
            q = CONSTRAINTS[constraint](a[f"selection_logits.{name}"])
            self.slots[name] = (A, B, q, lora_alpha / A.shape[0])
        return self._run(head_of(W), batch)

    def plain_logits(self, W, batch, lora_alpha):
        """Logits of plain LoRA with a rank and a scale lora_alpha / rank of its own in every module."""
        self.slots.clear()
        for name in self.modules:
            A = W.get(f"lora_A.{name}")
            if A is not None:
                self.slots[name] = (A, W[f"lora_B.{name}"], None, lora_alpha / A.shape[0])
        return self._run(head_of(W), batch)


def head_of(W):
    """The parameters of the task head among W."""
    return {name: value for name, value in W.items() if not name.startswith("lora_")}


def mean_loss(logits, batch):
    """Cross entropy, mean over sequences or over the tokens whose label is not IGNORED_LABEL; for targets the mean
    squared error, as transformers has it for problem_type "regression"."""
    if "targets" in batch:
        return mse_loss(logits.squeeze(-1), batch["targets"].double())
    return cross_entropy(logits, batch["labels"], ignore_index=IGNORED_LABEL)


def gradient(loss, parameters, **options):
    """{name: d loss / d parameter} for a dictionary of leaves."""
    values = torch.autograd.grad(loss, list(parameters.values()), **options)
    return dict(zip(parameters, values))


def as_leaves(parameters):
    """The same values as fresh leaves of a new graph."""
    return {name: value.detach().clone().requires_grad_() for name, value in parameters.items()}


class Bilevel:
    """Losses and hypergradients of one model, one constraint, one training and one validation batch."""

    def __init__(self, network, train, validation, constraint, lora_alpha, eta):
        self.network = network
        self.train = train
        self.validation = validation
        self.constraint = constraint
        self.lora_alpha = lora_alpha
        self.eta = eta

    def loss(self, W, a, batch):
        """(loss, logits) at W, a."""
        logits = self.network.search_logits(W, a, batch, self.constraint, self.lora_alpha)
        return mean_loss(logits, batch), logits

    def gradients(self, W, a, batch):
        """(loss, logits, d loss / d everything): W and a are values, not leaves."""
        W, a = as_leaves(W), as_leaves(a)
        loss, logits = self.loss(W, a, batch)
        return loss.detach(), logits.detach(), gradient(loss, {**W, **a})

    def look_ahead(self, W, a):
        """W' = W - eta grad_W L_train(W, a): one step of plain gradient descent."""
        _, _, slope = self.gradients(W, a, self.train)
        return {name: value - self.eta * slope[name] for name, value in W.items()}

    def second_order_exact(self, W, a, v):
        """d/da [grad_W L_train(W, a) . v] with v constant, by differentiating twice: {name: [k]}."""
        W, a = as_leaves(W), as_leaves(a)
        loss, _ = self.loss(W, a, self.train)
        slope = gradient(loss, W, create_graph=True)
        return gradient(sum((slope[name] * v[name]).sum() for name in W), a)

    def second_order_finite_difference(self, W, a, v):
        """[grad_a L_train(W + e v, a) - grad_a L_train(W - e v, a)] / 2e,  e = 0.01 / ||v||: {name: [k]}.

        ||v|| is the Euclidean norm of all of v taken as one vector.
        """
        norm = torch.sqrt(sum((value * value).sum() for value in v.values()))
        e = FINITE_DIFFERENCE_RADIUS / norm

        def at(sign):
            moved = {name: value + sign * e * v[name] for name, value in W.items()}
            return self.gradients(moved, a, self.train)[2]

        above, below = at(+1.0), at(-1.0)
        return {name: (above[name] - below[name]) / (2.0 * e) for name in a}

    def hypergradients(self, W, a):
        """Direction v and, for both recipes and all modes, the quantity that the selection descends along.

            grad_a L_val(W', a) - c * second_order,     v = grad_W' L_val(W', a)

        paper:     second-order term at W,  c = eta        reference: at W', c = 1
        Returns (v, {recipe: {mode: {name: [k]}}}); the mode "second_order" is the exact term without c.
        """
        ahead = self.look_ahead(W, a)
        _, _, slope = self.gradients(ahead, a, self.validation)
        v = {name: slope[name] for name in W}
        direct = {name: slope[name] for name in a}

        recipes = {}
        for recipe, point, c in (("paper", W, self.eta), ("reference", ahead, 1.0)):
            exact = self.second_order_exact(point, a, v)
            difference = self.second_order_finite_difference(point, a, v)
            recipes[recipe] = {
                "exact": {name: direct[name] - c * exact[name] for name in a},
                "finite_difference": {name: direct[name] - c * difference[name] for name in a},
                "first_order": direct,
                "second_order": exact,
            }
        return v, recipes

    def total_derivative(self, W, a):
        """d/da L_val(W - eta grad_W L_train(W, a), a) through the look-ahead: equals paper/exact."""
        W, a = as_leaves(W), as_leaves(a)
        loss, _ = self.loss(W, a, self.train)
        slope = gradient(loss, W, create_graph=True)
        ahead = {name: value - self.eta * slope[name] for name, value in W.items()}
        return gradient(self.loss(ahead, a, self.validation)[0], a)


def plain_gradients(network, W, batch, lora_alpha):
    """(loss, logits, {name: gradient}) of plain LoRA."""
    W = as_leaves(W)
    logits = network.plain_logits(W, batch, lora_alpha)
    loss = mean_loss(logits, batch)
    return loss.detach(), logits.detach(), gradient(loss, W)
