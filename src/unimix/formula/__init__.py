"""Formulas: from text to tokens, to a syntax tree and to a ModelSpec."""
