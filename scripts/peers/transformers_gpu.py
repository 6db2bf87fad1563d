"""What transformers reaches on this GPU: decoding one stream with a static cache and torch.compile, and 64 streams at a context
of 2048 by its continuous batching. The model has Llama 3.1 8B's shape and random weights.

    python transformers_gpu.py --json peer.json --seconds 110

Each figure stands by itself: one that cannot be had is written down as an error.
"""

import argparse
import json
import signal
import time

import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, StaticCache

SHAPE = dict(
    hidden_size=4096,
    intermediate_size=14336,
    num_hidden_layers=32,
    num_attention_heads=32,
    num_key_value_heads=8,
    vocab_size=128256,
    max_position_embeddings=8192,
    rms_norm_eps=1e-5,
    rope_theta=500000.0,
    tie_word_embeddings=False,
)
PROMPT = 128
STEPS = 128
STREAMS = 64
CONTEXT = 2048
ANSWER = 48


def model():
    torch.manual_seed(0)
    with torch.device("meta"):
        built = LlamaForCausalLM(LlamaConfig(**SHAPE))
    built = built.to(torch.bfloat16).to_empty(device="cuda")
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.normal_(0.0, 0.02) if parameter.dim() > 1 else parameter.fill_(1.0)
    # Frequencies are buffers that no checkpoint holds: a new rotary embedding computes them.
    built.model.rotary_emb = type(built.model.rotary_emb)(config=built.config).to("cuda")
    return built.eval()


def one_stream(built):
    cache = StaticCache(config=built.config, max_batch_size=1, max_cache_len=PROMPT + 2 * STEPS, device="cuda", dtype=torch.bfloat16)
    step = torch.compile(
        lambda ids, place: built(ids, cache_position=place, past_key_values=cache, use_cache=True).logits[:, -1].argmax(-1, keepdim=True),
        mode="reduce-overhead",
        fullgraph=True,
    )
    with torch.inference_mode():
        ids = torch.randint(0, 1000, (1, PROMPT), device="cuda")
        out = built(ids, cache_position=torch.arange(PROMPT, device="cuda"), past_key_values=cache, use_cache=True)
        token = out.logits[:, -1].argmax(-1, keepdim=True)
        place = torch.tensor([PROMPT], device="cuda")
        for _ in range(8):
            token = step(token.clone(), place).clone()
            place = place + 1
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(STEPS):
            token = step(token.clone(), place).clone()
            place = place + 1
        torch.cuda.synchronize()
        return STEPS / (time.perf_counter() - start)


def many_streams(built):
    """Tokens a second while all streams decode: the run with answers less one that only reads the prompts."""
    prompts = [[(row * 7919 + place * 31) % 100000 for place in range(CONTEXT)] for row in range(STREAMS)]

    def run(tokens):
        config = GenerationConfig(max_new_tokens=tokens, do_sample=False, eos_token_id=-1, pad_token_id=0, use_cuda_graph=True)
        torch.cuda.synchronize()
        start = time.perf_counter()
        built.generate_batch(inputs=prompts, generation_config=config)
        torch.cuda.synchronize()
        return time.perf_counter() - start

    built.set_attn_implementation("paged|sdpa")
    run(2)
    read = run(1)
    return STREAMS * ANSWER / (run(ANSWER + 1) - read)


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--json", required=True)
    arguments.add_argument("--seconds", type=int, default=110)
    arguments = arguments.parse_args()
    ends = time.monotonic() + arguments.seconds

    def too_long(*_):
        raise TimeoutError("it took too long and was cut")

    signal.signal(signal.SIGALRM, too_long)
    found = {"torch": torch.__version__, "device": torch.cuda.get_device_name(0)}
    built = None
    for key, measure, share in (("decode_1", one_stream, 0.6), ("decode_64", many_streams, 1.0)):
        signal.alarm(max(1, int(share * (ends - time.monotonic()))))
        try:
            built = built or model()
            found[key] = {"tokens_per_second": measure(built)}
        except Exception as error:
            found[key] = {"error": f"{type(error).__name__}: {error}"[:300]}
        finally:
            signal.alarm(0)
        print(key, found[key], flush=True)
        with open(arguments.json, "w") as file:
            json.dump(found, file)


if __name__ == "__main__":
    main()
