"""Search methods: coroutines that yield configurations to measure and receive their throughput."""
