//! The flags of the audit log, named as those of kube-apiserver.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, ValueHint};
use server::{AuditConfig, AuditOutput, AuditPolicy};

#[derive(Args)]
pub(crate) struct Audit {
    /// What is written down of requests to the API: a Policy of audit.k8s.io/v1.
    #[arg(long, value_name = "FILE", requires = "audit_log_path", value_hint = ValueHint::FilePath)]
    pub(crate) audit_policy_file: Option<PathBuf>,
    /// Where requests are written down, as lines of JSON; `-` is stdout.
    #[arg(long, value_name = "FILE|-", requires = "audit_policy_file", value_hint = ValueHint::FilePath)]
    pub(crate) audit_log_path: Option<PathBuf>,
    /// Megabytes after which the audit log is renamed and begun anew.
    #[arg(long, value_name = "MB", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..1 << 40))]
    pub(crate) audit_log_maxsize: u64,
    /// Renamed audit logs that are kept; 0 keeps all.
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    pub(crate) audit_log_maxbackup: usize,
    /// Days for which they are kept; 0 for ever.
    #[arg(long, value_name = "DAYS", default_value_t = 366, value_parser = clap::value_parser!(i64).range(0..100_000))]
    pub(crate) audit_log_maxage: i64,
}

impl Audit {
    /// The audit log that was asked for.
    pub(crate) fn config(&self) -> anyhow::Result<Option<AuditConfig>> {
        let (Some(policy), Some(path)) = (&self.audit_policy_file, &self.audit_log_path) else {
            return Ok(None);
        };
        let text = std::fs::read_to_string(policy).with_context(|| format!("cannot read {}", policy.display()))?;
        let unusable = || format!("{} cannot be used as an audit policy", policy.display());
        let policy = AuditPolicy::parse(&text).with_context(unusable)?;
        let path = match path == Path::new("-") {
            true => None,
            false => Some(std::path::absolute(path)?),
        };
        Ok(Some(AuditConfig {
            policy,
            output: AuditOutput {
                path,
                max_size: self.audit_log_maxsize,
                max_backups: self.audit_log_maxbackup,
                max_age: self.audit_log_maxage,
            },
        }))
    }
}
