"""Both papers, table by table, beside what is here: the page docs/papers.md, and what is measured for it alone."""
