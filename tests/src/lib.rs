//! Harness for real servers, suites, fault injection, benchmarks.
