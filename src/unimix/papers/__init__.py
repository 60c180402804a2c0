"""Tables of models for papers."""
