"""Training on Ray Train: one loop for all networks, one file for what each network learns."""
