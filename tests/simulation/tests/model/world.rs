//! What the model believes the server to hold, and everything that has happened to it.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{
    kinds::{Field, Key, Kind},
    object::Object,
    operation::{Chosen, Labelled, Place, Query, Target},
};

/// Which object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id {
    pub kind: Kind,
    /// Empty for what lies in none.
    pub namespace: String,
    pub name: String,
}

#[derive(Clone)]
pub struct Change {
    pub id: Id,
    pub before: Option<Object>,
    pub after: Option<Object>,
    /// Changes of one number happened at once, in whatever order.
    pub together: Option<usize>,
}

/// A list that had more.
#[derive(Clone)]
pub struct Page {
    pub query: Query,
    pub limit: u8,
    pub token: String,
    pub after: Id,
    /// What had happened when its first page was read.
    pub index: usize,
    pub revision: u64,
}

#[derive(Clone)]
pub struct World {
    /// What this run's names and labels begin with: others ran on the same server before.
    pub run: String,
    pub now: BTreeMap<Id, Object>,
    pub log: Vec<Change>,
    /// Revisions that were told, with how much had happened then.
    pub marks: Vec<(u64, usize)>,
    /// What was read of each object, oldest first.
    pub seen: BTreeMap<Id, Vec<(Object, Value)>>,
    pub pages: Vec<Page>,
    /// What is marked and not yet gone, where something else may happen between the two.
    pub ending: Option<Vec<Id>>,
}

impl World {
    pub fn new(run: String) -> Self {
        Self {
            run,
            now: BTreeMap::new(),
            log: Vec::new(),
            marks: Vec::new(),
            seen: BTreeMap::new(),
            pages: Vec::new(),
            ending: None,
        }
    }

    pub fn namespace(&self, place: Place) -> String {
        let name = match place {
            Place::Left => "left",
            Place::Right => "right",
            Place::Passing => "n0",
            Place::Nowhere => "nowhere",
        };
        format!("{}-{name}", self.run)
    }

    pub fn id(&self, at: Target) -> Id {
        match at.kind.is_namespaced() {
            true => Id {
                kind: at.kind,
                namespace: self.namespace(at.place),
                name: format!("o{}", at.number),
            },
            false => Id {
                kind: at.kind,
                namespace: String::new(),
                name: format!("{}-n{}", self.run, at.number),
            },
        }
    }

    /// Whether something can be changed where an object lies, and whether something new can be made there.
    pub fn surroundings(&self, id: &Id) -> (bool, bool) {
        if id.namespace.is_empty() || id.namespace.ends_with("-left") || id.namespace.ends_with("-right") {
            return (true, true);
        }
        let namespace = Id {
            kind: Kind::Namespace,
            namespace: String::new(),
            name: id.namespace.clone(),
        };
        match self.now.get(&namespace) {
            Some(namespace) => (true, namespace.deleting.is_none()),
            None => (false, false),
        }
    }

    /// Records what became of an object.
    pub fn put(&mut self, id: Id, after: Option<Object>) {
        let before = match after.clone() {
            Some(object) => self.now.insert(id.clone(), object),
            None => self.now.remove(&id),
        };
        self.log.push(Change {
            id,
            before,
            after,
            together: None,
        });
    }

    /// Records the last moment of an object.
    pub fn end(&mut self, id: Id, marked: Object) {
        self.put(id.clone(), Some(marked));
        match &mut self.ending {
            Some(ending) => ending.push(id),
            None => self.put(id, None),
        }
    }

    /// What was kept for a moment goes, unless somebody else has seen to that.
    pub fn go(&mut self) {
        for id in self.ending.take().into_iter().flatten() {
            if self.now.contains_key(&id) {
                self.put(id, None);
            }
        }
    }

    /// Records a revision that the server told of what is now.
    pub fn mark(&mut self, revision: u64) {
        self.marks.push((revision, self.log.len()));
    }

    /// The newest revision that was told, and how much had happened then.
    pub fn latest(&self) -> (u64, usize) {
        self.marks.iter().max().copied().unwrap_or_default()
    }

    /// The `back`-th last revision that was told.
    pub fn earlier(&self, back: u8) -> (u64, usize) {
        let index = self.marks.len().saturating_sub(1 + usize::from(back));
        self.marks.get(index).copied().unwrap_or_default()
    }

    /// The `back`-th last thing that was read of an object, or the first.
    pub fn read(&self, id: &Id, back: u8) -> Option<&(Object, Value)> {
        let seen = self.seen.get(id)?;
        seen.get(seen.len().saturating_sub(1 + usize::from(back)))
    }

    /// The objects after as much has happened, in the order of lists.
    pub fn at(&self, index: usize, query: &Query) -> Vec<(Id, Object)> {
        let mut then: BTreeMap<&Id, &Object> = BTreeMap::new();
        for change in self.log.iter().take(index) {
            match &change.after {
                Some(object) => then.insert(&change.id, object),
                None => then.remove(&change.id),
            };
        }
        let selected = then.into_iter().filter(|(id, object)| self.selects(query, id, object));
        selected.map(|(id, object)| (id.clone(), object.clone())).collect()
    }

    /// Whether a query is about an object.
    pub fn selects(&self, query: &Query, id: &Id, object: &Object) -> bool {
        let place = query.place.filter(|_| query.kind.is_namespaced());
        let placed = place.is_none_or(|place| self.namespace(place) == id.namespace);
        let label = object.fields.get(&Field::Label(Key::A)).copied();
        let labelled = match query.labelled {
            Labelled::Any => true,
            Labelled::Is(value) => label == Some(value),
            Labelled::IsNot(value) => label != Some(value),
            Labelled::Has => label.is_some(),
            Labelled::HasNot => label.is_none(),
            Labelled::In(one, other) => label == Some(one) || label == Some(other),
        };
        let name = |number| {
            self.id(Target {
                kind: query.kind,
                place: Place::Left,
                number,
            })
            .name
        };
        let chosen = match query.chosen {
            Chosen::Any => true,
            Chosen::Name(number) => id.name == name(number),
            Chosen::NotName(number) => id.name != name(number),
            Chosen::Unbound => !object.held,
            Chosen::Own(value) => object.fields.get(&Field::Spec(Key::B)) == Some(&value),
        };
        id.kind == query.kind && placed && labelled && chosen
    }
}
