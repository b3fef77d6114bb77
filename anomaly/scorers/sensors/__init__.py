"""Scorers of sensor windows: `deviation` (the default), `quadratic` (Gaussian, PCA) and `neighbour`; `windows` is what they share."""
