#!/usr/bin/env python3
"""Trains a small Stable Diffusion 3 from scratch: make_toy_mmdit.py IMAGES OUT [--minutes 6].

IMAGES is a folder of small pictures with captions (tools/make_toy_images.py). OUT becomes a
checkpoint in diffusers' layout: a VAE trained on the pictures (a third of the time), CLIP and T5
text encoders of random weights that know the captions' words (they tell captions apart, which is
all that is asked of them), and a transformer of 0.6 million weights trained by flow matching. Its
linear layers have inputs of multiples of 64, as `quantize: nf4` needs. --untrained writes random
weights, for tests. Runs on one thread of a CPU for so many minutes of its time; how far it comes in
them depends on the machine.
Needs tools/requirements-images.txt.
"""
import sys
import time
from pathlib import Path

import command_line


def parse_arguments():
    parser = command_line.parser_of(__doc__)
    parser.add_argument("images", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=6.0)
    parser.add_argument("--side", type=command_line.whole(1), default=32,
                        help="of a picture, in pixels")
    parser.add_argument("--seed", type=command_line.whole(0), default=0)
    parser.add_argument("--untrained", action="store_true")
    return parser.parse_args()


given_arguments = parse_arguments() if __name__ == "__main__" else None
with command_line.needed("requirements-images.txt"):
    import numpy as np
    import torch
    from diffusers import (AutoencoderKL, FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel,
                           StableDiffusion3Pipeline)
    from transformers import (CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer, T5Config,
                              T5EncoderModel, T5Tokenizer)

    import prepare_images

WIDTH, TEXT_ROWS, CHANNELS = 64, 8, 4
VAE_SHARE = 1 / 3  # of the time
BATCH, VAE_RATE, RATE, DECAY = 32, 2e-3, 2e-3, 0.998
DROPPED = 0.1  # share of captions that become empty, for guidance


# --- encoders of text -----------------------------------------------------------------------


def clip_tokenizer(words):
    """Letters, with merges that make each word one token."""
    letters = sorted({letter for word in words for letter in word})
    tokens = letters + [f"{letter}</w>" for letter in letters]
    merges = []
    for word in words:
        parts = [*word[:-1], f"{word[-1]}</w>"]
        while len(parts) > 1:
            merge = (parts[0], parts[1])
            if merge not in merges:
                merges.append(merge)
            parts[:2] = ["".join(merge)]
            if parts[0] not in tokens:
                tokens.append(parts[0])
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={token: i for i, token in enumerate(tokens)}, merges=merges,
                         model_max_length=TEXT_ROWS)


def clip_encoder(tokenizer):
    return CLIPTextModelWithProjection(CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=WIDTH // 2, intermediate_size=WIDTH,
        projection_dim=WIDTH // 2, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=TEXT_ROWS, bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
        initializer_factor=4.0))


def t5_parts(words):
    pieces = ["<pad>", "</s>", "<unk>"] + [f"▁{word}" for word in words]
    tokenizer = T5Tokenizer(vocab=[(piece, 0.0) for piece in pieces], extra_ids=0,
                            model_max_length=TEXT_ROWS)
    encoder = T5EncoderModel(T5Config(vocab_size=len(pieces), d_model=WIDTH, d_kv=WIDTH // 2,
                                      d_ff=WIDTH, num_layers=1, num_heads=2))
    return tokenizer, encoder


# --- the untrained checkpoint ---------------------------------------------------------------


def make_pipeline(captions):
    words = sorted({word for caption in captions for word in caption.split()})
    clip = [clip_tokenizer(words) for _ in range(2)]
    t5_tokenizer, t5_encoder = t5_parts(words)
    vae = AutoencoderKL(block_out_channels=(16, 32, 32), latent_channels=CHANNELS,
                        down_block_types=("DownEncoderBlock2D",) * 3,
                        up_block_types=("UpDecoderBlock2D",) * 3,
                        norm_num_groups=8, layers_per_block=1, use_quant_conv=False,
                        use_post_quant_conv=False, mid_block_add_attention=False,
                        scaling_factor=1.5305, shift_factor=0.0609)
    transformer = SD3Transformer2DModel(
        sample_size=8, patch_size=2, in_channels=CHANNELS, out_channels=CHANNELS, num_layers=4,
        attention_head_dim=WIDTH // 2, num_attention_heads=2, caption_projection_dim=WIDTH,
        joint_attention_dim=WIDTH, pooled_projection_dim=WIDTH, pos_embed_max_size=8,
        qk_norm="rms_norm")
    return StableDiffusion3Pipeline(
        transformer=transformer, scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0), vae=vae,
        text_encoder=clip_encoder(clip[0]), tokenizer=clip[0], text_encoder_2=clip_encoder(clip[1]),
        tokenizer_2=clip[1], text_encoder_3=t5_encoder, tokenizer_3=t5_tokenizer)


# --- training -------------------------------------------------------------------------------


def train(parameters, rate, seconds, loss_of):
    """Adam with a rate that falls over the time to nothing."""
    optimizer = torch.optim.AdamW(parameters, lr=rate, betas=(0.9, 0.99), weight_decay=0.0)
    begin, step, losses = time.process_time(), 0, []
    while (done := (time.process_time() - begin) / seconds) < 1.0:
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 50) * (1.0 - done)
        optimizer.zero_grad()
        loss = loss_of()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        losses.append(loss.item())
        step += 1
        if step % 100 == 0:
            print(f"  step {step}, {done:.0%} of the time, loss {np.mean(losses[-100:]):.4f}",
                  flush=True)


def train_vae(vae, pictures, seconds):
    """Squares of what the latents lose, and a little of what keeps them near N(0, 1)."""
    def loss_of():
        chosen = pictures[torch.randint(len(pictures), (BATCH,))]
        posterior = vae.encode(chosen).latent_dist
        decoded = vae.decode(posterior.sample()).sample
        return (decoded - chosen).square().mean() + 1e-4 * posterior.kl().mean() / chosen[0].numel()

    vae.train()
    train(list(vae.parameters()), VAE_RATE, seconds, loss_of)
    vae.eval()
    with torch.no_grad():
        latents = vae.encode(pictures[:512]).latent_dist.sample()
    vae.register_to_config(shift_factor=round(latents.mean().item(), 4),
                           scaling_factor=round(1.0 / latents.std().item(), 4))


def train_transformer(pipe, latents, rows, text, pooled, seconds):
    """The flow-matching loss of src/task/flow.h; saves a running mean of the weights."""
    model, shift = pipe.transformer, pipe.scheduler.config.shift
    mean = {name: value.clone() for name, value in model.state_dict().items()}

    def loss_of():
        with torch.no_grad():
            for name, value in model.state_dict().items():
                mean[name].lerp_(value, 1.0 - DECAY)
        chosen = torch.randint(len(latents), (BATCH,))
        clean, row = latents[chosen], rows[chosen]
        row = torch.where(torch.rand(BATCH) < DROPPED, len(text) - 1, row)  # the last is empty
        place = torch.sigmoid(torch.randn(BATCH))
        sigma = (shift * place / (1 + (shift - 1) * place)).view(-1, 1, 1, 1)
        noise = torch.randn_like(clean)
        said = model(hidden_states=(1 - sigma) * clean + sigma * noise,
                     encoder_hidden_states=text[row], pooled_projections=pooled[row],
                     timestep=1000 * sigma.flatten(), return_dict=False)[0]
        return (said - (noise - clean)).square().mean()

    model.train()
    train(list(model.parameters()), RATE, seconds, loss_of)
    model.load_state_dict(mean)
    model.eval()


def train_all(pipe, pairs, side, seconds):
    captions = sorted({caption for _, caption in pairs}) + [""]
    rows = torch.tensor([captions.index(caption) for _, caption in pairs])
    pictures = torch.from_numpy(
        np.stack([prepare_images.open_picture(path, side) for path, _ in pairs]))
    print("VAE")
    train_vae(pipe.vae, pictures, VAE_SHARE * seconds)
    text, pooled = prepare_images.encode_captions(pipe, captions, TEXT_ROWS, "cpu")
    latents = prepare_images.encode_pictures(pipe, pairs, side, 0, "cpu")
    print(f"transformer; latents of deviation {latents.astype(np.float32).std():.3f}")
    train_transformer(pipe, *(torch.from_numpy(array.astype(np.float32)) if array is not rows
                              else rows for array in (latents, rows, text, pooled)),
                      (1.0 - VAE_SHARE) * seconds)


def main(given):
    torch.manual_seed(given.seed)
    torch.set_num_threads(1)
    try:
        pairs = prepare_images.read_pairs(given.images)
    except (prepare_images.ImageError, OSError) as error:
        sys.exit(f"make_toy_mmdit: {error}")
    pipe = make_pipeline([caption for _, caption in pairs])
    if not given.untrained:
        train_all(pipe, pairs, given.side, 60.0 * given.minutes)
    pipe.save_pretrained(given.out)
    print(f"{given.out}: {sum(p.numel() for p in pipe.transformer.parameters())} weights of the "
          "transformer")


if __name__ == "__main__":
    main(given_arguments)
