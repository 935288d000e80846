"""How soon clusters are known when they are kept from batch to batch, and what keeping them costs in accuracy."""
