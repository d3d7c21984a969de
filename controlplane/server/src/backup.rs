//! Backups: taken of a running control plane over its socket, or of a directory at rest, and made into a new directory.
//!
//! A backup of the embedded store holds the cluster's identity as well: its authorities, the key that signs service account
//! tokens, and the encryption keys, without which its Secrets could not be read. It is as secret as the data directory.
//! Behind the store come the images of the cluster's own registry, as they were at the moment that the store is of. A backup
//! of before there were images ends with the store, and is restored as ever.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufReader, BufWriter, Read, Write},
    os::unix::{fs::OpenOptionsExt, net::UnixStream},
    path::Path,
};

use image_registry::archive;
use store_redb::{OpenError, Redb};

use crate::{IMAGES, control, identity};

/// What a backup holds, or what was made of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The store's revision, or where the restored one goes on.
    pub revision: store::Revision,
    /// How many keys.
    pub keys: u64,
    /// Images of the cluster's own registry; `None` in a backup of before there were any.
    pub images: Option<archive::Summary>,
}

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
    Open(#[from] OpenError),
    #[error(transparent)]
    Images(#[from] archive::ArchiveError),
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
    let mut failure = None;
    let summary = write(file, |out| {
        let taken = redb.backup(&identity, &mut *out, || ()).map_err(Error::from);
        let taken = taken.and_then(|_| Ok(archive::write_stopped(&data_dir.join(IMAGES), out)?));
        failure = taken.err();
        Ok(())
    });
    match failure {
        Some(error) => Err(error),
        None => summary,
    }
}

/// Makes the store at `store`, and the identity and the images in `data_dir`, of a backup. The store comes last: where it is,
/// all is.
pub fn restore(file: &Path, data_dir: &Path, store: &Path) -> Result<Summary, Error> {
    if store.exists() {
        let path = store.to_owned();
        return Err(OpenError::Exists { path }.into());
    }
    let input = File::open(file).map_err(|source| Error::Input {
        file: file.display().to_string(),
        source,
    })?;
    let making = store.with_extension("restoring");
    let failed = |source| Error::Output {
        file: making.display().to_string(),
        source,
    };
    // What a restore left that was killed.
    match std::fs::remove_file(&making) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let made = make(BufReader::new(input), data_dir, &making).and_then(|summary| {
        std::fs::rename(&making, store).map_err(failed)?;
        sync_directory(store).map_err(failed)?;
        Ok(summary)
    });
    if made.is_err() {
        let _ = std::fs::remove_file(&making);
    }
    made
}

fn make(mut input: impl Read, data_dir: &Path, store: &Path) -> Result<Summary, Error> {
    let (summary, attached) = Redb::restore(store, &mut input)?;
    let files = identity::from_json(&attached)?;
    identity::install(data_dir, &files)?;
    let images = archive::restore(input, &data_dir.join(IMAGES))?;
    Ok(Summary {
        revision: summary.revision,
        keys: summary.keys,
        images,
    })
}

fn sync_directory(of: &Path) -> io::Result<()> {
    of.parent()
        .map_or(Ok(()), |directory| File::open(directory)?.sync_all())
}

/// Reads a backup to its end, to see whether it is whole.
fn check(mut input: impl Read) -> Result<Summary, Error> {
    let store = store_redb::backup::check(&mut input)?;
    Ok(Summary {
        revision: store.revision,
        keys: store.keys,
        images: archive::check(input)?,
    })
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
            check(BufReader::new(input))
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
