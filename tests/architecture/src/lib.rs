//! The invariants of ARCHITECTURE.md as tests over the workspace; see `tests/`.
