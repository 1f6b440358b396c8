//! Sample exporters and the auditing receiver, for the demo, tests and benchmarks.
