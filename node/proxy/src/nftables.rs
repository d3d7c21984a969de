//! One table in one namespace, kept as it should be through `nft`, the one program that is run.
//!
//! What was applied last is remembered, so that a change costs a transaction of its own size. At first, from time to
//! time, and after a failure nothing is taken for known: the table is read by name and made right as a whole.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use serde::Deserialize;
use tokio::io::AsyncWriteExt;
use tokio::process::Command as Process;

use crate::Error;
use crate::ruleset::{Command, Names, Ruleset, Script, TableName, adopt, difference, replace};

/// Where `nft` may be: services are often started with a short PATH.
const PROGRAMS: [&str; 3] = ["nft", "/usr/sbin/nft", "/sbin/nft"];
/// Five thousand Services take three seconds.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A table and what is known of it.
#[derive(Debug)]
pub(crate) struct Table {
    name: TableName,
    nft: Nft,
    known: Known,
}

#[derive(Debug)]
enum Known {
    Nothing,
    /// It has been applied and nothing else has touched the table that we know of.
    Applied(Ruleset),
    /// Making the best of what was there has failed.
    Spoilt,
}

impl Table {
    pub(crate) fn new(name: TableName, namespace: Option<PathBuf>) -> Self {
        Table {
            name,
            nft: Nft { namespace },
            known: Known::Nothing,
        }
    }

    /// Where it is, if not in the own namespace.
    pub(crate) fn namespace(&self) -> Option<&Path> {
        self.nft.namespace.as_deref()
    }

    /// Forgets what was applied, so that the next [`Table::apply`] looks at the table itself.
    pub(crate) fn doubt(&mut self) {
        if matches!(self.known, Known::Applied(_)) {
            self.known = Known::Nothing;
        }
    }

    /// Makes the table hold `desired`. Where it does already, as far as is known, looks whether there is a table: one
    /// `nft flush ruleset` takes away everybody's. On failure the table is as it was.
    pub(crate) async fn apply(&mut self, desired: Ruleset) -> Result<(), Error> {
        let names;
        let (commands, on_failure) = match &self.known {
            Known::Applied(applied) if *applied == desired => {
                if self.nft.tables().await?.contains(&self.name) {
                    return Ok(());
                }
                tracing::warn!(table = %self.name.0, "somebody has removed the Service rules");
                (replace(&desired), Known::Nothing)
            }
            Known::Applied(applied) => match difference(applied, &desired) {
                Some(commands) => (commands, Known::Nothing),
                None => (replace(&desired), Known::Nothing),
            },
            Known::Nothing => {
                names = self.nft.names(&self.name).await?;
                (adopt(&names, &desired), Known::Spoilt)
            }
            Known::Spoilt => (replace(&desired), Known::Spoilt),
        };
        tracing::debug!(table = %self.name.0, commands = commands.len(), "changing Service rules");
        match self.nft.load(&Script(&self.name, &commands).to_string()).await {
            Ok(()) => {
                self.known = Known::Applied(desired);
                Ok(())
            }
            Err(error) => {
                self.known = on_failure;
                Err(error)
            }
        }
    }

    /// Removes the table, if it is there.
    pub(crate) async fn remove(&self) -> Result<(), Error> {
        if !self.nft.tables().await?.contains(&self.name) {
            return Ok(());
        }
        self.nft
            .load(&Script(&self.name, &[Command::DeleteTable]).to_string())
            .await
    }
}

/// The program, in one namespace.
#[derive(Debug)]
struct Nft {
    namespace: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Listing {
    nftables: Vec<Listed>,
}

/// One of the objects that are listed; each has one of these.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Listed {
    table: Option<Named>,
    chain: Option<Named>,
    set: Option<Named>,
    map: Option<Named>,
}

#[derive(Deserialize)]
struct Named {
    family: String,
    name: String,
}

impl Nft {
    async fn load(&self, script: &str) -> Result<(), Error> {
        self.run(&["-f", "-"], script).await.map(drop)
    }

    async fn tables(&self) -> Result<Vec<TableName>, Error> {
        let listing: Listing = serde_json::from_slice(&self.run(&["-j", "list", "tables"], "").await?)?;
        let tables = listing.nftables.into_iter().filter_map(|listed| listed.table);
        Ok(tables
            .map(|table| TableName(format!("{} {}", table.family, table.name)))
            .collect())
    }

    /// What a table has, without its elements; nothing where there is no such table.
    async fn names(&self, table: &TableName) -> Result<Names, Error> {
        if !self.tables().await?.contains(table) {
            return Ok(Names::default());
        }
        let mut arguments = vec!["-j", "-t", "list", "table"];
        arguments.extend(table.0.split(' '));
        let listing: Listing = serde_json::from_slice(&self.run(&arguments, "").await?)?;
        let mut names = Names::default();
        for Listed { chain, set, map, .. } in listing.nftables {
            names.chains.extend(chain.map(|chain| chain.name));
            names.sets.extend(set.or(map).map(|set| set.name));
        }
        Ok(names)
    }

    async fn run(&self, arguments: &[&str], input: &str) -> Result<Vec<u8>, Error> {
        match tokio::time::timeout(TIMEOUT, self.run_to_end(arguments, input)).await {
            Ok(result) => result,
            Err(_) => Err(Error::TimedOut {
                seconds: TIMEOUT.as_secs(),
            }),
        }
    }

    async fn run_to_end(&self, arguments: &[&str], input: &str) -> Result<Vec<u8>, Error> {
        let failed = |source| Error::Run {
            namespace: self.namespace.clone(),
            source,
        };
        let mut child = self.spawn(arguments)?;
        let stdin = child.stdin.take();
        let feed = async {
            let Some(mut stdin) = stdin else { return Ok(()) };
            match stdin.write_all(input.as_bytes()).await {
                // It has ended early, and says why.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
                fed => fed,
            }
        };
        let (fed, output) = tokio::join!(feed, child.wait_with_output());
        fed.map_err(failed)?;
        let output = output.map_err(failed)?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let message = said.lines().next().unwrap_or("no reason was given").to_owned();
        Err(Error::Refused { message })
    }

    fn spawn(&self, arguments: &[&str]) -> Result<tokio::process::Child, Error> {
        let failed = |source| Error::Run {
            namespace: self.namespace.clone(),
            source,
        };
        for program in PROGRAMS {
            let mut process = Process::new(program);
            process.args(arguments).env("LC_ALL", "C").kill_on_drop(true);
            process
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped());
            if let Some(namespace) = &self.namespace {
                enter(&mut process, namespace).map_err(failed)?;
            }
            match process.spawn() {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                spawned => return spawned.map_err(failed),
            }
        }
        Err(Error::Missing)
    }
}

/// Lets the child enter a network namespace before it becomes the program. Our own threads stay where they are.
fn enter(process: &mut Process, namespace: &Path) -> io::Result<()> {
    let namespace = File::open(namespace)?;
    // SAFETY: setns is a system call and nothing else, which may be made between fork and exec.
    unsafe { process.pre_exec(move || setns(&namespace, CloneFlags::CLONE_NEWNET).map_err(io::Error::from)) };
    Ok(())
}

#[cfg(test)]
mod tests;
