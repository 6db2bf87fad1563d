"""llama.cpp's library itself: many sequences in one batch, greedy, no server around it. The fairest peer at many requests.

Run as a worker it reads one JSON line a job on stdin, {"prompts": [[ids]...], "tokens": N}, and answers one line on stdout.
"""

import argparse
import ctypes
import json
import sys
import time

import llama_cpp
import numpy as np

BATCH = 512


@llama_cpp.llama_log_callback
def ignore(level, text, data):
    """The library keeps a pointer to this, so it must live as long as the process."""


def quiet():
    llama_cpp.llama_log_set(ignore, ctypes.c_void_p(0))


class NativeLlama:
    """One model, one context of `seqs` sequences of at most `context` tokens."""

    def __init__(self, path, seqs=16, context=512, threads=2, exact_attention=False):
        quiet()
        llama_cpp.llama_backend_init()
        self.model = llama_cpp.llama_model_load_from_file(str(path).encode(), llama_cpp.llama_model_default_params())
        if not self.model:
            raise SystemExit(f"llama.cpp cannot load {path}")
        params = llama_cpp.llama_context_default_params()
        params.n_ctx, params.n_seq_max = seqs * context, seqs
        params.n_batch = params.n_ubatch = BATCH
        params.n_threads = params.n_threads_batch = threads
        if exact_attention:  # f32 keys and values, sums in f32; its default keeps f16 and adds up in f16
            params.type_k = params.type_v = 0
            params.flash_attn_type = 0
        self.context = llama_cpp.llama_init_from_model(self.model, params)
        if not self.context:
            raise SystemExit(f"llama.cpp cannot make a context of {seqs} times {context} tokens")
        self.vocab = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self.model))
        self.batch = llama_cpp.llama_batch_init(BATCH, 0, 1)

    def close(self):
        llama_cpp.llama_batch_free(self.batch)
        llama_cpp.llama_free(self.context)
        llama_cpp.llama_model_free(self.model)

    def decode(self, rows):
        """One step over rows (token, position, sequence, wanted). Returns {sequence: logits} of the wanted ones, [vocab]."""
        batch = self.batch
        batch.n_tokens = len(rows)
        for at, (token, position, sequence, wanted) in enumerate(rows):
            batch.token[at], batch.pos[at], batch.n_seq_id[at] = token, position, 1
            batch.seq_id[at][0], batch.logits[at] = sequence, wanted
        if llama_cpp.llama_decode(self.context, batch):
            raise SystemExit(f"llama_decode failed on a batch of {len(rows)} tokens")
        return {row[2]: np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(self.context, at), (self.vocab,))
                for at, row in enumerate(rows) if row[3]}

    def greedy(self, prompts, tokens, never=(), keep_logits=False):
        """Continue every prompt by `tokens` tokens, all in one batch; `never` lists ids that are not chosen.

        Returns the ids, the moment of each, and the logits of each (if kept): three lists, one entry a prompt.
        """
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.context), True)
        ids, stamps, kept = ([[] for _ in prompts] for _ in range(3))
        never = list(never)

        def choose(found):
            for sequence, logits in found.items():
                if never:
                    logits = logits.copy()
                    logits[never] = -np.inf
                ids[sequence].append(int(logits.argmax()))
                if keep_logits:
                    kept[sequence].append(logits.copy())
                stamps[sequence].append(time.perf_counter())

        rows = [(token, position, sequence, position == len(prompt) - 1)
                for sequence, prompt in enumerate(prompts) for position, token in enumerate(prompt)]
        for at in range(0, len(rows), BATCH):
            choose(self.decode(rows[at:at + BATCH]))
        for step in range(tokens - 1):
            choose(self.decode([(ids[sequence][-1], len(prompt) + step, sequence, True) for sequence, prompt in enumerate(prompts)]))
        return ids, stamps, kept


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--seqs", type=int, default=16)
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    llama = NativeLlama(args.model, args.seqs, args.context, args.threads)
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        start = time.perf_counter()
        _, stamps, _ = llama.greedy(job["prompts"], job["tokens"])
        print(json.dumps([{"prompt_tokens": len(prompt), "tokens": len(own), "stamps": [stamp - start for stamp in own]}
                          for prompt, own in zip(job["prompts"], stamps)]), flush=True)


if __name__ == "__main__":
    main()
