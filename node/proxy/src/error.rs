//! Why Services are not served as they should be.

use std::io;
use std::path::PathBuf;

/// Why rules or listeners are not what they should be.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The program is not installed.
    #[error("cannot program Services: nft was not found; install the package \"nftables\"")]
    Missing,
    /// The namespace cannot be entered, or the program cannot be run.
    #[error("cannot run nft{}", in_namespace(.namespace))]
    Run {
        /// The namespace, if not the own one.
        namespace: Option<PathBuf>,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// It did not end.
    #[error("nft did not end within {seconds} seconds")]
    TimedOut {
        /// How long it was waited for.
        seconds: u64,
    },
    /// It refused the rules; the table is as it was.
    #[error("nft refused: {message}")]
    Refused {
        /// What it said first.
        message: String,
    },
    /// The kernel did not give or forget the flows it tracks.
    #[error("cannot forget flows that lead to former endpoints")]
    Flows {
        /// What it says.
        #[source]
        source: io::Error,
    },
    /// Listeners are not as they should be.
    #[error(transparent)]
    Listeners(#[from] crate::HolderError),
    /// Listeners cannot be ended.
    #[error("cannot end the process that listens for Services")]
    EndProcesses {
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// It said something that is not understood.
    #[error("cannot read what nft lists")]
    Unreadable(#[from] serde_json::Error),
}

fn in_namespace(namespace: &Option<PathBuf>) -> String {
    namespace
        .as_ref()
        .map_or_else(String::new, |path| format!(" in the namespace \"{}\"", path.display()))
}
