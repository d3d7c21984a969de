//! Directories that volumes of the class `local-path` are. They are made when first used, and removed when the volume's
//! object is gone, which is when nobody may ask for the data any more.

use std::path::{Path, PathBuf};

use api::NamespacedName;
use client::{Client, kinds};
use serde::de::IgnoredAny;

/// The annotation by which a node tells the provisioner where its directories lie.
pub(crate) const ANNOTATION: &str = "wherry.dev/storage";
/// What the provisioner's names begin with: no other directory is ever touched.
const PREFIX: &str = "pvc-";

/// Where the directories lie.
pub(crate) fn root(data_dir: &Path) -> PathBuf {
    data_dir.join("storage")
}

/// Removes the directories whose volumes are gone from the API, which must have proved to be our cluster's.
pub(crate) async fn collect(client: &Client, data_dir: &Path) {
    for directory in directories(&root(data_dir)) {
        let name = directory.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let volume = client
            .get_opt::<IgnoredAny>(&kinds::PERSISTENT_VOLUME, &NamespacedName::cluster(name))
            .await;
        match volume {
            Ok(Some(_)) => continue,
            Ok(None) => {}
            Err(error) => {
                tracing::debug!(
                    volume = name,
                    error = &error as &dyn std::error::Error,
                    "is the volume gone?"
                );
                continue;
            }
        }
        tracing::info!(volume = name, "removing the directory of a volume that is gone");
        let removed = crate::blocking::run({
            let directory = directory.clone();
            // Links in it are removed, not followed.
            move || std::fs::remove_dir_all(directory)
        });
        if let Ok(Err(error)) = removed.await {
            tracing::warn!(volume = name, %error, "cannot remove the directory of a volume");
        }
    }
}

fn directories(root: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root).into_iter().flatten().flatten();
    let ours = entries.filter(|entry| {
        let name = entry.file_name();
        name.to_str().is_some_and(|name| name.starts_with(PREFIX)) && entry.file_type().is_ok_and(|kind| kind.is_dir())
    });
    ours.map(|entry| entry.path()).collect()
}

#[cfg(test)]
mod tests {
    use client::fake::Fake;
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn a_directory_goes_with_its_volume_and_nothing_else_does() {
        let (api, dir) = (Fake::new(), tempfile::tempdir().expect("dir"));
        let root = root(dir.path());
        for name in ["pvc-kept", "pvc-gone", "own"] {
            std::fs::create_dir_all(root.join(name)).expect("dir");
            std::fs::write(root.join(name).join("file"), "x").expect("file");
        }
        api.put(&kinds::PERSISTENT_VOLUME, json!({"metadata": {"name": "pvc-kept"}}));
        collect(&api.client(), dir.path()).await;
        assert!(root.join("pvc-kept/file").exists() && root.join("own/file").exists());
        assert!(!root.join("pvc-gone").exists());
    }
}
