//! Which cluster this node belongs to: the UID of its `kube-system` namespace, kept in a file.
//!
//! A server that answers with another cluster's store (restored wrongly, or an address that was given away) lists no
//! pods of ours. Ending them then would be a disaster, so nothing that such a list lacks is ended.

use std::{
    io,
    path::{Path, PathBuf},
};

use api::NamespacedName;
use client::{Client, MetaObject, kinds};

/// The identity of the cluster that this node serves.
pub(crate) struct Cluster {
    file: PathBuf,
    known: Option<String>,
}

/// What a look at the API gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is our cluster, as of now.
    Ours,
    /// It is another cluster: its lists say nothing about our pods.
    Foreign,
    /// It does not answer, or has no `kube-system` yet.
    Unknown,
}

impl Cluster {
    /// Reads what is known from the data directory.
    ///
    /// # Errors
    /// The file is there but cannot be read.
    pub(crate) fn open(data_dir: &Path) -> io::Result<Self> {
        let file = data_dir.join("cluster-uid");
        let known = match std::fs::read_to_string(&file) {
            Ok(text) => Some(text.trim().to_owned()).filter(|uid| !uid.is_empty()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        Ok(Self { file, known })
    }

    /// Asks the API which cluster it is; the first one that answers is ours from then on.
    pub(crate) async fn verify(&mut self, client: &Client) -> Verdict {
        let found = client
            .get_opt::<MetaObject>(&kinds::NAMESPACE, &NamespacedName::cluster("kube-system"))
            .await;
        match found {
            Ok(Some(namespace)) => self.judge(&namespace.metadata.uid),
            Ok(None) if self.known.is_some() => Verdict::Foreign,
            Ok(None) | Err(_) => Verdict::Unknown,
        }
    }

    fn judge(&mut self, uid: &str) -> Verdict {
        if let Some(known) = &self.known {
            return if known == uid { Verdict::Ours } else { Verdict::Foreign };
        }
        if let Err(error) = write(&self.file, uid) {
            tracing::warn!(file = %self.file.display(), %error, "cannot record which cluster this node belongs to");
        }
        self.known = Some(uid.to_owned());
        Verdict::Ours
    }
}

fn write(file: &Path, uid: &str) -> io::Result<()> {
    let fresh = file.with_extension("new");
    std::fs::write(&fresh, format!("{uid}\n"))?;
    std::fs::rename(fresh, file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_cluster_is_ours_and_stays_so() {
        let dir = tempfile::tempdir().expect("dir");
        let mut cluster = Cluster::open(dir.path()).expect("opens");
        assert_eq!(cluster.judge("a"), Verdict::Ours);
        assert_eq!(cluster.judge("b"), Verdict::Foreign);
        let mut reopened = Cluster::open(dir.path()).expect("opens");
        assert_eq!(
            (reopened.judge("b"), reopened.judge("a")),
            (Verdict::Foreign, Verdict::Ours)
        );
    }
}
