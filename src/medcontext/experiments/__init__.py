"""The paper's tables, as grids of runs: train, predict and evaluate each, and set ours beside the paper's numbers."""
