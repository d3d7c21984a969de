//! What a durable write takes on the disk alone, for the figures that hold one: a page appended to a file and synced.

use std::{fs::File, io::Write, path::Path, time::Instant};

use crate::figures::{Durations, print};

/// Pages written.
const COUNT: usize = 100;
const PAGE: [u8; 4096] = [0; 4096];

/// Measures in `directory`, which the store is in, and prints the figures.
pub(crate) fn measure(directory: &Path) -> anyhow::Result<()> {
    let path = directory.join("disk.bench");
    let mut file = File::create(&path)?;
    let mut durations = Durations::default();
    for _ in 0..COUNT {
        let start = Instant::now();
        file.write_all(&PAGE)?;
        file.sync_data()?;
        durations.push(start.elapsed());
    }
    std::fs::remove_file(path)?;
    print(format!("disk fdatasync count={COUNT} {}", durations.summary()));
    Ok(())
}
