//! The network configuration that containerd's CNI reads: ours, in the directory that containerd names.
//!
//! CNI takes the first file of the directory, so ours has a name that comes before others'. Nothing of anybody else's is
//! overwritten, nor made ineffective while somebody needs it: where a containerd runs another's pods on another network,
//! pods of containers are refused with that reason.

use std::{
    io,
    path::{Path, PathBuf},
};

/// The file's name; the first of a directory is the one that counts.
const FILE: &str = "00-wherry.conflist";

/// A CNI configuration list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflist {
    /// Says whose it is.
    pub name: String,
    /// JSON.
    pub text: String,
}

/// Why there is no network for containers.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NetworkError {
    #[error(
        "{} has the network configuration \"{file}\" of somebody else, which counts before wherry's or has pods; give wherry \
         a containerd of its own with --containerd, or remove the file", directory.display()
    )]
    Foreign { directory: PathBuf, file: String },
    #[error("the network configuration {} cannot be written", path.display())]
    Write { path: PathBuf, source: io::Error },
}

/// What is to be done about the file.
#[derive(Debug, PartialEq, Eq)]
enum Plan {
    Keep,
    Write,
    Foreign(String),
}

/// Decides by the configurations that are there, with the content of what has our file's name, and by whether somebody
/// else's pods run.
fn plan(files: &[String], present: Option<&str>, wanted: &Conflist, others: bool) -> Plan {
    let first = files.iter().filter(|name| *name != FILE && is_config(name)).min();
    if let Some(name) = first.filter(|name| name.as_str() < FILE) {
        return Plan::Foreign(name.clone());
    }
    match (present, first) {
        (Some(text), _) if text == wanted.text => Plan::Keep,
        (Some(text), _) if !is_ours(text, &wanted.name) => Plan::Foreign(FILE.to_owned()),
        (None, Some(name)) if others => Plan::Foreign(name.clone()),
        _ => Plan::Write,
    }
}

fn is_config(name: &str) -> bool {
    let extension = Path::new(name).extension().and_then(|extension| extension.to_str());
    matches!(extension, Some("conf" | "conflist" | "json"))
}

fn is_ours(text: &str, name: &str) -> bool {
    let parsed: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
    parsed.get("name").is_some_and(|found| found == name)
}

/// Makes the configuration be as wanted, where `others` says whether somebody else's pods run; answers whether it was
/// changed. Blocks.
pub(crate) fn ensure(directory: &Path, wanted: &Conflist, others: bool) -> Result<bool, NetworkError> {
    let path = directory.join(FILE);
    let failed = |source| NetworkError::Write {
        path: path.clone(),
        source,
    };
    let (files, present) = look(directory).map_err(failed)?;
    match plan(&files, present.as_deref(), wanted, others) {
        Plan::Keep => Ok(false),
        Plan::Foreign(file) => Err(NetworkError::Foreign {
            directory: directory.to_owned(),
            file,
        }),
        Plan::Write => {
            std::fs::create_dir_all(directory).map_err(failed)?;
            // Not a name that CNI reads.
            let new = directory.join(format!("{FILE}.new"));
            std::fs::write(&new, &wanted.text).map_err(failed)?;
            std::fs::rename(&new, &path).map_err(failed)?;
            Ok(true)
        }
    }
}

/// Why the directory cannot be used for a network of this name, if it cannot. Blocks.
pub(crate) fn check(directory: &Path, name: &str, others: bool) -> Result<(), NetworkError> {
    let wanted = Conflist {
        name: name.to_owned(),
        text: String::new(),
    };
    let path = directory.join(FILE);
    let (files, present) = look(directory).map_err(|source| NetworkError::Write { path, source })?;
    match plan(&files, present.as_deref(), &wanted, others) {
        Plan::Foreign(file) => Err(NetworkError::Foreign {
            directory: directory.to_owned(),
            file,
        }),
        Plan::Keep | Plan::Write => Ok(()),
    }
}

/// Removes the file, if it is ours. Blocks.
pub(crate) fn remove(directory: &Path, name: &str) -> io::Result<()> {
    let path = directory.join(FILE);
    match std::fs::read_to_string(&path) {
        Ok(text) if is_ours(&text, name) => std::fs::remove_file(path),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// The names in a directory, and the content of our file.
fn look(directory: &Path) -> io::Result<(Vec<String>, Option<String>)> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((Vec::new(), None)),
        Err(error) => return Err(error),
    };
    let names: io::Result<Vec<String>> = entries
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect();
    match std::fs::read_to_string(directory.join(FILE)) {
        Ok(text) => Ok((names?, Some(text))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok((names?, None)),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conflist(text: &str) -> Conflist {
        Conflist {
            name: "wherry-1".into(),
            text: text.into(),
        }
    }

    #[test]
    fn writes_where_nobody_else_has_a_network() {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path().join("net.d");
        let first = conflist(r#"{"name": "wherry-1", "n": 1}"#);
        assert!(ensure(&at, &first, true).unwrap());
        assert!(!ensure(&at, &first, true).unwrap());
        assert!(ensure(&at, &conflist(r#"{"name": "wherry-1", "n": 2}"#), true).unwrap());
        remove(&at, "wherry-2").unwrap();
        assert!(at.join(FILE).exists());
        remove(&at, "wherry-1").unwrap();
        remove(&at, "wherry-1").unwrap();
        assert_eq!(std::fs::read_dir(&at).unwrap().count(), 0);
    }

    #[test]
    fn leaves_the_networks_of_others_alone() {
        let taken = r#"{"name": "wherry-2"}"#;
        for (file, text, others) in [
            ("00-first.conf", "{}", false),
            (FILE, taken, false),
            ("10-flannel.conflist", "{}", true),
        ] {
            let directory = tempfile::tempdir().unwrap();
            std::fs::write(directory.path().join(file), text).unwrap();
            let refused = ensure(directory.path(), &conflist("{}"), others).unwrap_err();
            assert!(refused.to_string().contains(file), "{refused}");
            assert!(check(directory.path(), "wherry-1", others).is_err());
            assert_eq!(std::fs::read_to_string(directory.path().join(file)).unwrap(), text);
        }
    }

    #[test]
    fn comes_before_a_network_without_pods_and_leaves_its_file() {
        let directory = tempfile::tempdir().unwrap();
        let bridge = directory.path().join("10-bridge.conflist");
        std::fs::write(&bridge, "{}").unwrap();
        check(directory.path(), "wherry-1", false).unwrap();
        let ours = conflist(r#"{"name": "wherry-1"}"#);
        assert!(ensure(directory.path(), &ours, false).unwrap());
        assert!(!ensure(directory.path(), &ours, true).unwrap(), "it stands already");
        assert_eq!(std::fs::read_to_string(bridge).unwrap(), "{}");
    }

    #[test]
    fn what_cni_does_not_read_is_nobodys_network() {
        let files = ["10-x.conflist.bak".to_owned(), "README".to_owned()];
        assert_eq!(plan(&files, None, &conflist("{}"), true), Plan::Write);
    }
}
