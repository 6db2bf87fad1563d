"""Tiny random models of every architecture, and what transformers computes with them."""
