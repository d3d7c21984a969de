//! The command line of the service that runs what was typed: the same flags, without those that ask for the service.

use std::{ffi::OsString, path::PathBuf};

use anyhow::Context;
use clap::{ArgMatches, Command, ValueHint, parser::ValueSource};

/// Flags of `up` that say what becomes of the service, not what it does.
const OF_INSTALLING: [&str; 2] = ["install", "install_root"];

/// The words after `wherry` that start what `matches` of `command` (with its subcommand) was. Only what was given is
/// repeated, so that defaults may change; paths are made absolute, since a service starts elsewhere.
pub(crate) fn service_words(command: &Command, matches: &ArgMatches) -> anyhow::Result<Vec<String>> {
    let (name, given) = matches.subcommand().context("a command was given")?;
    let subcommand = command.find_subcommand(name).context("the command is known")?;
    let mut words = vec![name.to_owned()];
    for argument in subcommand.get_arguments().chain(command.get_arguments()) {
        let id = argument.get_id().as_str();
        let was_given = matches!(
            given
                .try_contains_id(id)
                .is_ok()
                .then(|| given.value_source(id))
                .flatten(),
            Some(ValueSource::CommandLine | ValueSource::EnvVariable)
        );
        let Some(flag) = argument
            .get_long()
            .filter(|_| was_given && !OF_INSTALLING.contains(&id))
        else {
            continue;
        };
        if !argument.get_action().takes_values() {
            words.push(format!("--{flag}"));
            continue;
        }
        for value in given.get_raw(id).into_iter().flatten() {
            words.push(format!("--{flag}"));
            words.push(word(argument.get_value_hint(), value.to_owned())?);
        }
    }
    Ok(words)
}

fn word(hint: ValueHint, value: OsString) -> anyhow::Result<String> {
    let value = match hint {
        // `-` stands for a stream, not for a file of that name.
        ValueHint::FilePath | ValueHint::DirPath if value != "-" => {
            std::path::absolute(PathBuf::from(value))?.into_os_string()
        }
        _ => value,
    };
    value
        .into_string()
        .ok()
        .context("the command line of a service must be UTF-8")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::Cli;

    fn words(line: &str) -> Vec<String> {
        let command = Cli::command();
        let matches = command.clone().get_matches_from(line.split(' '));
        service_words(&command, &matches).unwrap()
    }

    #[test]
    fn repeats_what_was_given_and_nothing_else() {
        for (line, expected) in [
            ("wherry up --install", "up"),
            (
                "wherry up --data-dir /srv/w --install --api-bind 0.0.0.0:6443 --no-node --service-cidr 10.97.0.0/16",
                "up --data-dir /srv/w --api-bind 0.0.0.0:6443 --no-node --service-cidr 10.97.0.0/16",
            ),
            (
                "wherry --log-format json up --install --install-root /image --service-node-port-range 20000-20099",
                "up --service-node-port-range 20000-20099 --log-format json",
            ),
            (
                "wherry up --install --oidc-issuer-url https://a.example --oidc-client-id me --oidc-required-claim a=b,c=d",
                "up --oidc-issuer-url https://a.example --oidc-client-id me --oidc-required-claim a=b \
                 --oidc-required-claim c=d",
            ),
        ] {
            assert_eq!(words(line).join(" "), expected);
        }
    }

    #[test]
    fn paths_are_absolute() {
        let here = std::env::current_dir().unwrap();
        let words = words("wherry up --install --kubeconfig admin.conf");
        assert_eq!(words, ["up", "--kubeconfig", here.join("admin.conf").to_str().unwrap()]);
    }
}
