//! Histories of a store as its clients saw it, and whether they can be true.
//!
//! [`record`] is what clients write down: every request with the moment it was sent and the moment its answer came, and
//! every watch with what it told. [`check`] is pure: it reads such a history and says what in it cannot be. Writes carry
//! values that are never used twice, so that every value seen has one origin.

pub mod check;
pub mod record;

#[cfg(test)]
mod tests;
