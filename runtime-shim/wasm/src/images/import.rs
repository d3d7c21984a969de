//! Making an image of a `.wasm` file or of an archive.
//!
//! What is neither Wasm nor an archive is taken as a Wasm binary all the same: compiling it says what is wrong with it,
//! and the pod that names the image shows that.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, BufReader, Cursor, Read, Seek},
    path::PathBuf,
};

use serde_json::json;

use super::{
    StoreError,
    blobs::{BlobError, Blobs},
    catalogue::Entry,
    digest::Digest,
    layer::{LayerError, WasmFiles, extract},
    layout::{self, LayoutError, MAX_DOCUMENT, document},
    manifest::{Descriptor, Execution, Form, ImageConfig, Manifest, TITLE, WASM_CONFIG, WASM_LAYER},
    reference::Reference,
};
use crate::protocol::compiled::MAX_BINARY;

/// Where a tar has its magic.
const TAR_MAGIC: std::ops::Range<usize> = 257..262;
/// The most layers of an image.
const MAX_LAYERS: usize = 128;

/// What is imported.
#[derive(Debug)]
pub(crate) enum Content {
    File(PathBuf),
    Bytes(bytes::Bytes),
}

/// Why content cannot be imported.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ImportError {
    #[error("file {path} cannot be read", path = path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("it cannot be read")]
    Content(#[from] io::Error),
    #[error("the archive cannot be imported")]
    Layout(#[from] LayoutError),
    #[error("the content cannot be stored")]
    Blob(#[from] BlobError),
    /// A container image that is not ours to run.
    #[error("it is an OCI container image without a Wasm program")]
    ContainerImage(#[source] LayerError),
    #[error("the image has more than {MAX_LAYERS} layers")]
    TooManyLayers,
    #[error("layer {digest} cannot be used")]
    Layer { digest: Digest, source: LayerError },
    #[error(transparent)]
    Store(StoreError),
}

trait ReadSeek: Read + Seek {}
impl<T: Read + Seek> ReadSeek for T {}

/// Stores content and describes the image in it.
pub(super) fn import(blobs: &Blobs, name: &Reference, content: Content) -> Result<Entry, ImportError> {
    let mut content = open(content)?;
    match sniff(&mut content)? {
        Kind::Binary => import_binary(blobs, name, &mut content),
        Kind::Tar => import_archive(blobs, name, content),
        Kind::GzippedTar => import_archive(blobs, name, flate2::read::MultiGzDecoder::new(content)),
    }
}

fn open(content: Content) -> Result<Box<dyn ReadSeek>, ImportError> {
    match content {
        Content::Bytes(bytes) => Ok(Box::new(Cursor::new(bytes))),
        Content::File(path) => match File::open(&path).and_then(regular) {
            Ok(file) => Ok(Box::new(BufReader::new(file))),
            Err(source) => Err(ImportError::File { path, source }),
        },
    }
}

/// A pipe or a device could block for ever.
fn regular(file: File) -> io::Result<File> {
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::other("not a regular file"))
    }
}

enum Kind {
    Binary,
    Tar,
    GzippedTar,
}

fn sniff(content: &mut impl ReadSeek) -> Result<Kind, ImportError> {
    let mut start = Vec::new();
    content.by_ref().take(512).read_to_end(&mut start)?;
    content.rewind()?;
    Ok(match start.as_slice() {
        [0x1f, 0x8b, ..] => Kind::GzippedTar,
        start if start.get(TAR_MAGIC) == Some(b"ustar") => Kind::Tar,
        _ => Kind::Binary,
    })
}

/// Wraps a Wasm binary as CNCF's artifact format has it.
fn import_binary(blobs: &Blobs, name: &Reference, content: &mut impl Read) -> Result<Entry, ImportError> {
    let title = format!("{}.wasm", name.short_name());
    let (module, module_size) = blobs.put(content, MAX_BINARY, None)?;
    let mut layer = Descriptor::new(WASM_LAYER, module.clone(), module_size);
    layer.annotations.insert(TITLE.to_owned(), title.clone());
    let config = json!({"architecture": "wasm", "os": "wasip2", "layerDigests": [&module]});
    let (config, config_size) = put_json(blobs, &config)?;
    let manifest = Manifest::artifact(layer, Descriptor::new(WASM_CONFIG, config.clone(), config_size));
    let (manifest, manifest_size) = put_json(blobs, &manifest)?;
    Ok(Entry {
        id: manifest.clone(),
        module: module.clone(),
        module_name: title,
        size: module_size + config_size + manifest_size,
        blobs: BTreeSet::from([module, config, manifest.clone()]),
        manifest,
        execution: Execution::default(),
        indexes: BTreeSet::new(),
    })
}

fn put_json(blobs: &Blobs, value: &impl serde::Serialize) -> Result<(Digest, u64), ImportError> {
    let bytes = serde_json::to_vec(value).map_err(io::Error::from)?;
    Ok(blobs.put(&mut bytes.as_slice(), MAX_DOCUMENT, None)?)
}

fn import_archive(blobs: &Blobs, name: &Reference, archive: impl Read) -> Result<Entry, ImportError> {
    let layout = layout::read(archive, blobs)?;
    let (digest, manifest) = layout.manifest(&name.to_string(), blobs)?;
    for member in members(&digest, &manifest) {
        layout.check(&member)?;
    }
    let indexes = BTreeSet::new();
    assemble(
        blobs,
        name,
        &Pulled {
            digest,
            manifest,
            indexes,
        },
    )
}

/// A manifest whose blobs are in the store.
#[derive(Debug)]
pub(crate) struct Pulled {
    pub(crate) digest: Digest,
    pub(crate) manifest: Manifest,
    /// The indexes it was chosen from; in the store too.
    pub(crate) indexes: BTreeSet<Digest>,
}

/// Describes the image of a manifest, and takes its binary out of its layers where it has some.
pub(super) fn assemble(blobs: &Blobs, name: &Reference, pulled: &Pulled) -> Result<Entry, ImportError> {
    let digest = &pulled.digest;
    let mut entry = match pulled.manifest.form().map_err(LayoutError::Manifest)? {
        Form::Artifact { layer } => from_artifact(name, digest, &layer),
        Form::Image { config, layers } => from_image(blobs, digest, &config, &layers)?,
    };
    entry.blobs.extend(members(digest, &pulled.manifest));
    entry.blobs.extend(pulled.indexes.iter().cloned());
    entry.indexes.clone_from(&pulled.indexes);
    entry.size = entry
        .blobs
        .iter()
        .map(|blob| blobs.size(blob))
        .sum::<Result<u64, _>>()?;
    Ok(entry)
}

/// The manifest and all that it names.
fn members(digest: &Digest, manifest: &Manifest) -> Vec<Digest> {
    let named = manifest
        .config
        .iter()
        .chain(&manifest.layers)
        .map(|descriptor| descriptor.digest.clone());
    named.chain([digest.clone()]).collect()
}

fn from_artifact(name: &Reference, manifest: &Digest, layer: &Descriptor) -> Entry {
    let title = layer
        .annotations
        .get(TITLE)
        .and_then(|title| title.rsplit('/').next())
        .filter(|t| !t.is_empty());
    Entry {
        id: manifest.clone(),
        manifest: manifest.clone(),
        module: layer.digest.clone(),
        module_name: title.map_or_else(|| format!("{}.wasm", name.short_name()), str::to_owned),
        blobs: BTreeSet::new(),
        size: 0,
        execution: Execution::default(),
        indexes: BTreeSet::new(),
    }
}

fn from_image(
    blobs: &Blobs,
    manifest: &Digest,
    config: &Descriptor,
    layers: &[Descriptor],
) -> Result<Entry, ImportError> {
    if layers.len() > MAX_LAYERS {
        return Err(ImportError::TooManyLayers);
    }
    let image: ImageConfig = document("the image's configuration", &blobs.read(&config.digest, MAX_DOCUMENT)?)?;
    let mut files = WasmFiles::default();
    for (number, layer) in layers.iter().enumerate() {
        let failed = |source| ImportError::Layer {
            digest: layer.digest.clone(),
            source,
        };
        files.lay(number, blobs.open_blob(&layer.digest)?).map_err(failed)?;
    }
    let (path, number) = files.choose(&image.config).map_err(ImportError::ContainerImage)?;
    let layer = layers
        .get(number)
        .map(|layer| layer.digest.clone())
        .unwrap_or_else(|| manifest.clone());
    let failed = |source| ImportError::Layer {
        digest: layer.clone(),
        source,
    };
    let module = extract(blobs.open_blob(&layer)?, path, |file| {
        Ok(blobs.put(&mut &mut *file, MAX_BINARY, None))
    })
    .map_err(failed)?
    .ok_or_else(|| {
        failed(LayerError::Missing {
            entrypoint: path.to_owned(),
        })
    })?;
    let (module, _) = module?;
    Ok(Entry {
        id: config.digest.clone(),
        manifest: manifest.clone(),
        module: module.clone(),
        module_name: format!("/{path}"),
        blobs: BTreeSet::from([module]),
        size: 0,
        execution: image.config,
        indexes: BTreeSet::new(),
    })
}
