"""The multinomial logit: a solver, a scikit-learn classifier, and the statistics."""
