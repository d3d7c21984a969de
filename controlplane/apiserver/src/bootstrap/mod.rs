//! The lead is writing this module now: bootstrap objects.
