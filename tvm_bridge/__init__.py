"""What a configuration means on a target, and how fast it is: tasks, templates, measurement, records, `tune`."""
