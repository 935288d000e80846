"""A study of why reuse works: how alike neuron vectors of a network are, and what accuracy clusters of them leave."""
