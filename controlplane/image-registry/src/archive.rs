//! A registry within a backup: its catalogue as it was at one moment, and the content that it names. Blocks on the disk.
//!
//! While a backup is written the registry goes on. What is pushed meanwhile is not in it; what is deleted meanwhile stays on
//! the disk until the backup has it. Whoever reads one believes nothing: lengths are those that the catalogue names, every
//! digest is checked, and a directory is made of it as a whole or not at all.
//!
//! | part      | bytes                                                                  |
//! |-----------|------------------------------------------------------------------------|
//! | mark      | [`MARK`]                                                               |
//! | catalogue | u32 length, the catalogue as JSON                                      |
//! | content   | for each: 1, 64 hexadecimal digits of its SHA-256, u64 length, itself  |
//! | end       | 0, u64 number of contents, SHA-256 of all before this                  |

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use ::store::summed::{Damage, Summed};

use crate::catalogue::Catalogue;
use crate::digest::{Digest, Hasher};
use crate::store::{self, BLOBS, INDEX, Pinned, Store};

const MARK: &[u8] = b"wherry images 1\n";
/// The longest catalogue that is believed.
const LONGEST: u32 = 256 << 20;
const PIECE: usize = 256 << 10;

/// How much of images a backup holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Names of images.
    pub images: u64,
    /// Bytes of their content.
    pub bytes: u64,
}

/// Why images are not part of a backup, or none are made of it. Each message is one line.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    #[error("cannot write the images of the backup; is its disk full?")]
    Output(#[source] io::Error),
    #[error("cannot read the image registry {}", directory.display())]
    Read {
        directory: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Open(#[from] store::OpenError),
    #[error(
        "{image} of the image registry is damaged: its content {digest} is not what was pushed; delete it or push it again"
    )]
    Damaged { image: String, digest: String },
    #[error("the backup's images are not whole: {0}; take another one")]
    Input(String),
    #[error("{} holds images already; move it away, or restore elsewhere", .0.display())]
    Exists(PathBuf),
    #[error("cannot write {}", directory.display())]
    Make {
        directory: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl From<Damage> for ArchiveError {
    fn from(damage: Damage) -> Self {
        ArchiveError::Input(damage.to_string())
    }
}

/// A registry that stands still.
pub struct Still<'a>(pub(crate) store::Held<'a>);

/// The images of one moment. Their content stays until this is dropped.
pub struct Moment(Pinned);

impl Still<'_> {
    /// Has the registry go on, and what it held kept.
    pub fn go_on(self) -> Moment {
        Moment(self.0.pin())
    }
}

impl Moment {
    /// Writes the images.
    ///
    /// # Errors
    /// They cannot be read or written, or are not what was pushed.
    pub fn write(&self, out: impl Write) -> Result<Summary, ArchiveError> {
        write(&self.0.store.root, &self.0.catalogue, out)
    }
}

/// Writes the images of a directory that nobody uses, which may not be there.
///
/// # Errors
/// They cannot be read or written, or are not what was pushed.
pub fn write_stopped(directory: &Path, out: impl Write) -> Result<Summary, ArchiveError> {
    write(directory, &store::load(&directory.join(INDEX))?, out)
}

/// Reads the images of a backup, which begins with them, to their end; `None` where it ends before them.
///
/// # Errors
/// They are not whole.
pub fn check(input: impl Read) -> Result<Option<Summary>, ArchiveError> {
    let Some((mut input, catalogue)) = begin(input)? else {
        return Ok(None);
    };
    let expected = catalogue.content();
    let summary = contents(&mut input, &catalogue, expected, |_, _| Ok(io::sink()), |_| Ok(()))?;
    Ok(Some(summary))
}

/// Makes `directory` of the images of a backup; nothing where the backup ends before them. What cannot be restored leaves
/// nothing behind.
///
/// # Errors
/// They are not whole, the directory holds images already, or cannot be written.
pub fn restore(input: impl Read, directory: &Path) -> Result<Option<Summary>, ArchiveError> {
    if store::load(&directory.join(INDEX))?.names() > 0 {
        return Err(ArchiveError::Exists(directory.to_owned()));
    }
    let Some((mut input, catalogue)) = begin(input)? else {
        return Ok(None);
    };
    let making = directory.with_extension("unfinished");
    let failed = |source| ArchiveError::Make {
        directory: directory.to_owned(),
        source,
    };
    remove(&making).map_err(failed)?;
    let made = make(&making, &mut input, &catalogue).and_then(|summary| {
        // What is there holds no image, or we had not come here.
        remove(directory).map_err(failed)?;
        fs::rename(&making, directory).map_err(failed)?;
        store::sync_directory(directory).map_err(failed)?;
        Ok(summary)
    });
    if made.is_err() {
        let _ = remove(&making);
    }
    made.map(Some)
}

fn make(directory: &Path, input: &mut Summed<impl Read>, catalogue: &Catalogue) -> Result<Summary, ArchiveError> {
    let failed = |source| ArchiveError::Make {
        directory: directory.to_owned(),
        source,
    };
    let blobs = directory.join(BLOBS);
    fs::create_dir_all(&blobs).map_err(failed)?;
    let open = |digest: &Digest, _| store::create(&blobs.join(digest.hex())).map_err(failed);
    let close = |file: File| file.sync_all().map_err(failed);
    let summary = contents(input, catalogue, catalogue.content(), open, close)?;
    let bytes = serde_json::to_vec(catalogue).map_err(|error| failed(error.into()))?;
    store::replace(&directory.join(INDEX), &bytes).map_err(failed)?;
    File::open(&blobs).and_then(|blobs| blobs.sync_all()).map_err(failed)?;
    Ok(summary)
}

fn write(root: &Path, catalogue: &Catalogue, out: impl Write) -> Result<Summary, ArchiveError> {
    let mut out = Summed::new(out);
    let bytes = serde_json::to_vec(catalogue).map_err(|error| ArchiveError::Output(error.into()))?;
    out.all(&[MARK])
        .and_then(|()| out.put_sized(&bytes))
        .map_err(ArchiveError::Output)?;
    let needed = catalogue.content();
    let mut summary = Summary {
        images: catalogue.names(),
        bytes: 0,
    };
    for (digest, size) in &needed {
        out.all(&[&[1], digest.hex().as_bytes(), &size.to_be_bytes()])
            .map_err(ArchiveError::Output)?;
        one(root, catalogue, digest, *size, &mut out)?;
        summary.bytes = summary.bytes.saturating_add(*size);
    }
    out.all(&[&[0], &(needed.len() as u64).to_be_bytes()])
        .and_then(|()| out.seal())
        .map_err(ArchiveError::Output)?;
    Ok(summary)
}

/// Writes one content; what the disk has made of it is found out before anybody relies on the backup.
fn one(
    root: &Path,
    catalogue: &Catalogue,
    digest: &Digest,
    size: u64,
    out: &mut Summed<impl Write>,
) -> Result<(), ArchiveError> {
    let damaged = || ArchiveError::Damaged {
        image: catalogue.needing(digest).unwrap_or_default(),
        digest: digest.to_string(),
    };
    let read = |source| ArchiveError::Read {
        directory: root.to_owned(),
        source,
    };
    let file = match File::open(root.join(BLOBS).join(digest.hex())) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(damaged()),
        file => file.map_err(read)?,
    };
    let (mut file, mut hasher, mut left) = (file.take(size), Hasher::default(), size);
    let mut piece = vec![0; PIECE];
    loop {
        let count = file.read(&mut piece).map_err(read)?;
        let Some(bytes) = piece.get(..count).filter(|bytes| !bytes.is_empty()) else {
            break;
        };
        hasher.update(bytes);
        out.all(&[bytes]).map_err(ArchiveError::Output)?;
        left = left.saturating_sub(count as u64);
    }
    match left == 0 && hasher.digest() == *digest {
        true => Ok(()),
        false => Err(damaged()),
    }
}

/// The catalogue; `None` at the end of the input.
fn begin<R: Read>(input: R) -> Result<Option<(Summed<R>, Catalogue)>, ArchiveError> {
    let mut input = Summed::new(input);
    let mark = input.at_most(MARK.len())?;
    if mark.is_empty() {
        return Ok(None);
    }
    if mark != MARK {
        return Err(ArchiveError::Input("they do not begin as images do".to_owned()));
    }
    let bytes = input.sized(LONGEST)?;
    let catalogue: Catalogue =
        serde_json::from_slice(&bytes).map_err(|error| ArchiveError::Input(format!("the catalogue: {error}")))?;
    let catalogue = catalogue
        .check()
        .map_err(|newer| ArchiveError::Input(newer.to_string()))?;
    Ok(Some((input, catalogue)))
}

/// Takes each content, which must be one that is expected, to what `open` makes for it; then the end.
fn contents<W: Write>(
    input: &mut Summed<impl Read>,
    catalogue: &Catalogue,
    mut expected: BTreeMap<Digest, u64>,
    open: impl Fn(&Digest, u64) -> Result<W, ArchiveError>,
    close: impl Fn(W) -> Result<(), ArchiveError>,
) -> Result<Summary, ArchiveError> {
    let wrong = |why: String| Err(ArchiveError::Input(why));
    let mut summary = Summary {
        images: catalogue.names(),
        bytes: 0,
    };
    let all = expected.len() as u64;
    while input.exactly(1)? == [1] {
        let hex = input.exactly(64)?;
        let digest = format!("sha256:{}", String::from_utf8_lossy(&hex)).parse::<Digest>();
        let size = input.number()?;
        let Some(digest) = digest.ok().filter(|digest| expected.get(digest) == Some(&size)) else {
            return wrong("they hold what no image of theirs needs".to_owned());
        };
        expected.remove(&digest);
        let mut to = open(&digest, size)?;
        let (mut left, mut hasher) = (size, Hasher::default());
        while left > 0 {
            let wanted = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
            let bytes = input.exactly(wanted)?;
            hasher.update(&bytes);
            to.write_all(&bytes).map_err(ArchiveError::Output)?;
            left -= wanted as u64;
        }
        if hasher.digest() != digest {
            return wrong(format!("{digest} is not what it was"));
        }
        close(to)?;
        summary.bytes = summary.bytes.saturating_add(size);
    }
    if input.number()? != all || !expected.is_empty() {
        return wrong("content is missing".to_owned());
    }
    input.finish()?;
    Ok(summary)
}

fn remove(directory: &Path) -> io::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

impl Store {
    /// Stands still until the answer goes on.
    pub(crate) fn stand_still(self: &std::sync::Arc<Self>) -> Still<'_> {
        Still(self.hold())
    }
}

#[cfg(test)]
mod tests;
