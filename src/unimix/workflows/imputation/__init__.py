"""One model of several imputed data sets, and its answers pooled by Rubin's rules."""
