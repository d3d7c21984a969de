//! The pod network of a node. (The lead is writing this crate now.)
