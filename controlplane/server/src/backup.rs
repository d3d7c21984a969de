//! Backups: taken of a running control plane over its socket, or of a directory at rest, and made into a new directory.
//!
//! A backup of the embedded store holds the cluster's identity as well: its authorities, the key that signs service account
//! tokens, and the encryption keys, without which its Secrets could not be read. It is as secret as the data directory.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufReader, BufWriter, Read, Write},
    os::unix::{fs::OpenOptionsExt, net::UnixStream},
    path::Path,
};

use store_redb::{Redb, backup::Summary};

use crate::{control, identity};

/// Why there is no backup, or none is restored. Each message is one line.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot write {file}; choose another file, or is its disk full?")]
    Output {
        file: String,
        #[source]
        source: io::Error,
    },
    #[error("cannot read {file}")]
    Input {
        file: String,
        #[source]
        source: io::Error,
    },
    #[error("the control plane does not answer; is it still starting?")]
    Silent(#[source] io::Error),
    #[error("{0}")]
    Refused(String),
    #[error(transparent)]
    Store(#[from] store_redb::backup::Error),
    #[error(transparent)]
    Open(#[from] store_redb::OpenError),
    #[error(transparent)]
    Identity(#[from] identity::Error),
    #[error(transparent)]
    Composed(#[from] Box<crate::Error>),
}

/// Asks the running control plane of `data_dir` something; it answers with the whole of its answer, or says why not.
pub fn ask(data_dir: &Path, word: &str) -> Result<String, Error> {
    let mut answer = String::new();
    let mut stream = connect(data_dir, word)?;
    stream.read_to_string(&mut answer).map_err(Error::Silent)?;
    match answer.strip_prefix(control::FAILED) {
        Some(reason) => Err(Error::Refused(reason.trim().to_owned())),
        None => Ok(answer.trim().to_owned()),
    }
}

/// Takes a backup of the control plane that runs on `data_dir`.
pub fn take_running(data_dir: &Path, file: &Path) -> Result<Summary, Error> {
    let mut stream = BufReader::new(connect(data_dir, "backup")?);
    let begin = io::BufRead::fill_buf(&mut stream).map_err(Error::Silent)?;
    if begin.starts_with(control::FAILED.as_bytes()) {
        let mut reason = String::new();
        stream.read_to_string(&mut reason).map_err(Error::Silent)?;
        let reason = reason.trim_start_matches(control::FAILED).trim().to_owned();
        return Err(Error::Refused(reason));
    }
    write(file, |out| io::copy(&mut stream, out).map(drop))
}

/// Takes a backup of a data directory that nobody uses.
pub fn take_stopped(data_dir: &Path, store: &Path, file: &Path) -> Result<Summary, Error> {
    let identity = control::backed_up_identity(data_dir).map_err(Box::new)?;
    let redb = Redb::open(store, store_redb::Options::default())?;
    let mut taken = None;
    let summary = write(file, |out| {
        taken = Some(redb.backup(&identity, out));
        Ok(())
    });
    match taken {
        Some(Err(error)) => Err(error.into()),
        _ => summary,
    }
}

/// Makes the store at `store` and the identity in `data_dir` of a backup.
pub fn restore(file: &Path, data_dir: &Path, store: &Path) -> Result<Summary, Error> {
    let input = File::open(file).map_err(|source| Error::Input {
        file: file.display().to_string(),
        source,
    })?;
    let (summary, attached) = Redb::restore(store, BufReader::new(&input))?;
    let installed = identity::from_json(&attached).and_then(|files| identity::install(data_dir, &files));
    if let Err(error) = installed {
        let _ = std::fs::remove_file(store);
        return Err(error.into());
    }
    Ok(summary)
}

/// Writes beside the file's place, checks what was written, and moves it there.
fn write(file: &Path, fill: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> Result<Summary, Error> {
    let failed = |source| Error::Output {
        file: file.display().to_string(),
        source,
    };
    let unfinished = file.with_extension("unfinished");
    let opened = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&unfinished);
    let mut out = BufWriter::new(opened.map_err(failed)?);
    let written = fill(&mut out)
        .and_then(|()| out.flush())
        .and_then(|()| out.get_ref().sync_all())
        .map_err(failed)
        .and_then(|()| {
            let input = File::open(&unfinished).map_err(failed)?;
            Ok(store_redb::backup::check(BufReader::new(input))?)
        })
        .and_then(|summary| std::fs::rename(&unfinished, file).map_err(failed).map(|()| summary));
    if written.is_err() {
        let _ = std::fs::remove_file(&unfinished);
    }
    written
}

fn connect(data_dir: &Path, word: &str) -> Result<UnixStream, Error> {
    let mut stream = UnixStream::connect(control::socket(data_dir)).map_err(Error::Silent)?;
    stream
        .write_all(format!("{word}\n").as_bytes())
        .map_err(Error::Silent)?;
    Ok(stream)
}
