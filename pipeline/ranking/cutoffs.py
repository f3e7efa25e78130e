"""The K of R@K, where what only reads results finds it without torch."""

CUTOFFS = (1, 5, 10, 100)
