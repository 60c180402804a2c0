"""What a posterior owes to its priors: the log evidence, other priors without sampling again, and sensitivity."""
