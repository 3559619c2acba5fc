//! Code generated from `proto/`, conversions, errors ↔ status. Under construction.
