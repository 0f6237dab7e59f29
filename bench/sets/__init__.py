"""
The sets of measurements. Each has TITLE, NOTE, run(options), which returns its results, and, of those, render(data) and check_goals(data); some
have details(data) and draw(data) too.
"""
