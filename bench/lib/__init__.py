"""What the sets of bench/sets share: systems, sessions, items, goals, plots."""
