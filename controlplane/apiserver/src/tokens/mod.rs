//! The lead is writing this module now: service account tokens.
