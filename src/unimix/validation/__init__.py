"""Cross-validation of engines and kinds of pooling."""
