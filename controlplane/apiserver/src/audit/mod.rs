//! The audit log: who asked what, and what became of it.

#[allow(
    dead_code,
    reason = "the log that holds and reads them comes with the commits that follow"
)]
pub(crate) mod annotations;
