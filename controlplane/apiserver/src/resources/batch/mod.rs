//! Kinds of this group; see each file.

pub(crate) mod cron_job;
pub(crate) mod job;
