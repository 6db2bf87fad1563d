"""What the comparisons with other inference servers share: checkpoints, GGUF files, peers and the load."""
