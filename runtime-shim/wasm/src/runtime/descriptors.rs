//! Opening a container's log, and what can go wrong with what a container is given (`mounts` opens the rest).

use std::{
    fs::OpenOptions,
    io,
    os::{fd::OwnedFd, unix::fs::OpenOptionsExt},
    path::{Component, Path, PathBuf},
};

use super::mounts::MAX_MOUNTS;

/// What cannot be handed over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DescriptorError {
    #[error("log path \"{path}\" leaves the pod's log directory")]
    LogOutside { path: String },
    #[error("log file {path} cannot be opened", path = path.display())]
    Log { path: PathBuf, source: io::Error },
    #[error("volume {path} cannot be opened", path = path.display())]
    Volume { path: PathBuf, source: io::Error },
    #[error("volume {path} is neither a directory nor a file", path = path.display())]
    Kind { path: PathBuf },
    #[error(
        "the image volume at {path} cannot be mounted into a Wasm container; containers of OCI images have such volumes"
    )]
    Image { path: String },
    #[error("{count} volume mounts are more than the {max} that a container can have", max = MAX_MOUNTS)]
    TooMany { count: usize },
}

/// The absolute path of a container's log; empty where either side is, and the log is not wanted.
pub(crate) fn log_path(directory: &str, relative: &str) -> Result<PathBuf, DescriptorError> {
    let inside = Path::new(relative)
        .components()
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    match inside {
        true if directory.is_empty() || relative.is_empty() => Ok(PathBuf::new()),
        true => Ok(Path::new(directory).join(relative)),
        false => Err(DescriptorError::LogOutside {
            path: relative.to_owned(),
        }),
    }
}

/// Opens a log for appending; made if it is absent. Without a path it goes nowhere.
pub(crate) fn open_log(path: &Path) -> Result<OwnedFd, DescriptorError> {
    let path = match path.as_os_str().is_empty() {
        true => Path::new("/dev/null"),
        false => path,
    };
    let file = OpenOptions::new().append(true).create(true).mode(0o640).open(path);
    file.map(OwnedFd::from).map_err(|source| DescriptorError::Log {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, File},
        io::Write,
    };

    use super::*;

    #[test]
    fn logs_stay_in_their_directory() {
        assert_eq!(
            log_path("/logs/pod", "c/0.log").unwrap(),
            Path::new("/logs/pod/c/0.log")
        );
        for bad in ["../x", "/etc/x", "c/../../x"] {
            assert!(
                matches!(log_path("/logs/pod", bad), Err(DescriptorError::LogOutside { .. })),
                "{bad}"
            );
        }
    }

    #[test]
    fn a_log_that_nobody_wants_goes_nowhere() {
        for (directory, relative) in [("", "c/0.log"), ("/logs/pod", ""), ("", "")] {
            let path = log_path(directory, relative).unwrap();
            File::from(open_log(&path).unwrap()).write_all(b"line\n").unwrap();
            assert_eq!(path, Path::new(""), "{directory:?} {relative:?}");
        }
    }

    #[test]
    fn logs_are_appended_to() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        for _ in 0..2 {
            File::from(open_log(&path).unwrap()).write_all(b"line\n").unwrap();
        }
        assert_eq!(fs::read(&path).unwrap(), b"line\nline\n");
    }
}
