//! Which images there are: names that point to manifests, and what those consist of. Pure: a change is made to a copy, which
//! is written down before it is shown.
//!
//! Every manifest has a name as long as it is here: its tags, or else its digest. Whoever deletes the last name deletes the
//! image. A tag that moves on leaves the image it pointed to under its digest, as every registry does.

use std::collections::{BTreeMap, BTreeSet};

use api::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::digest::Digest;
use crate::name::{Repository, Target};

/// The format of the file.
const FORMAT: u32 = 1;

/// All images, as they are written down.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Catalogue {
    pub(crate) format: u32,
    /// Rises with every change.
    pub(crate) revision: u64,
    /// By `NAMESPACE/NAME:TAG` or `NAMESPACE/NAME@DIGEST`.
    names: BTreeMap<String, Entry>,
    /// By `NAMESPACE/NAME@DIGEST`.
    manifests: BTreeMap<String, Manifest>,
}

/// A name, and what it points to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) digest: Digest,
    pub(crate) uid: String,
    pub(crate) created: Timestamp,
    /// Of its last change.
    pub(crate) revision: u64,
}

/// A piece of content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Blob {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
}

/// What an image consists of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Manifest {
    pub(crate) media_type: String,
    pub(crate) size: u64,
    pub(crate) config: Blob,
    pub(crate) layer: Blob,
    /// What the program says of itself.
    pub(crate) program: Value,
    /// Who brought it.
    pub(crate) pushed_by: String,
}

/// What happened to a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Added,
    Modified,
    Deleted,
}

/// A change of one name; what it pointed to last, or points to now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) kind: Kind,
    pub(crate) revision: u64,
    pub(crate) named: Named,
}

/// A name with all that is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) namespace: String,
    /// `NAME:TAG` or `NAME@DIGEST`.
    pub(crate) name: String,
    pub(crate) entry: Entry,
    pub(crate) manifest: Manifest,
}

/// The file is of a later version.
#[derive(Debug, thiserror::Error)]
#[error("it has format {found}; this version knows {FORMAT} at most")]
pub(crate) struct Newer {
    found: u32,
}

impl Default for Catalogue {
    fn default() -> Self {
        Self {
            format: FORMAT,
            revision: 1,
            names: BTreeMap::new(),
            manifests: BTreeMap::new(),
        }
    }
}

impl Catalogue {
    pub(crate) fn check(self) -> Result<Self, Newer> {
        match self.format > FORMAT {
            true => Err(Newer { found: self.format }),
            false => Ok(self),
        }
    }

    /// The image of a name, or of a digest whatever it is called.
    pub(crate) fn find(&self, repository: &Repository, target: &Target) -> Option<(Digest, &Manifest)> {
        let digest = match target {
            Target::Digest(digest) => digest.clone(),
            tag => self.names.get(&key(repository, tag))?.digest.clone(),
        };
        let manifest = self.manifests.get(&by_digest(repository, &digest))?;
        Some((digest, manifest))
    }

    /// The object of that very name.
    pub(crate) fn named(&self, repository: &Repository, target: &Target) -> Option<Named> {
        let key = key(repository, target);
        let entry = self.names.get(&key)?;
        self.describe(&key, entry)
    }

    /// All objects, in one namespace or everywhere, by their names.
    pub(crate) fn list(&self, namespace: Option<&str>) -> Vec<Named> {
        let wanted = |key: &&String| {
            let of = key.split_once('/').map(|(of, _)| of);
            namespace.is_none() || of == namespace
        };
        let names = self.names.iter().filter(|(key, _)| wanted(key));
        names.filter_map(|(key, entry)| self.describe(key, entry)).collect()
    }

    /// The tags of a repository; `None` where there is no such.
    pub(crate) fn tags(&self, repository: &Repository) -> Option<Vec<String>> {
        let beginning = format!("{repository}:");
        let known = self.manifests.keys().any(|key| is_of(key, repository));
        let tags = self.names.keys().filter_map(|key| key.strip_prefix(&beginning));
        known.then(|| tags.map(str::to_owned).collect())
    }

    /// Whether content belongs to an image of a repository: what is other people's is not shown.
    pub(crate) fn holds(&self, repository: &Repository, digest: &Digest) -> Option<u64> {
        let mut manifests = self.manifests.iter().filter(|(key, _)| is_of(key, repository));
        manifests.find_map(|(_, manifest)| {
            let blobs = [&manifest.config, &manifest.layer];
            blobs
                .into_iter()
                .find(|blob| blob.digest == *digest)
                .map(|blob| blob.size)
        })
    }

    /// All content that some image needs.
    pub(crate) fn needs(&self) -> BTreeSet<Digest> {
        let manifests = self
            .manifests
            .keys()
            .filter_map(|key| key.split_once('@')?.1.parse().ok());
        let parts = self.manifests.values();
        let parts = parts.flat_map(|manifest| [&manifest.config, &manifest.layer]);
        manifests.chain(parts.map(|blob| blob.digest.clone())).collect()
    }

    /// As it was read at a revision of a store: what was changed by the write that made it has that revision.
    pub(crate) fn settled(mut self, at: u64) -> Self {
        for entry in self.names.values_mut().filter(|entry| entry.revision == 0) {
            entry.revision = at;
        }
        self.revision = at;
        self
    }

    /// As it is written to a store, which only then says its revision: what was changed since another stands there as 0.
    pub(crate) fn unsettled(&self, since: u64) -> Self {
        let mut copy = self.clone();
        for entry in copy.names.values_mut().filter(|entry| entry.revision > since) {
            entry.revision = 0;
        }
        copy.revision = 0;
        copy
    }

    /// Has a repository be as it is elsewhere since a revision.
    pub(crate) fn replace(&mut self, repository: &Repository, part: Option<&Catalogue>, revision: u64) -> Vec<Change> {
        let before = self.of(repository);
        self.names.retain(|key, _| !is_of(key, repository));
        self.manifests.retain(|key, _| !is_of(key, repository));
        if let Some(part) = part {
            let names = part.names.iter().filter(|(key, _)| is_of(key, repository));
            self.names
                .extend(names.map(|(key, entry)| (key.clone(), entry.clone())));
            let manifests = part.manifests.iter().filter(|(key, _)| is_of(key, repository));
            self.manifests
                .extend(manifests.map(|(key, manifest)| (key.clone(), manifest.clone())));
        }
        self.revision = self.revision.max(revision);
        let after = self.of(repository);
        let change = |kind, named: &Named| Change {
            kind,
            revision,
            named: named.clone(),
        };
        let mut changes = Vec::new();
        for (_, was) in before.iter().filter(|(name, was)| !lives_on(was, after.get(*name))) {
            let mut gone = change(Kind::Deleted, was);
            gone.named.entry.revision = revision;
            changes.push(gone);
        }
        for (name, named) in &after {
            match before.get(name) {
                Some(was) if !lives_on(was, Some(named)) => changes.push(change(Kind::Added, named)),
                Some(was) if was == named => {}
                Some(_) => changes.push(change(Kind::Modified, named)),
                None => changes.push(change(Kind::Added, named)),
            }
        }
        changes
    }

    /// The objects of a repository.
    fn of(&self, repository: &Repository) -> BTreeMap<String, Named> {
        let names = self.names.iter().filter(|(key, _)| is_of(key, repository));
        names
            .filter_map(|(key, entry)| Some((key.clone(), self.describe(key, entry)?)))
            .collect()
    }

    /// All repositories.
    pub(crate) fn repositories(&self) -> BTreeSet<Repository> {
        let names = self.manifests.keys().filter_map(|key| key.split(['@', ':']).next());
        names
            .filter_map(|name| {
                let (namespace, name) = name.split_once('/')?;
                Repository::new(namespace, name).ok()
            })
            .collect()
    }

    /// Bytes of all content where repositories share none.
    pub(crate) fn held(&self) -> u64 {
        let mut held: BTreeMap<(&str, &str), u64> = BTreeMap::new();
        for (key, manifest) in &self.manifests {
            let Some((repository, digest)) = key.split_once('@') else {
                continue;
            };
            held.insert((repository, digest), manifest.size);
            for blob in [&manifest.config, &manifest.layer] {
                held.insert((repository, blob.digest.as_str()), blob.size);
            }
        }
        held.values().sum()
    }

    /// All content that some image needs, with its size.
    pub(crate) fn content(&self) -> BTreeMap<Digest, u64> {
        let documents = self.manifests.iter().filter_map(|(key, manifest)| {
            let digest = key.split_once('@')?.1.parse().ok()?;
            Some((digest, manifest.size))
        });
        let parts = self.manifests.values();
        let parts = parts.flat_map(|manifest| [&manifest.config, &manifest.layer]);
        documents
            .chain(parts.map(|blob| (blob.digest.clone(), blob.size)))
            .collect()
    }

    /// An image that needs a content.
    pub(crate) fn needing(&self, digest: &Digest) -> Option<String> {
        let needs = |(key, manifest): &(&String, &Manifest)| {
            key.ends_with(digest.as_str()) || manifest.config.digest == *digest || manifest.layer.digest == *digest
        };
        self.manifests.iter().find(needs).map(|(key, _)| key.clone())
    }

    /// How many names there are.
    pub(crate) fn names(&self) -> u64 {
        self.names.len() as u64
    }

    pub(crate) fn count(&self) -> usize {
        self.manifests.len()
    }

    /// Adds an image under a name.
    pub(crate) fn put(
        &mut self,
        repository: &Repository,
        target: &Target,
        digest: &Digest,
        manifest: Manifest,
        now: Timestamp,
    ) -> Vec<Change> {
        self.manifests.insert(by_digest(repository, digest), manifest);
        let mut changes = Vec::new();
        if let Target::Tag(_) = target {
            changes.extend(self.point(key(repository, target), digest, now));
        }
        changes.extend(self.settle(repository, now));
        changes
    }

    /// Removes a name, and the image with its last; a digest has all its names removed. `None` where there is no such.
    pub(crate) fn remove(&mut self, repository: &Repository, target: &Target, now: Timestamp) -> Option<Vec<Change>> {
        let named: Vec<String> = match target {
            Target::Digest(digest) => {
                let wanted = |(key, entry): &(&String, &Entry)| is_of(key, repository) && entry.digest == *digest;
                self.names.iter().filter(wanted).map(|(key, _)| key.clone()).collect()
            }
            tag => self
                .names
                .contains_key(&key(repository, tag))
                .then(|| key(repository, tag))
                .into_iter()
                .collect(),
        };
        let digest = self.names.get(named.first()?)?.digest.clone();
        let mut changes: Vec<Change> = named.iter().filter_map(|key| self.forget(key)).collect();
        let left = self
            .names
            .iter()
            .any(|(key, entry)| is_of(key, repository) && entry.digest == digest);
        if !left {
            self.manifests.remove(&by_digest(repository, &digest));
        }
        changes.extend(self.settle(repository, now));
        Some(changes)
    }

    /// Has a name point to a digest.
    fn point(&mut self, key: String, digest: &Digest, now: Timestamp) -> Option<Change> {
        let before = self.names.get(&key);
        if before.is_some_and(|entry| entry.digest == *digest) {
            return None;
        }
        self.revision += 1;
        let kind = if before.is_some() { Kind::Modified } else { Kind::Added };
        let entry = Entry {
            digest: digest.clone(),
            uid: before.map_or_else(|| uuid::Uuid::new_v4().to_string(), |entry| entry.uid.clone()),
            created: before.map_or(now, |entry| entry.created),
            revision: self.revision,
        };
        let named = self.describe(&key, &entry)?;
        self.names.insert(key, entry);
        Some(Change {
            kind,
            revision: self.revision,
            named,
        })
    }

    fn forget(&mut self, key: &str) -> Option<Change> {
        let mut entry = self.names.remove(key)?;
        self.revision += 1;
        entry.revision = self.revision;
        let named = self.describe(key, &entry)?;
        Some(Change {
            kind: Kind::Deleted,
            revision: self.revision,
            named,
        })
    }

    /// Gives manifests without a tag their digest as a name, and takes it from those that have one.
    fn settle(&mut self, repository: &Repository, now: Timestamp) -> Vec<Change> {
        let of = |key: &&String| is_of(key, repository);
        let tags = self.names.iter().filter(|(key, _)| of(key) && !key.contains('@'));
        let tagged: BTreeSet<Digest> = tags.map(|(_, entry)| entry.digest.clone()).collect();
        let all: Vec<String> = self.manifests.keys().filter(of).cloned().collect();
        let mut changes = Vec::new();
        for key in all {
            let Some(digest) = key
                .split_once('@')
                .and_then(|(_, digest)| digest.parse::<Digest>().ok())
            else {
                continue;
            };
            match (tagged.contains(&digest), self.names.contains_key(&key)) {
                (true, true) => changes.extend(self.forget(&key)),
                (false, false) => changes.extend(self.point(key, &digest, now)),
                _ => {}
            }
        }
        changes
    }

    fn describe(&self, key: &str, entry: &Entry) -> Option<Named> {
        let (namespace, name) = key.split_once('/')?;
        let repository = name.split(['@', ':']).next()?;
        let manifest = self
            .manifests
            .get(&format!("{namespace}/{repository}@{}", entry.digest))?;
        Some(Named {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            entry: entry.clone(),
            manifest: manifest.clone(),
        })
    }
}

/// Whether it is the same object still.
fn lives_on(was: &Named, is: Option<&Named>) -> bool {
    is.is_some_and(|is| is.entry.uid == was.entry.uid)
}

fn key(repository: &Repository, target: &Target) -> String {
    format!("{repository}{}", target.suffix())
}

fn by_digest(repository: &Repository, digest: &Digest) -> String {
    format!("{repository}@{digest}")
}

fn is_of(key: &str, repository: &Repository) -> bool {
    key.split(['@', ':']).next() == Some(&repository.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn now() -> Timestamp {
        "2026-01-01T12:00:00Z".parse().expect("a time")
    }

    fn hello() -> Repository {
        Repository::new("team", "hello").expect("a name")
    }

    fn tag(text: &str) -> Target {
        text.parse().expect("a tag")
    }

    fn manifest(layer: &[u8]) -> Manifest {
        let blob = |content: &[u8]| Blob {
            digest: Digest::of(content),
            size: content.len() as u64,
        };
        Manifest {
            media_type: "application/vnd.oci.image.manifest.v1+json".to_owned(),
            size: 1,
            config: blob(b"config"),
            layer: blob(layer),
            program: json!({}),
            pushed_by: "ann".to_owned(),
        }
    }

    /// `+name`, `*name` and `-name` of changes, digests cut.
    fn told(changes: &[Change]) -> Vec<String> {
        let sign = |kind| match kind {
            Kind::Added => '+',
            Kind::Modified => '*',
            Kind::Deleted => '-',
        };
        let short = |name: &str| {
            name.split("@").next().map(|n| {
                if name.contains('@') {
                    format!("{n}@")
                } else {
                    n.to_owned()
                }
            })
        };
        changes
            .iter()
            .filter_map(|c| Some(format!("{}{}", sign(c.kind), short(&c.named.name)?)))
            .collect()
    }

    #[test]
    fn a_tag_that_moves_on_leaves_its_image_under_the_digest() {
        let mut all = Catalogue::default();
        let [one, two] = [b"1", b"2"].map(|content| Digest::of(content));
        assert_eq!(
            told(&all.put(&hello(), &tag("1"), &one, manifest(b"1"), now())),
            ["+hello:1"]
        );
        assert!(
            all.put(&hello(), &tag("1"), &one, manifest(b"1"), now()).is_empty(),
            "nothing changed"
        );
        assert_eq!(
            told(&all.put(&hello(), &tag("1"), &two, manifest(b"2"), now())),
            ["*hello:1", "+hello@"]
        );
        assert_eq!(
            all.find(&hello(), &tag("1")).map(|(digest, _)| digest),
            Some(two.clone())
        );
        assert!(all.find(&hello(), &Target::Digest(one.clone())).is_some());
        // Tagged again, it has no need of the other name.
        assert_eq!(
            told(&all.put(&hello(), &tag("old"), &one, manifest(b"1"), now())),
            ["+hello:old", "-hello@"]
        );
        assert_eq!(all.tags(&hello()), Some(vec!["1".to_owned(), "old".to_owned()]));
    }

    #[test]
    fn the_last_name_takes_the_image_along() {
        let mut all = Catalogue::default();
        let one = Digest::of(b"1");
        all.put(&hello(), &tag("a"), &one, manifest(b"1"), now());
        all.put(&hello(), &tag("b"), &one, manifest(b"1"), now());
        assert_eq!(
            all.remove(&hello(), &tag("a"), now()).map(|c| told(&c)),
            Some(vec!["-hello:a".to_owned()])
        );
        assert!(all.needs().contains(&Digest::of(b"1")));
        assert!(all.remove(&hello(), &tag("a"), now()).is_none());
        all.remove(&hello(), &tag("b"), now());
        assert!(all.needs().is_empty() && all.count() == 0 && all.tags(&hello()).is_none());
        all.put(&hello(), &tag("a"), &one, manifest(b"1"), now());
        all.put(&hello(), &tag("b"), &one, manifest(b"1"), now());
        let gone = all.remove(&hello(), &Target::Digest(one), now()).map(|c| told(&c));
        assert_eq!(
            gone,
            Some(vec!["-hello:a".to_owned(), "-hello:b".to_owned()]),
            "by the digest, all names go"
        );
        assert_eq!(all.count(), 0);
    }

    #[test]
    fn content_is_shown_to_its_own_repository_alone() {
        let mut all = Catalogue::default();
        all.put(&hello(), &tag("1"), &Digest::of(b"m"), manifest(b"1"), now());
        let other = Repository::new("team", "hell").expect("a name");
        assert_eq!(all.holds(&hello(), &Digest::of(b"1")), Some(1));
        assert_eq!(all.holds(&other, &Digest::of(b"1")), None);
        assert_eq!(all.list(Some("team")).len(), 1);
        assert_eq!(all.list(Some("tea")).len(), 0);
        assert_eq!(all.list(None).len(), 1);
    }

    #[test]
    fn what_happens_elsewhere_is_told_as_if_it_were_here() {
        let (mut here, mut there) = (Catalogue::default(), Catalogue::default().settled(7));
        let [one, two] = [b"1", b"2"].map(|content| Digest::of(content));
        let mut follow = |there: &Catalogue, since: u64, at: u64| {
            let written = there.unsettled(since).settled(at);
            let changes = here.replace(&hello(), Some(&written), at);
            let at_once = |change: &Change| change.revision == at && change.named.entry.revision == at;
            assert!(changes.iter().all(at_once));
            assert_eq!(here.revision, at);
            (told(&changes), written)
        };
        there.put(&hello(), &tag("1"), &one, manifest(b"1"), now());
        let (first, mut there) = follow(&there, 7, 8);
        assert_eq!(first, ["+hello:1"]);
        there.put(&hello(), &tag("1"), &two, manifest(b"2"), now());
        there.put(&hello(), &tag("2"), &two, manifest(b"2"), now());
        let (second, mut there) = follow(&there, 8, 11);
        assert_eq!(second, ["*hello:1", "+hello:2", "+hello@"]);
        // A tag that went and came back is another object.
        there.remove(&hello(), &tag("2"), now());
        there.put(&hello(), &tag("2"), &one, manifest(b"1"), now());
        let (third, _) = follow(&there, 11, 20);
        assert_eq!(third, ["-hello:2", "-hello@", "+hello:2"]);
        assert_eq!(told(&here.replace(&hello(), None, 30)), ["-hello:1", "-hello:2"]);
        assert!(here.count() == 0 && here.held() == 0 && here.revision == 30);
    }

    #[test]
    fn every_change_has_a_revision_of_its_own_and_all_is_read_again() {
        let mut all = Catalogue::default();
        let mut seen = vec![all.revision];
        for (name, content) in [("1", b"1"), ("1", b"2"), ("2", b"1")] {
            let changes = all.put(&hello(), &tag(name), &Digest::of(content), manifest(content), now());
            seen.extend(changes.iter().map(|change| change.revision));
        }
        assert!(seen.windows(2).all(|pair| matches!(pair, [a, b] if a < b)), "{seen:?}");
        let text = serde_json::to_string(&all).expect("text");
        let again: Catalogue = serde_json::from_str(&text).expect("the same");
        assert_eq!(again.list(None), all.list(None));
        let newer: Catalogue = serde_json::from_str(&text.replace("\"format\":1", "\"format\":2")).expect("read");
        assert!(newer.check().is_err());
    }
}
