//! The seeded simulation of a whole cluster; all of it is in `tests/`.
