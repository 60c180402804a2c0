"""The likelihood of generalised linear mixed models, by Laplace's approximation and quadrature."""
