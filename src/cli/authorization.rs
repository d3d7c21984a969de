//! The flags that say who is asked whether something may be done, named as those of kube-apiserver.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, bail};
use clap::{Args, ValueHint};
use server::authorizers::{Configuration, ConnectionInfo, Entry, WebhookEntry};

use super::authentication::{ReviewVersion, duration};

#[derive(Args)]
pub(crate) struct Authorization {
    /// Who is asked, in that order: Node, RBAC, Webhook.
    #[arg(long, value_name = "MODE,...", value_delimiter = ',', default_value = "Node,RBAC")]
    authorization_mode: Vec<String>,
    /// Who is asked: an AuthorizationConfiguration of apiserver.config.k8s.io/v1, read again when it changes.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath,
          conflicts_with_all = ["authorization_mode", "authorization_webhook_config_file"])]
    authorization_config: Option<PathBuf>,
    /// The program that the mode Webhook asks, by SubjectAccessReview: a kubeconfig file that leads to it.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    authorization_webhook_config_file: Option<PathBuf>,
    /// How long it counts that the program allowed something.
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = duration)]
    authorization_webhook_cache_authorized_ttl: Duration,
    /// How long it counts that it did not.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    authorization_webhook_cache_unauthorized_ttl: Duration,
    /// The version of the SubjectAccessReview it is sent.
    #[arg(long, value_enum, default_value = "v1beta1")]
    authorization_webhook_version: ReviewVersion,
}

impl Authorization {
    /// What was asked for.
    pub(crate) fn config(&self) -> anyhow::Result<server::Authorization> {
        if let Some(path) = &self.authorization_config {
            return Ok(server::Authorization::File(std::path::absolute(path)?));
        }
        let has_webhook = self.authorization_mode.iter().any(|mode| mode == "Webhook");
        if self.authorization_webhook_config_file.is_some() && !has_webhook {
            bail!("--authorization-webhook-config-file needs Webhook in --authorization-mode");
        }
        if self.authorization_mode == ["Node", "RBAC"] {
            return Ok(server::Authorization::Usual);
        }
        let authorizers: anyhow::Result<Vec<Entry>> =
            self.authorization_mode.iter().map(|mode| self.entry(mode)).collect();
        Ok(server::Authorization::Flags(Box::new(Configuration {
            authorizers: authorizers?,
            ..Configuration::default()
        })))
    }

    /// A mode, as a configuration would have it.
    fn entry(&self, mode: &str) -> anyhow::Result<Entry> {
        if !matches!(mode, "Node" | "RBAC" | "Webhook") {
            bail!("--authorization-mode {mode} is none of Node, RBAC, Webhook");
        }
        let webhook = (mode == "Webhook").then(|| self.webhook()).transpose()?;
        Ok(Entry {
            r#type: mode.to_owned(),
            name: mode.to_lowercase(),
            webhook,
        })
    }

    fn webhook(&self) -> anyhow::Result<WebhookEntry> {
        let file = self.authorization_webhook_config_file.as_ref();
        let file = file.context("the mode Webhook needs --authorization-webhook-config-file")?;
        let file = std::path::absolute(file)?.into_os_string().into_string();
        let file = file
            .ok()
            .context("the path of --authorization-webhook-config-file must be UTF-8")?;
        let (authorized, unauthorized) = (
            self.authorization_webhook_cache_authorized_ttl,
            self.authorization_webhook_cache_unauthorized_ttl,
        );
        Ok(WebhookEntry {
            authorized_ttl: text(authorized),
            unauthorized_ttl: text(unauthorized),
            cache_authorized_requests: Some(!authorized.is_zero()),
            cache_unauthorized_requests: Some(!unauthorized.is_zero()),
            timeout: "30s".to_owned(),
            subject_access_review_version: self.authorization_webhook_version.name().to_owned(),
            failure_policy: "NoOpinion".to_owned(),
            connection_info: ConnectionInfo {
                r#type: "KubeConfigFile".to_owned(),
                kube_config_file: Some(file),
            },
            ..WebhookEntry::default()
        })
    }
}

/// A time as a configuration writes it. One of nothing, which a configuration says otherwise, is not read.
fn text(time: Duration) -> String {
    match time.as_millis() {
        0 => "1s".to_owned(),
        milliseconds => format!("{milliseconds}ms"),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::cli::{Cli, Command};

    fn asked(flags: &[&str]) -> Result<server::Authorization, String> {
        let words = ["wherry", "up"].iter().chain(flags);
        let cli = Cli::try_parse_from(words).map_err(|error| error.to_string())?;
        let Command::Up(up) = cli.command else {
            panic!("it is up");
        };
        up.authorization.config().map_err(|error| error.to_string())
    }

    #[test]
    fn modes_keep_their_order() {
        let flags = [
            "--authorization-mode=Webhook,RBAC",
            "--authorization-webhook-config-file=/w",
        ];
        let server::Authorization::Flags(configuration) = asked(&flags).unwrap() else {
            panic!("flags were given");
        };
        let types: Vec<&str> = configuration
            .authorizers
            .iter()
            .map(|entry| entry.r#type.as_str())
            .collect();
        assert_eq!(types, ["Webhook", "RBAC"]);
        let webhook = configuration.authorizers[0].webhook.as_ref().unwrap();
        assert_eq!(
            (webhook.authorized_ttl.as_str(), webhook.unauthorized_ttl.as_str()),
            ("300000ms", "30000ms")
        );
        assert!(matches!(asked(&[]), Ok(server::Authorization::Usual)));
    }

    #[test]
    fn flags_that_do_not_fit_are_refused_in_words() {
        for (flags, words) in [
            (&["--authorization-mode=ABAC"][..], "is none of Node, RBAC, Webhook"),
            (
                &["--authorization-mode=Webhook"],
                "needs --authorization-webhook-config-file",
            ),
            (
                &["--authorization-webhook-config-file=/w"],
                "needs Webhook in --authorization-mode",
            ),
            (
                &["--authorization-config=/c", "--authorization-mode=RBAC"],
                "cannot be used with",
            ),
            (
                &["--authorization-webhook-cache-authorized-ttl=soon"],
                "it is no time such as 30s",
            ),
        ] {
            let refused = asked(flags).unwrap_err();
            assert!(refused.contains(words), "{flags:?}: {refused}");
        }
    }
}
