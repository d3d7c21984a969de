//! Finding the one `.wasm` among the layers of an OCI image.
//!
//! Layers are tars of whoever made the image. Nothing is unpacked: names are only compared, and the chosen file's bytes
//! go into the content store. Sizes, counts and the length of names are bounded, also of what decompresses.

use std::{
    collections::BTreeMap,
    io::{self, BufRead, BufReader, Read},
};

use flate2::read::MultiGzDecoder;
use tar::{Archive, Entry, EntryType};

use super::manifest::Execution;

/// The most bytes of one layer, decompressed.
pub(crate) const MAX_LAYER: u64 = 2 << 30;
/// The most files of one layer.
const MAX_ENTRIES: usize = 200_000;
/// The longest name, and the longest record that holds one.
const MAX_NAME: u64 = 64 * 1024;

/// Why an image of layers does not run here.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LayerError {
    #[error("its entrypoint \"{entrypoint}\" is not a .wasm file")]
    NotWasm { entrypoint: String },
    #[error("its entrypoint \"{entrypoint}\" is not in the image")]
    Missing { entrypoint: String },
    #[error("it has no entrypoint and {count} .wasm files")]
    NoEntrypoint { count: usize },
    #[error("a layer is compressed with zstd, which is not supported; use gzip")]
    Zstd,
    #[error("a layer is larger than {MAX_LAYER} bytes or has more than {MAX_ENTRIES} files")]
    TooLarge,
    #[error("a layer cannot be read")]
    Io(#[from] io::Error),
}

/// The `.wasm` files of an image and the number of the layer that holds each, as upper layers leave them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct WasmFiles(BTreeMap<String, usize>);

impl WasmFiles {
    /// Lays one more layer above.
    pub(crate) fn lay(&mut self, number: usize, layer: impl Read) -> Result<(), LayerError> {
        let mut added = Vec::new();
        each_file(layer, |name, entry| {
            match whiteout(name) {
                Some(gone) => self
                    .0
                    .retain(|path, _| path != &gone && !path.starts_with(&format!("{gone}/"))),
                None if name.ends_with(".wasm") && entry.header().entry_type().is_file() => added.push(name.to_owned()),
                None => {}
            }
            Ok(true)
        })?;
        self.0.extend(added.into_iter().map(|name| (name, number)));
        Ok(())
    }

    /// The file to run, and its layer.
    pub(crate) fn choose(&self, execution: &Execution) -> Result<(&str, usize), LayerError> {
        let Some(entrypoint) = execution.entrypoint.first().or(execution.cmd.first()) else {
            let mut files = self.0.iter();
            return match (files.next(), files.next()) {
                (Some((path, layer)), None) => Ok((path, *layer)),
                _ => Err(LayerError::NoEntrypoint { count: self.0.len() }),
            };
        };
        check_entrypoint(execution)?;
        let path = match entrypoint.strip_prefix('/') {
            Some(absolute) => normalise(absolute),
            None => normalise(&format!("{}/{entrypoint}", execution.working_dir)),
        };
        let found = self.0.get_key_value(&path).map(|(path, layer)| (path.as_str(), *layer));
        found.ok_or_else(|| LayerError::Missing {
            entrypoint: entrypoint.clone(),
        })
    }
}

/// Refuses an image whose entrypoint is no `.wasm`, before its layers are looked at.
pub(crate) fn check_entrypoint(execution: &Execution) -> Result<(), LayerError> {
    match execution.entrypoint.first().or(execution.cmd.first()) {
        Some(entrypoint) if !entrypoint.ends_with(".wasm") => Err(LayerError::NotWasm {
            entrypoint: entrypoint.clone(),
        }),
        _ => Ok(()),
    }
}

/// Hands the last file of this name in a layer to `take`; false if there is none.
pub(crate) fn extract<T>(
    layer: impl Read,
    path: &str,
    mut take: impl FnMut(&mut dyn Read) -> Result<T, LayerError>,
) -> Result<Option<T>, LayerError> {
    let mut taken = None;
    each_file(layer, |name, entry| {
        if name == path && entry.header().entry_type().is_file() {
            taken = Some(take(entry)?);
        }
        Ok(true)
    })?;
    Ok(taken)
}

/// Calls `visit` for every entry with its normalised name, until it answers false.
fn each_file<R: Read>(
    layer: R,
    mut visit: impl FnMut(&str, &mut dyn TarFile) -> Result<bool, LayerError>,
) -> Result<(), LayerError> {
    let mut archive = Archive::new(decompress(layer)?);
    let mut long_name = None;
    for (count, entry) in archive.entries()?.raw(true).enumerate() {
        let mut entry = entry?;
        if count >= MAX_ENTRIES || entry.raw_file_position() > MAX_LAYER {
            return Err(LayerError::TooLarge);
        }
        match entry.header().entry_type() {
            EntryType::GNULongName => long_name = Some(read_long_name(&mut entry)?),
            EntryType::XHeader => long_name = read_pax_path(&mut entry)?.or(long_name),
            EntryType::GNULongLink | EntryType::XGlobalHeader => {}
            _ => {
                let raw = long_name.take().unwrap_or_else(|| entry.path_bytes().into_owned());
                let name = normalise(&String::from_utf8_lossy(&raw));
                if !visit(&name, &mut entry)? {
                    break;
                }
            }
        }
    }
    Ok(())
}

/// What [`each_file`] shows of an entry, whatever it is read from.
trait TarFile: Read {
    fn header(&self) -> &tar::Header;
}

impl<R: Read> TarFile for Entry<'_, R> {
    fn header(&self) -> &tar::Header {
        Entry::header(self)
    }
}

fn decompress<'a>(layer: impl Read + 'a) -> Result<Box<dyn Read + 'a>, LayerError> {
    let mut layer = BufReader::new(layer);
    let start = layer.fill_buf()?;
    if start.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        return Err(LayerError::Zstd);
    }
    if start.starts_with(&[0x1f, 0x8b]) {
        return Ok(Box::new(MultiGzDecoder::new(layer).take(MAX_LAYER + 1)));
    }
    Ok(Box::new(layer.take(MAX_LAYER + 1)))
}

fn read_long_name(entry: &mut impl Read) -> Result<Vec<u8>, LayerError> {
    let mut name = read_bounded(entry)?;
    while name.last() == Some(&0) {
        name.pop();
    }
    Ok(name)
}

fn read_pax_path(entry: &mut impl Read) -> Result<Option<Vec<u8>>, LayerError> {
    let records = read_bounded(entry)?;
    let path = tar::PaxExtensions::new(&records)
        .flatten()
        .find(|record| record.key_bytes() == b"path");
    Ok(path.map(|record| record.value_bytes().to_vec()))
}

fn read_bounded(entry: &mut impl Read) -> Result<Vec<u8>, LayerError> {
    let mut bytes = Vec::new();
    entry.take(MAX_NAME + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_NAME {
        Err(LayerError::TooLarge)
    } else {
        Ok(bytes)
    }
}

/// The path that a whiteout removes from the layers below: a file, or all of an opaque directory.
fn whiteout(name: &str) -> Option<String> {
    let (directory, file) = name.rsplit_once('/').unwrap_or(("", name));
    let gone = file.strip_prefix(".wh.")?;
    Some(match (gone, directory) {
        (".wh..opq", directory) => directory.to_owned(),
        (gone, "") => gone.to_owned(),
        (gone, directory) => format!("{directory}/{gone}"),
    })
}

/// A path relative to the root, without `.`, and with `..` never leaving it.
fn normalise(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, content) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, name, *content).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn run(entrypoint: &[&str], working_dir: &str) -> Execution {
        let entrypoint = entrypoint.iter().map(|s| (*s).to_owned()).collect();
        Execution {
            entrypoint,
            working_dir: working_dir.to_owned(),
            ..Execution::default()
        }
    }

    #[test]
    fn the_uppermost_layer_decides() {
        let mut files = WasmFiles::default();
        files
            .lay(
                0,
                &*tar(&[("app.wasm", b"old"), ("old/a.wasm", b""), ("gone.wasm", b"")]),
            )
            .unwrap();
        files
            .lay(
                1,
                &*gzip(&tar(&[
                    ("app.wasm", b"new"),
                    (".wh.gone.wasm", b""),
                    ("old/.wh..wh..opq", b""),
                ])),
            )
            .unwrap();
        assert_eq!(files.choose(&run(&["/app.wasm"], "")).unwrap(), ("app.wasm", 1));
        assert_eq!(files.choose(&run(&[], "")).unwrap(), ("app.wasm", 1));
        assert_eq!(files.choose(&run(&["app.wasm"], "/./")).unwrap(), ("app.wasm", 1));
    }

    #[test]
    fn says_why_an_image_does_not_run() {
        let mut files = WasmFiles::default();
        files.lay(0, &*tar(&[("a.wasm", b""), ("b.wasm", b"")])).unwrap();
        let text = |execution: &Execution| files.choose(execution).unwrap_err().to_string();
        assert_eq!(
            text(&run(&["/bin/sh", "-c"], "")),
            "its entrypoint \"/bin/sh\" is not a .wasm file"
        );
        assert_eq!(
            text(&run(&["/c.wasm"], "")),
            "its entrypoint \"/c.wasm\" is not in the image"
        );
        assert_eq!(text(&run(&[], "")), "it has no entrypoint and 2 .wasm files");
    }

    #[test]
    fn long_names_are_read_and_bounded() {
        let long = format!("{}/app.wasm", "d".repeat(150));
        let layer = tar(&[(&long, b"x")]);
        let content = extract(&*layer, &long, |file| {
            let mut text = String::new();
            file.read_to_string(&mut text)?;
            Ok(text)
        });
        assert_eq!(content.unwrap().as_deref(), Some("x"));
        let too_long = tar(&[(&"n".repeat(70_000), b"")]);
        assert!(matches!(
            WasmFiles::default().lay(0, &*too_long),
            Err(LayerError::TooLarge)
        ));
    }

    #[test]
    fn zstd_is_named() {
        let error = WasmFiles::default()
            .lay(0, &[0x28u8, 0xb5, 0x2f, 0xfd, 0][..])
            .unwrap_err();
        assert!(matches!(error, LayerError::Zstd));
    }

    proptest! {
        #[test]
        fn no_path_leaves_the_root(path in "[a./]{0,20}") {
            let normal = normalise(&path);
            prop_assert!(!normal.starts_with('/') && !normal.split('/').any(|part| part == ".." || part == "."));
            prop_assert_eq!(normalise(&normal), normal.clone());
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2048)) {
            let _ = WasmFiles::default().lay(0, &*bytes);
        }

        #[test]
        fn damaged_tars_never_panic(position in 0usize..1024, byte in any::<u8>()) {
            let mut layer = tar(&[("a.wasm", b"content")]);
            if let Some(place) = layer.get_mut(position) { *place = byte; }
            let _ = WasmFiles::default().lay(0, &*layer);
        }
    }
}
