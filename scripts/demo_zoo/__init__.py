"""Parts of the demo zoo's maker: questions, tokenizer, model, training, export."""
