"""The sets of measurements, by name, in the order in which they run. Each has run(options), render(data), goals(data) and plot(data)."""
