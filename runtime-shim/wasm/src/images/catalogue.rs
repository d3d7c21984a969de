//! Which images there are and what they are called. Pure; one JSON file holds it.
//!
//! A name points at a manifest. An image without a name stays until it is removed by its id, as in containerd.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{
    digest::Digest,
    manifest::Execution,
    reference::{Reference, Target},
};

/// The format of the file that this process writes.
const FORMAT: u32 = 1;

/// All images of this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Catalogue {
    format: u32,
    /// By the digest of their manifest.
    images: BTreeMap<Digest, Entry>,
    /// `docker.io/library/hello:1` and the manifest it points at.
    tags: BTreeMap<String, Digest>,
    /// Names without a tag, with the manifests known by them.
    names: BTreeMap<String, BTreeSet<Digest>>,
}

/// One image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// The digest of the configuration of an OCI image, of the manifest of an artifact.
    pub(crate) id: Digest,
    pub(crate) manifest: Digest,
    /// The Wasm binary.
    pub(crate) module: Digest,
    /// What `argv[0]` is when neither image nor pod says.
    pub(crate) module_name: String,
    /// Every blob of the image, the manifest and the module included.
    pub(crate) blobs: BTreeSet<Digest>,
    /// Bytes of those blobs.
    pub(crate) size: u64,
    pub(crate) execution: Execution,
    /// The indexes it was chosen from, by whose digests people name it too.
    #[serde(default)]
    pub(crate) indexes: BTreeSet<Digest>,
}

impl Default for Catalogue {
    fn default() -> Self {
        Self {
            format: FORMAT,
            images: BTreeMap::new(),
            tags: BTreeMap::new(),
            names: BTreeMap::new(),
        }
    }
}

/// The file is of a newer wherry.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the image index has format {found}, newer than {FORMAT} which this version knows")]
pub(crate) struct NewerFormat {
    found: u32,
}

impl Catalogue {
    /// Refuses what a newer version wrote.
    pub(crate) fn check_format(self) -> Result<Self, NewerFormat> {
        if self.format > FORMAT {
            Err(NewerFormat { found: self.format })
        } else {
            Ok(self)
        }
    }

    /// Adds an image under a name; the name no longer points at what it pointed at.
    pub(crate) fn add(&mut self, reference: &Reference, mut entry: Entry) {
        if let Target::Tag(_) = &reference.target {
            self.tags.insert(reference.to_string(), entry.manifest.clone());
        }
        self.names
            .entry(reference.name.clone())
            .or_default()
            .insert(entry.manifest.clone());
        if let Some(known) = self.images.remove(&entry.manifest) {
            entry.indexes.extend(known.indexes);
            entry.blobs.extend(known.blobs);
        }
        self.images.insert(entry.manifest.clone(), entry);
    }

    /// Gives an image another name, if it is still there.
    pub(crate) fn rename(&mut self, reference: &Reference, entry: Entry) -> bool {
        let known = self.images.contains_key(&entry.manifest);
        if known {
            self.add(reference, entry);
        }
        known
    }

    /// The image with this id or digest.
    pub(crate) fn by_id(&self, id: &Digest) -> Option<&Entry> {
        self.images
            .get(id)
            .or_else(|| self.images.values().find(|entry| entry.id == *id))
    }

    /// The image a reference names.
    pub(crate) fn by_reference(&self, reference: &Reference) -> Option<&Entry> {
        let manifest = match &reference.target {
            Target::Tag(_) => self.tags.get(&reference.to_string())?,
            Target::Digest(digest) => {
                let mut known = self.names.get(&reference.name)?.iter();
                known.find(|manifest| self.is_called(manifest, digest))?
            }
        };
        self.images.get(manifest)
    }

    /// Whether a digest is that of the manifest or of an index it was chosen from.
    fn is_called(&self, manifest: &Digest, digest: &str) -> bool {
        let indexes = self.images.get(manifest).into_iter().flat_map(|entry| &entry.indexes);
        manifest.as_str() == digest || indexes.into_iter().any(|index| index.as_str() == digest)
    }

    /// Removes an image with all its names. Answers the blobs that no other image needs.
    pub(crate) fn remove(&mut self, manifest: &Digest) -> Vec<Digest> {
        let Some(entry) = self.images.remove(manifest) else {
            return Vec::new();
        };
        self.tags.retain(|_, target| target != manifest);
        self.names.retain(|_, targets| {
            targets.remove(manifest);
            !targets.is_empty()
        });
        entry.blobs.into_iter().filter(|blob| !self.needs(blob)).collect()
    }

    /// Whether an image consists of this blob.
    pub(crate) fn needs(&self, blob: &Digest) -> bool {
        self.images.values().any(|entry| entry.blobs.contains(blob))
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.images.values()
    }

    /// The image as the kubelet sees it.
    pub(crate) fn describe(&self, entry: &Entry) -> cri::Image {
        let tags = self.tags.iter().filter(|(_, target)| **target == entry.manifest);
        let names = self
            .names
            .iter()
            .filter(|(_, targets)| targets.contains(&entry.manifest));
        let digests = names.flat_map(|(name, _)| {
            let all = entry.indexes.iter().chain([&entry.manifest]);
            all.map(move |digest| format!("{name}@{digest}"))
        });
        cri::Image {
            id: entry.id.to_string(),
            tags: tags.map(|(tag, _)| tag.clone()).collect(),
            digests: digests.collect(),
            size: entry.size,
            pinned: false,
            content: cri::Content::Wasm,
            user: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(manifest: &[u8], blobs: &[&[u8]]) -> Entry {
        let blobs = blobs
            .iter()
            .map(|b| Digest::of(b))
            .chain([Digest::of(manifest)])
            .collect();
        Entry {
            id: Digest::of(manifest),
            manifest: Digest::of(manifest),
            module: Digest::of(b"module"),
            module_name: "hello.wasm".into(),
            blobs,
            size: 10,
            execution: Execution::default(),
            indexes: BTreeSet::new(),
        }
    }

    fn reference(text: &str) -> Reference {
        text.parse().unwrap()
    }

    #[test]
    fn finds_by_tag_digest_and_id() {
        let mut catalogue = Catalogue::default();
        catalogue.add(&reference("hello:1"), entry(b"m1", &[b"a"]));
        let digest = Digest::of(b"m1");
        let by_digest = reference(&format!("hello@{digest}"));
        let other_name = reference(&format!("other@{digest}"));
        assert!(
            catalogue
                .by_reference(&reference("docker.io/library/hello:1"))
                .is_some()
        );
        assert!(catalogue.by_reference(&by_digest).is_some());
        assert!(catalogue.by_reference(&other_name).is_none());
        assert!(catalogue.by_reference(&reference("hello:2")).is_none());
        assert!(catalogue.by_id(&digest).is_some());
        let image = catalogue.describe(catalogue.by_id(&digest).unwrap());
        assert_eq!(image.tags, ["docker.io/library/hello:1"]);
        assert_eq!(image.digests, [format!("docker.io/library/hello@{digest}")]);
    }

    #[test]
    fn an_image_of_an_index_is_found_by_either_digest() {
        let mut catalogue = Catalogue::default();
        let index = Digest::of(b"index");
        let chosen = Entry {
            indexes: [index.clone()].into(),
            ..entry(b"m1", &[b"index"])
        };
        catalogue.add(&reference("hello:1"), chosen);
        catalogue.add(&reference("hello:2"), entry(b"m1", &[]));
        let manifest = Digest::of(b"m1");
        for digest in [&index, &manifest] {
            let by_digest = reference(&format!("hello@{digest}"));
            assert!(catalogue.by_reference(&by_digest).is_some(), "{digest}");
        }
        assert!(catalogue.needs(&index));
        let image = catalogue.describe(catalogue.by_id(&manifest).unwrap());
        let name = "docker.io/library/hello";
        assert_eq!(image.digests, [format!("{name}@{index}"), format!("{name}@{manifest}")]);
    }

    #[test]
    fn a_tag_moves_to_the_newer_image_and_the_older_stays() {
        let mut catalogue = Catalogue::default();
        catalogue.add(&reference("hello:1"), entry(b"m1", &[]));
        catalogue.add(&reference("hello:1"), entry(b"m2", &[]));
        assert_eq!(
            catalogue.by_reference(&reference("hello:1")).unwrap().manifest,
            Digest::of(b"m2")
        );
        let old = catalogue.describe(catalogue.by_id(&Digest::of(b"m1")).unwrap());
        assert!(old.tags.is_empty());
        assert_eq!(old.digests.len(), 1);
    }

    #[test]
    fn an_image_that_is_gone_gets_no_name() {
        let mut catalogue = Catalogue::default();
        let image = entry(b"m1", &[b"a"]);
        assert!(!catalogue.rename(&reference("hello:1"), image.clone()));
        assert_eq!(catalogue, Catalogue::default());
        catalogue.add(&reference("hello:1"), image.clone());
        assert!(catalogue.rename(&reference("hello:2"), image));
        assert!(catalogue.by_reference(&reference("hello:2")).is_some());
    }

    #[test]
    fn removal_frees_only_what_no_other_image_needs() {
        let mut catalogue = Catalogue::default();
        catalogue.add(&reference("a:1"), entry(b"m1", &[b"shared", b"own"]));
        catalogue.add(&reference("b:1"), entry(b"m2", &[b"shared"]));
        let mut freed = catalogue.remove(&Digest::of(b"m1"));
        freed.sort();
        let mut expected = vec![Digest::of(b"own"), Digest::of(b"m1")];
        expected.sort();
        assert_eq!(freed, expected);
        assert!(catalogue.by_reference(&reference("a:1")).is_none());
        assert!(catalogue.remove(&Digest::of(b"m1")).is_empty());
    }

    #[test]
    fn a_newer_file_is_refused() {
        let text = r#"{"format":2,"images":{},"tags":{},"names":{}}"#;
        let catalogue: Catalogue = serde_json::from_str(text).unwrap();
        assert_eq!(catalogue.check_format(), Err(NewerFormat { found: 2 }));
    }
}
