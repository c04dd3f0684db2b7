#!/usr/bin/env python3
"""Times qzo's step beside the paper's procedure in PyTorch, on one model and task, in one run.

    bench_reference.py MODEL TASK.qzt [--device cpu|cuda] [--qzo build/qzo] [--threads N]
        [--dtype float32|bfloat16] [--cpu-limit avx2|avx512|amx]

The procedure is that of the QZO code: transformers' Llama with every quantized layer decoded to a
full matrix before each product; scales perturbed in place by +eps, -2 eps, +eps with z drawn again
each time from the step's seed; one row per option, padded to the longest of the batch; the update
in place. On a CPU it runs in fp32 or bf16 like qzo (the paper's fp16 has no fast products there;
--cpu-limit is qzo's, bench_products.py says how to limit PyTorch), on a GPU in fp16 with the codes
already unpacked to bytes, which the paper's kernels still do. Two more ways give
it qzo's advantages: "prompts", one padded row per example without answer tokens, where options are
single tokens; "packed", those rows one after the other in a single row with a mask, and logits
of answers alone. Both sides get the same device and threads. qzo's figures come from
`qzo bench --task`, with the ceilings of the same call; medians and best of the steps are given.
Needs torch and transformers (tools/requirements-oracle.txt).
"""
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import command_line

ROOT = Path(__file__).resolve().parent.parent


def parse_arguments():
    parser = command_line.parser_of(__doc__)
    parser.add_argument("model")
    parser.add_argument("task")
    parser.add_argument("--qzo", default=str(ROOT / "build/qzo"),
                        help=f"default: {ROOT}/build/qzo")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=command_line.whole(1),
                        default=len(os.sched_getaffinity(0)))
    parser.add_argument("--steps", type=command_line.whole(1), default=5)
    parser.add_argument("--batch", type=command_line.whole(1), default=16)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32",
                        help="of both sides on a CPU")
    parser.add_argument("--cpu-limit", default="amx")
    return parser.parse_args()


given_arguments = parse_arguments() if __name__ == "__main__" else None
with command_line.needed("requirements-oracle.txt"):
    import numpy as np
    import torch
    from transformers import AutoConfig, LlamaForCausalLM

    import tensor_file
    from gptq_numpy import FORMATS, unpack_zeros

EPS, LEARNING_RATE, CLIP = 1e-3, 1e-7, 100.0


def codes_of(words):
    """(in / 8, out) words to (in, out) codes: unpack_rows of gptq_numpy, on the words' device."""
    shifts = torch.arange(0, 32, 4, dtype=torch.int32, device=words.device)[None, :, None]
    return ((words[:, None, :] >> shifts) & 15).to(torch.int8).reshape(-1, words.shape[1])


class DecodedLinear(torch.nn.Module):
    """A GPTQ layer as the paper's kernel computes it: W = scale (code - zero), then one product."""

    def __init__(self, tensors, name, checkpoint_format, device, dtype):
        super().__init__()
        array = lambda part: torch.from_numpy(tensors[f"{name}.{part}"].array.copy()).to(device)
        codes = codes_of(array("qweight"))
        zeros = unpack_zeros(tensors[f"{name}.qzeros"].array, checkpoint_format)
        self.groups = array("g_idx").long()
        self.differences = codes - torch.from_numpy(zeros.astype(np.int8)).to(device)[self.groups]
        scales = torch.from_numpy(tensors[f"{name}.scales"].as_float32().copy())
        self.scales = scales.to(device, dtype)
        self.group_size = codes.shape[0] // self.scales.shape[0]
        self.in_order = bool((self.groups.diff() >= 0).all())

    def weight(self):
        if not self.in_order:
            return self.scales[self.groups] * self.differences
        shape = (self.scales.shape[0], self.group_size, self.scales.shape[1])
        return (self.scales[:, None, :] * self.differences.view(shape)).view(-1, shape[2])

    def forward(self, x):
        return x @ self.weight()


def load_model(folder, device, dtype):
    config = AutoConfig.from_pretrained(folder)
    quantization = json.loads((Path(folder) / "config.json").read_text())["quantization_config"]
    checkpoint_format = quantization.get("checkpoint_format", "gptq")
    assert checkpoint_format in FORMATS and quantization["bits"] == 4
    del config.quantization_config
    tensors = {}
    for path in sorted(Path(folder).glob("*.safetensors")):
        if path.name != "expected.safetensors":
            tensors.update(tensor_file.read(path)[0])
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    layers = []
    for name, module in list(model.named_modules()):
        if isinstance(module, torch.nn.Linear) and f"{name}.qweight" in tensors:
            parent = model.get_submodule(name.rpartition(".")[0])
            layers.append(DecodedLinear(tensors, name, checkpoint_format, device, dtype))
            setattr(parent, name.rpartition(".")[2], layers[-1])
    state = {name: torch.from_numpy(tensor.as_float32().copy()).to(device, dtype)
             for name, tensor in tensors.items() if name.endswith(".weight")}
    if "lm_head.weight" not in state:
        state["lm_head.weight"] = state["model.embed_tokens.weight"]
    model.load_state_dict(state, strict=False, assign=True)
    rotary = model.model.rotary_emb
    model.model.rotary_emb = type(rotary)(config).to(device)
    return model.eval(), layers


def read_train(path):
    """([(rows, answer tokens of each, right row)], whether only the right row counts)"""
    tensors, metadata = tensor_file.read(path)
    get = lambda name: tensors[f"train.{name}"].array
    tokens, begin, option_begin = get("tokens"), get("token_begin"), get("option_begin")
    examples, gold_only = [], metadata["loss"] == "lm"
    for e in range(len(option_begin) - 1):
        options = range(option_begin[e], option_begin[e + 1])
        gold = int(get("gold")[e])
        if gold_only:
            options, gold = [option_begin[e] + gold], 0
        rows = [tokens[begin[o] : begin[o + 1]] for o in options]
        answers = [int(get("answer_tokens")[o]) for o in options]
        examples.append((rows, answers, gold))
    return examples, gold_only


# --- losses: all of them the same number, up to rounding -----------------------------------


def loss_of(sums, batch, gold_only):
    """From the sum of the log-probabilities of each option's answer tokens: the mean over answer
    tokens where one row counts, else cross entropy over length-normalised scores."""
    counts = torch.tensor([n for _, answers, _ in batch for n in answers], device=sums.device)
    if gold_only:
        return float(-sums.sum() / counts.sum())
    scores, at, total = sums / counts, 0, 0.0
    for rows, _, gold in batch:
        of = scores[at : at + len(rows)]
        total += float(torch.logsumexp(of, 0) - of[gold])
        at += len(rows)
    return total / len(batch)


def padded(rows, device):
    """Left padding, as MeZO's collator does."""
    width = max(len(row) for row in rows)
    ids = torch.zeros((len(rows), width), dtype=torch.long)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    for i, row in enumerate(rows):
        ids[i, width - len(row) :] = torch.from_numpy(row.astype(np.int64))
        mask[i, width - len(row) :] = 1
    return ids.to(device), mask.to(device)


@torch.inference_mode()
def loss_by_options(model, batch, gold_only):
    """One padded row per option."""
    rows = [row for options, _, _ in batch for row in options]
    lengths = [n for _, counts, _ in batch for n in counts]
    ids, mask = padded(rows, model.device)
    logits = model(input_ids=ids, attention_mask=mask).logits[:, :-1].float()
    log_probs = torch.log_softmax(logits, dim=-1)
    picked = log_probs.gather(2, ids[:, 1:, None])[:, :, 0]
    return loss_of(torch.stack([picked[i, -n:].sum() for i, n in enumerate(lengths)]), batch,
                   gold_only)


@torch.inference_mode()
def loss_by_prompts(model, batch, gold_only):
    """One padded row per example, where the options are single tokens after one prompt."""
    ids, mask = padded([options[0][:-1] for options, _, _ in batch], model.device)
    logits = model(input_ids=ids, attention_mask=mask, logits_to_keep=1).logits[:, -1].float()
    log_probs = torch.log_softmax(logits, dim=-1)
    return loss_of(torch.cat([log_probs[i, [int(row[-1]) for row in options]]
                              for i, (options, _, _) in enumerate(batch)]), batch, gold_only)


@torch.inference_mode()
def loss_packed(model, batch, gold_only):
    """All prompts in one row, each attending to itself; options of one token share theirs."""
    pieces, targets = [], []  # rows as fed; (place, token, option)
    begin, option = 0, 0
    for rows, answers, _ in batch:
        shared = all(n == 1 for n in answers)
        for i, (row, n) in enumerate(zip(rows, answers)):
            if i == 0 or not shared:
                pieces.append(row[:-1])
                begin += len(row) - 1
            targets += [(begin - n + k, int(row[len(row) - n + k]), option) for k in range(n)]
            option += 1
    device = model.device
    lengths = torch.tensor([len(piece) for piece in pieces], device=device)
    owner = torch.repeat_interleave(torch.arange(len(pieces), device=device), lengths)
    positions = torch.cat([torch.arange(len(piece), device=device) for piece in pieces])
    ids = torch.from_numpy(np.concatenate(pieces).astype(np.int64)).to(device)
    seen = (owner[:, None] == owner[None, :]) & (positions[:, None] >= positions[None, :])
    mask = torch.zeros(seen.shape, dtype=model.dtype, device=device)
    mask.masked_fill_(~seen, torch.finfo(model.dtype).min)
    places = sorted({place for place, _, _ in targets})
    hidden = model.model(input_ids=ids[None], attention_mask=mask[None, None],
                         position_ids=positions[None]).last_hidden_state[0, places]
    log_probs = torch.log_softmax(model.lm_head(hidden).float(), dim=-1)
    at = {place: i for i, place in enumerate(places)}
    picked = log_probs[[at[place] for place, _, _ in targets], [token for _, token, _ in targets]]
    of = torch.tensor([o for _, _, o in targets], device=device)
    return loss_of(torch.zeros(option, device=device).index_add_(0, of, picked), batch, gold_only)


# --- the procedure --------------------------------------------------------------------------


def normals(layer):
    return torch.randn(layer.scales.shape, device=layer.scales.device, dtype=layer.scales.dtype)


def perturb(layers, seed, factor):
    torch.manual_seed(seed)
    for layer in layers:
        layer.scales.add_(normals(layer), alpha=factor)


def reference_step(model, layers, loss, batch, gold_only, seed):
    perturb(layers, seed, EPS)
    plus = loss(model, batch, gold_only)
    perturb(layers, seed, -2 * EPS)
    minus = loss(model, batch, gold_only)
    perturb(layers, seed, EPS)
    gradient = max(-CLIP, min(CLIP, (plus - minus) / (2 * EPS)))
    torch.manual_seed(seed)
    for layer in layers:
        layer.scales.sub_(LEARNING_RATE * gradient * normals(layer))
        layer.scales.clamp_(min=1e-7)


def batch_of(given, examples, step):
    return [examples[(step * given.batch + i) % len(examples)] for i in range(given.batch)]


def time_reference(given, model, layers, loss, examples, gold_only):
    """Seconds of given.steps, after a step to warm up."""
    wait = torch.cuda.synchronize if given.device == "cuda" else lambda: None
    seconds = []
    for step in range(given.steps + 1):
        wait()
        start = time.perf_counter()
        reference_step(model, layers, loss, batch_of(given, examples, step), gold_only, step)
        wait()
        seconds.append(time.perf_counter() - start)
    return seconds[1:]


def backend_of(given):
    return "cpu-bf16" if given.device == "cpu" and given.dtype == "bfloat16" else given.device


def time_qzo(given):
    command = [given.qzo, "bench", given.model, "--task", given.task, "--json", "--rows", "64",
               "--batch", str(given.batch), "--threads", str(given.threads), "--backend",
               backend_of(given), "--cpu-limit", given.cpu_limit, "--log-level", "error"]
    try:
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    except OSError as error:
        sys.exit(f"bench_reference: {given.qzo}: {error.strerror}")
    except subprocess.CalledProcessError as error:  # qzo has said why
        sys.exit(f"bench_reference: exit code {error.returncode}: {' '.join(command)}")
    return json.loads(done.stdout)


def main(given):
    examples, gold_only = read_train(given.task)
    qzo = time_qzo(given)  # first: it leaves the device empty
    ours = qzo["step"]
    result = {"model": given.model, "device": given.device, "threads": given.threads,
              "batch": given.batch, "torch": torch.__version__, "qzo": qzo,
              "qzo_seconds_per_step": ours["seconds_median"]}
    torch.set_num_threads(given.threads)
    model, layers = load_model(given.model, given.device,
                               torch.float16 if given.device == "cuda"
                               else getattr(torch, given.dtype))
    ways = {"padded_options": loss_by_options, "packed": loss_packed}
    if not gold_only and all(n == 1 for _, counts, _ in examples for n in counts):
        ways["prompts"] = loss_by_prompts
    # Before any step, since steps change the scales: the same number from each way.
    clean = {name: loss(model, batch_of(given, examples, 0), gold_only)
             for name, loss in ways.items()}
    for name, loss in ways.items():
        seconds = time_reference(given, model, layers, loss, examples, gold_only)
        median = statistics.median(seconds)
        result[name] = {"seconds_per_step": median, "best_seconds": min(seconds),
                        "ratio": median / ours["seconds_median"], "clean_loss": clean[name]}
    json.dump(result, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main(given_arguments)
