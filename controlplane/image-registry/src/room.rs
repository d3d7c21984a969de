//! How much may still be stored: so many bytes in all, and never the last of the disk, which holds the cluster's own data too.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The part of the disk that is left free, in hundredths.
const LEFT_FREE: u64 = 5;

/// Why there is no room.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Full {
    #[error(
        "the image registry is full: it holds {} of {}; delete images that nobody needs (kubectl get images -A), or raise \
         --image-registry-limit",
        bytes(*.used),
        bytes(*.limit)
    )]
    Limit { used: u64, limit: u64 },
    #[error("the disk of the image registry is full: make room on the file system of {}, or delete images", .0.display())]
    Disk(PathBuf),
}

/// The room of one registry.
#[derive(Debug)]
pub(crate) struct Room {
    directory: PathBuf,
    limit: u64,
    used: AtomicU64,
}

/// Bytes that are taken until this is dropped.
#[derive(Debug)]
pub(crate) struct Taken {
    room: Arc<Room>,
    bytes: u64,
}

impl Room {
    pub(crate) fn new(directory: PathBuf, limit: u64, used: u64) -> Arc<Self> {
        Arc::new(Self {
            directory,
            limit,
            used: AtomicU64::new(used),
        })
    }

    /// Nothing yet, to which more may be added.
    pub(crate) fn taken(self: &Arc<Self>) -> Taken {
        Taken {
            room: self.clone(),
            bytes: 0,
        }
    }

    /// What was stored is no more.
    pub(crate) fn give_back(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    #[cfg(test)]
    pub(crate) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    fn take(&self, bytes: u64) -> Result<(), Full> {
        let more = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= self.limit);
        if let Err(used) = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more) {
            return Err(Full::Limit {
                used,
                limit: self.limit,
            });
        }
        // A file system that does not say how full it is says so when it is.
        let full = rustix::fs::statvfs(&self.directory).is_ok_and(|fs| {
            let free = fs.f_bavail.saturating_mul(fs.f_frsize);
            free.saturating_sub(bytes) < fs.f_blocks.saturating_mul(fs.f_frsize) / 100 * LEFT_FREE
        });
        if full {
            self.give_back(bytes);
            return Err(Full::Disk(self.directory.clone()));
        }
        Ok(())
    }

    /// The words for a disk that turned out to be full.
    pub(crate) fn full_disk(&self) -> Full {
        Full::Disk(self.directory.clone())
    }
}

impl Taken {
    /// Takes more.
    pub(crate) fn add(&mut self, bytes: u64) -> Result<(), Full> {
        self.room.take(bytes)?;
        self.bytes += bytes;
        Ok(())
    }

    /// It is stored: whoever removes it gives it back.
    pub(crate) fn keep(mut self) {
        self.bytes = 0;
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.room.give_back(self.bytes);
    }
}

/// Bytes as people read them.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let (mut value, mut unit) = (count as f64, "bytes");
    for next in UNITS {
        if value < 1024.0 {
            break;
        }
        (value, unit) = (value / 1024.0, next);
    }
    let text = format!("{value:.1}");
    format!("{} {unit}", text.strip_suffix(".0").unwrap_or(&text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_given_back_unless_it_is_kept() {
        let directory = tempfile::tempdir().expect("a directory");
        let room = Room::new(directory.path().to_owned(), 100, 10);
        let mut taken = room.taken();
        taken.add(50).expect("there is room");
        assert_eq!(taken.add(41), Err(Full::Limit { used: 60, limit: 100 }));
        assert_eq!(room.used(), 60);
        drop(taken);
        assert_eq!(room.used(), 10);
        let mut taken = room.taken();
        taken.add(90).expect("there is room");
        taken.keep();
        assert_eq!(room.used(), 100);
        room.give_back(90);
        assert_eq!(room.used(), 10);
    }

    #[test]
    fn says_what_to_do() {
        let full = Full::Limit {
            used: 3 << 29,
            limit: 2 << 30,
        };
        assert!(
            full.to_string()
                .starts_with("the image registry is full: it holds 1.5 GiB of 2 GiB;"),
            "{full}"
        );
        assert_eq!(
            (bytes(0), bytes(1023), bytes(1 << 20)),
            ("0 bytes".into(), "1023 bytes".into(), "1 MiB".into())
        );
    }
}
