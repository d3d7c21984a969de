//! The agent's side with real children: this program starts itself as compile child and sandbox host.
//!
//! A process of the agent is played by a `Runtime` that is started and stopped here; since it says nothing to its hosts
//! when it stops, a stop is to them what a crash is. Hosts are found by being children of this process.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "what a test runner reads")]

mod adoption;
mod calls;
#[path = "../../src/host/fixtures.rs"]
mod fixtures;
mod hosts;
mod node;
#[path = "../support/mod.rs"]
mod support;

use std::future::Future;
use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use crate::node::Node;

type Failure = Box<dyn std::error::Error>;
type Test = (&'static str, fn() -> Result<(), Failure>);

const TESTS: [Test; 11] = [
    ("pods_outlive_the_agent_and_are_adopted", || {
        play(adoption::pods_outlive_the_agent_and_are_adopted)
    }),
    ("repeated_calls_change_nothing", || {
        play(calls::repeated_calls_change_nothing)
    }),
    ("a_killed_host_takes_only_its_own_pods_down", || {
        play(hosts::a_killed_host_takes_only_its_own_pods_down)
    }),
    ("a_host_killed_while_the_agent_is_away_is_noticed", || {
        play(adoption::a_host_killed_while_the_agent_is_away_is_noticed)
    }),
    ("after_a_reboot_nothing_stale_is_adopted", || {
        play(adoption::after_a_reboot_nothing_stale_is_adopted)
    }),
    ("a_newer_agent_takes_over_without_harm", || {
        play(adoption::a_newer_agent_takes_over_without_harm)
    }),
    ("bad_images_are_refused_by_naming_what_is_wrong", || {
        play(calls::bad_images_are_refused_by_naming_what_is_wrong)
    }),
    ("a_host_that_does_not_come_up_is_reported", || {
        play(hosts::a_host_that_does_not_come_up_is_reported)
    }),
    ("hosts_without_pods_end", || play(hosts::hosts_without_pods_end)),
    ("down_ends_everything", || play(hosts::down_ends_everything)),
    ("root_gives_hosts_users_and_namespaces", || {
        play(calls::root_gives_hosts_users_and_namespaces)
    }),
];

const DEADLINE: Duration = Duration::from_secs(60);

/// What test runners ask of a test program: `--list`, or names to run.
fn main() -> ExitCode {
    if let Some(code) = support::as_child() {
        return code;
    }
    let words: Vec<_> = std::env::args().skip(1).collect();
    if words.iter().any(|word| word == "broken-host") {
        eprintln!("the sandbox host cannot start: no reason");
        return ExitCode::FAILURE;
    }
    if words.iter().any(|word| word == "--list") {
        if !words.iter().any(|word| word == "--ignored") {
            TESTS.iter().for_each(|(name, _)| println!("{name}: test"));
        }
        return ExitCode::SUCCESS;
    }
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_ansi(false)
        .init();
    let wanted = words.iter().find(|word| !word.starts_with('-'));
    for (name, test) in TESTS
        .iter()
        .filter(|(name, _)| wanted.is_none_or(|wanted| name.contains(wanted.as_str())))
    {
        if let Err(error) = test() {
            eprintln!("{name}: {error}");
            return ExitCode::FAILURE;
        }
        println!("{name}: ok");
    }
    ExitCode::SUCCESS
}

/// Runs one test on a node of its own, within a deadline.
fn play<F: Future<Output = Result<(), Failure>>>(test: impl FnOnce(Arc<Node>) -> F) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let node = Arc::new(Node {
        dir: tempfile::tempdir()?,
    });
    runtime.block_on(async { timeout(DEADLINE, test(Arc::clone(&node))).await? })
}
