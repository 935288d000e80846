"""What the compiler reports: data models, and their rendering as JSON and tables. Computes nothing."""
