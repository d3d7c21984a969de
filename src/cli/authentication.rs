//! The flags that say who may come, named as those of kube-apiserver.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, bail};
use clap::{ArgAction, Args, ValueEnum, ValueHint};
use server::{
    Issuers, SigningAlgorithm,
    oidc::{ClaimMappings, ClaimRule, Issuer, Jwt, Prefixed},
};

#[derive(Args)]
pub(crate) struct Authentication {
    /// Whether requests without credentials are served, as those of the user `system:anonymous`.
    #[arg(long, value_name = "BOOL", default_value_t = true, action = ArgAction::Set)]
    anonymous_auth: bool,
    /// Whose tokens are believed: an AuthenticationConfiguration of apiserver.config.k8s.io/v1, read again when it changes.
    #[arg(long, value_name = "FILE", conflicts_with = "oidc_issuer_url", value_hint = ValueHint::FilePath)]
    authentication_config: Option<PathBuf>,
    /// An OpenID Connect issuer whose tokens are believed: an https URL.
    #[arg(long, value_name = "URL", requires = "oidc_client_id", value_hint = ValueHint::Url)]
    oidc_issuer_url: Option<String>,
    /// Whom its tokens must be for: their audience.
    #[arg(long, value_name = "ID", requires = "oidc_issuer_url")]
    oidc_client_id: Option<String>,
    /// The claim that is the user's name.
    #[arg(long, value_name = "CLAIM", default_value = "sub", requires = "oidc_issuer_url")]
    oidc_username_claim: String,
    /// What is put before it; `-` is nothing [default: the issuer and `#`, and nothing before an email address].
    #[arg(
        long,
        value_name = "PREFIX",
        requires = "oidc_issuer_url",
        allow_hyphen_values = true
    )]
    oidc_username_prefix: Option<String>,
    /// The claim that is the user's groups: a text or a list of texts.
    #[arg(long, value_name = "CLAIM", requires = "oidc_issuer_url")]
    oidc_groups_claim: Option<String>,
    /// What is put before each.
    #[arg(long, value_name = "PREFIX", requires = "oidc_groups_claim")]
    oidc_groups_prefix: Option<String>,
    /// A claim that tokens must have, with its value. May be repeated.
    #[arg(
        long,
        value_name = "CLAIM=VALUE",
        value_delimiter = ',',
        requires = "oidc_issuer_url"
    )]
    oidc_required_claim: Vec<String>,
    /// How its tokens may be signed: RS256, RS384, RS512, ES256, ES384, ES512, PS256, PS384 or PS512.
    #[arg(
        long,
        value_name = "ALG",
        value_delimiter = ',',
        default_value = "RS256",
        requires = "oidc_issuer_url"
    )]
    oidc_signing_algs: Vec<String>,
    /// Who signs the issuer's own certificate [default: whom this machine trusts].
    #[arg(long, value_name = "FILE", requires = "oidc_issuer_url", value_hint = ValueHint::FilePath)]
    oidc_ca_file: Option<PathBuf>,
    /// A program that is asked about tokens that nobody else knows, by TokenReview: a kubeconfig file that leads to it.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    authentication_token_webhook_config_file: Option<PathBuf>,
    /// How long its answers count.
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = duration)]
    authentication_token_webhook_cache_ttl: Duration,
    /// The version of the TokenReview it is sent.
    #[arg(long, value_enum, default_value = "v1beta1")]
    authentication_token_webhook_version: ReviewVersion,
    #[command(flatten)]
    sign_in: SignIn,
}

/// How people sign in to the dashboard at one of the issuers.
#[derive(Args)]
struct SignIn {
    /// Let people sign in to the dashboard at an issuer whose tokens are believed, as this client; it must be among the
    /// audiences of that issuer.
    #[arg(long, value_name = "ID", requires = "ui_oidc_redirect_url")]
    ui_oidc_client_id: Option<String>,
    /// The client's secret, where it has one.
    #[arg(long, value_name = "FILE", requires = "ui_oidc_client_id", value_hint = ValueHint::FilePath)]
    ui_oidc_client_secret_file: Option<PathBuf>,
    /// Where the issuer sends people back to: the dashboard's own address, as browsers reach it and the issuer knows it,
    /// such as https://cluster.example:6443/ui/.
    #[arg(long, value_name = "URL", requires = "ui_oidc_client_id", value_hint = ValueHint::Url)]
    ui_oidc_redirect_url: Option<String>,
    /// The issuer, where several of --authentication-config have the client among their audiences.
    #[arg(long, value_name = "URL", requires = "ui_oidc_client_id", value_hint = ValueHint::Url)]
    ui_oidc_issuer_url: Option<String>,
    /// What is asked of the issuer; with offline_access some issuers let a session be renewed that otherwise do not.
    #[arg(
        long,
        value_name = "SCOPE",
        value_delimiter = ',',
        default_value = "openid,profile,email",
        requires = "ui_oidc_client_id"
    )]
    ui_oidc_scopes: Vec<String>,
}

impl SignIn {
    fn config(&self) -> anyhow::Result<Option<server::SignIn>> {
        let (Some(client_id), Some(redirect_url)) = (&self.ui_oidc_client_id, &self.ui_oidc_redirect_url) else {
            return Ok(None);
        };
        let file = self.ui_oidc_client_secret_file.as_ref();
        Ok(Some(server::SignIn {
            issuer: self.ui_oidc_issuer_url.clone(),
            client_id: client_id.clone(),
            client_secret_file: file.map(std::path::absolute).transpose()?,
            redirect_url: redirect_url.clone(),
            scopes: self.ui_oidc_scopes.clone(),
        }))
    }
}

/// A version of a review that a program is sent.
#[derive(Clone, Copy, ValueEnum)]
pub(super) enum ReviewVersion {
    V1,
    V1beta1,
}

impl ReviewVersion {
    pub(super) fn name(self) -> &'static str {
        match self {
            ReviewVersion::V1 => "v1",
            ReviewVersion::V1beta1 => "v1beta1",
        }
    }
}

/// A time as Go writes it, such as `1m30s`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let parsed: Option<jiff::SignedDuration> = text.parse().ok();
    let time = parsed.and_then(|parsed| Duration::try_from(parsed).ok());
    time.ok_or_else(|| "it is no time such as 30s or 5m".to_owned())
}

impl Authentication {
    /// What was asked for.
    pub(crate) fn config(&self) -> anyhow::Result<server::Authentication> {
        let issuers = match (&self.authentication_config, &self.oidc_issuer_url) {
            (Some(path), _) => Issuers::File(std::path::absolute(path)?),
            (None, Some(url)) => Issuers::Flags(Box::new(self.issuer(url)?)),
            (None, None) => Issuers::None,
        };
        let webhook = match &self.authentication_token_webhook_config_file {
            None => None,
            Some(file) => Some(server::TokenWebhook {
                file: std::path::absolute(file)?,
                version: self.authentication_token_webhook_version.name(),
                ttl: self.authentication_token_webhook_cache_ttl,
            }),
        };
        Ok(server::Authentication {
            anonymous: self.anonymous_auth,
            issuers,
            webhook,
            sign_in: self.sign_in.config()?,
        })
    }

    /// The issuer of the flags, as a configuration would have it.
    fn issuer(&self, url: &str) -> anyhow::Result<Jwt> {
        let certificate_authority = match &self.oidc_ca_file {
            Some(path) => std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?,
            None => String::new(),
        };
        let username = Prefixed {
            claim: self.oidc_username_claim.clone(),
            prefix: Some(self.username_prefix(url)),
            ..Prefixed::default()
        };
        let groups = match &self.oidc_groups_claim {
            Some(claim) => Prefixed {
                claim: claim.clone(),
                prefix: Some(self.oidc_groups_prefix.clone().unwrap_or_default()),
                ..Prefixed::default()
            },
            None => Prefixed::default(),
        };
        Ok(Jwt {
            issuer: Issuer {
                url: url.to_owned(),
                certificate_authority,
                audiences: self.oidc_client_id.iter().cloned().collect(),
                ..Issuer::default()
            },
            claim_validation_rules: self.required_claims()?,
            claim_mappings: ClaimMappings {
                username,
                groups,
                ..ClaimMappings::default()
            },
            algorithms: self.algorithms()?,
            ..Jwt::default()
        })
    }

    /// As Kubernetes has it: names of two issuers must not be the same, but an email address is one everywhere.
    fn username_prefix(&self, url: &str) -> String {
        match self.oidc_username_prefix.as_deref() {
            Some("-") => String::new(),
            Some(prefix) if !prefix.is_empty() => prefix.to_owned(),
            _ if self.oidc_username_claim == "email" => String::new(),
            _ => format!("{url}#"),
        }
    }

    fn required_claims(&self) -> anyhow::Result<Vec<ClaimRule>> {
        let rule = |pair: &String| {
            let Some((claim, value)) = pair.split_once('=').filter(|(claim, _)| !claim.is_empty()) else {
                bail!("--oidc-required-claim {pair} is not CLAIM=VALUE");
            };
            Ok(ClaimRule {
                claim: claim.to_owned(),
                required_value: value.to_owned(),
                ..ClaimRule::default()
            })
        };
        self.oidc_required_claim.iter().map(rule).collect()
    }

    fn algorithms(&self) -> anyhow::Result<Vec<SigningAlgorithm>> {
        let named = |name: &String| {
            SigningAlgorithm::named(name).with_context(|| {
                let known: Vec<&str> = SigningAlgorithm::ALL.iter().map(|known| known.name()).collect();
                format!("--oidc-signing-algs {name} is none of {}", known.join(", "))
            })
        };
        self.oidc_signing_algs.iter().map(named).collect()
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn asked(flags: &[&str]) -> Result<server::Authentication, String> {
        let words = ["wherry", "up"].iter().chain(flags);
        let cli = Cli::try_parse_from(words).map_err(|error| error.to_string())?;
        let Command::Up(up) = cli.command else {
            panic!("it is up");
        };
        up.authentication.config().map_err(|error| error.to_string())
    }

    fn issuer(flags: &[&str]) -> Jwt {
        let both = ["--oidc-issuer-url=https://a.example", "--oidc-client-id=me"];
        let flags: Vec<&str> = both.iter().chain(flags).copied().collect();
        match asked(&flags).unwrap().issuers {
            Issuers::Flags(jwt) => *jwt,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn names_are_prefixed_as_kubernetes_documents() {
        let prefix = |flags: &[&str]| issuer(flags).claim_mappings.username.prefix.unwrap();
        assert_eq!(prefix(&[]), "https://a.example#");
        assert_eq!(prefix(&["--oidc-username-claim=email"]), "");
        assert_eq!(prefix(&["--oidc-username-prefix=-"]), "");
        assert_eq!(prefix(&["--oidc-username-prefix", "-"]), "");
        assert_eq!(
            prefix(&["--oidc-username-claim=email", "--oidc-username-prefix=oidc:"]),
            "oidc:"
        );
        assert_eq!(issuer(&[]).claim_mappings.groups, Prefixed::default());
        let groups = issuer(&["--oidc-groups-claim=groups", "--oidc-groups-prefix=g:"])
            .claim_mappings
            .groups;
        assert_eq!(
            (groups.claim.as_str(), groups.prefix.as_deref()),
            ("groups", Some("g:"))
        );
    }

    #[test]
    fn flags_that_do_not_fit_are_refused_in_words() {
        for (flags, words) in [
            (&["--oidc-issuer-url=https://a.example"][..], "--oidc-client-id"),
            (&["--oidc-groups-claim=g"], "--oidc-issuer-url"),
            (
                &[
                    "--oidc-issuer-url=https://a.example",
                    "--oidc-client-id=me",
                    "--authentication-config=f",
                ],
                "cannot be used with",
            ),
            (
                &[
                    "--oidc-issuer-url=https://a.example",
                    "--oidc-client-id=me",
                    "--oidc-signing-algs=HS256",
                ],
                "--oidc-signing-algs HS256 is none of ES256",
            ),
            (
                &[
                    "--oidc-issuer-url=https://a.example",
                    "--oidc-client-id=me",
                    "--oidc-required-claim=hd",
                ],
                "is not CLAIM=VALUE",
            ),
        ] {
            let refused = asked(flags).unwrap_err();
            assert!(refused.contains(words), "{flags:?}: {refused}");
        }
        let client = ["--ui-oidc-client-id=ui", "--ui-oidc-redirect-url=https://h/ui/"];
        let sign_in = asked(&client).unwrap().sign_in.unwrap();
        assert_eq!((sign_in.client_id.as_str(), sign_in.scopes.len()), ("ui", 3));
        assert!(asked(&client[..1]).unwrap_err().contains("--ui-oidc-redirect-url"));
        let required = issuer(&["--oidc-required-claim=hd=example.com,a=b=c"]).claim_validation_rules;
        let pairs: Vec<(&str, &str)> = required
            .iter()
            .map(|rule| (rule.claim.as_str(), rule.required_value.as_str()))
            .collect();
        assert_eq!(pairs, [("hd", "example.com"), ("a", "b=c")]);
        assert!(!asked(&["--anonymous-auth=false"]).unwrap().anonymous);
    }
}
