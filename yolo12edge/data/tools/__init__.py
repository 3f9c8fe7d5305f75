"""Working on datasets before anything is trained: what is in them, copies, splits, and other label formats."""
