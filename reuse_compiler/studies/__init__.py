"""Studies of why reuse works: they answer questions of the papers for any model and samples, and rewrite nothing."""
