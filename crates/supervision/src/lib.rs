//! supervision.
