"""How an encoder predicts: backends behind one door."""
