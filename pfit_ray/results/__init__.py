"""Looking at a run and taking labels out of it."""
