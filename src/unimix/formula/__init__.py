"""What a formula means: text to tokens, a syntax tree and a ModelSpec."""
