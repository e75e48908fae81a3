"""Which versions there are: sources, lifecycle, checks, plan."""
