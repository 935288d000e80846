"""Parts of a model in two forms, with reuse and as they were, of which each run takes the one that its input suits."""
