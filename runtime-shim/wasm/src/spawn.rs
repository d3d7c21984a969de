//! Starting the crate's child processes: compile children and sandbox hosts.

pub(crate) mod cgroup;
pub(crate) mod compiler;
pub(crate) mod host;
pub(crate) mod program;
