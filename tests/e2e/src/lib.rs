//! The real binary with real kubectl, for end-to-end tests: each test has a cluster of its own in a network namespace of
//! its own, so that tests share nothing and leave nothing behind.
//!
//! Needs root (network namespaces, nftables); [`Cluster::start`] answers `None` without it, and says so loudly.

mod cluster;
mod containerd;
pub mod document;
mod going;
pub mod oci;
mod process;
mod reader;
mod ways;

pub use cluster::{Cluster, Machine, Options, User, binary};
pub use containerd::{Containerd, PAUSE, Release};
pub use going::Going;
pub use process::{Output, Tool, kill, run, until};
pub use reader::{Reader, etcd};
pub use ways::{WAYS, Way};

/// Skips the test with a line on stderr where it cannot run.
#[macro_export]
macro_rules! need_root {
    () => {
        if !$crate::is_root() {
            eprintln!("SKIPPED: {} needs root for network namespaces", module_path!());
            return;
        }
    };
}

/// Makes of each function of [`Options`] two tests: one with root, one as an ordinary user of the same machine.
#[macro_export]
macro_rules! with_and_without_root {
    ($($name:ident),* $(,)?) => {
        mod as_root {
            $(#[test] fn $name() {
                $crate::need_root!();
                super::$name($crate::Options::default());
            })*
        }
        mod as_a_user {
            $(#[test] fn $name() {
                $crate::need_root!();
                super::$name($crate::Options::as_a_user());
            })*
        }
    };
}

/// Whether this process may make network namespaces.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// A cluster without a node.
pub fn control_plane() -> Options {
    Options {
        arguments: vec!["--no-node".into()],
        ..Options::default()
    }
}

/// The repository's root.
pub fn repository() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .expect("the checkout exists")
}
