"""The likelihood of linear mixed models."""
