//! What clients do, as values that can be printed, shrunk and done again. What they refer to - an object, an earlier
//! revision, a page - is resolved when they are done.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use crate::{
    kinds::{Field, Finalizer, KINDS, Key, Kind},
    object::Fields,
};

/// One of the clients; each is a field manager of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    One,
    Two,
    /// May do nothing.
    Stranger,
}

/// Where an object lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// One of two namespaces that are there.
    Left,
    Right,
    /// The first of the namespaces that are themselves created and deleted.
    Passing,
    Nowhere,
}

/// An object's kind, place and number.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    pub kind: Kind,
    pub place: Place,
    pub number: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Whole,
    Status,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming {
    Given,
    Generated,
    Missing,
    Wrong,
}

/// What is odd about a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Oddity {
    None,
    UnknownField,
    OtherNamespace,
    WrongLabel,
    Revision,
}

/// What an update or patch does to fields.
#[derive(Clone, Debug, Default)]
pub struct Edit {
    pub set: Fields,
    pub remove: BTreeSet<Field>,
    /// The finalizers of clients, as a whole.
    pub finalizers: Option<BTreeSet<Finalizer>>,
}

/// Which resourceVersion a write carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// That of what was read: the newest for 0, an earlier one for more.
    Read(u8),
    None,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchForm {
    Json,
    Merge,
    Strategic,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Uid {
    Right,
    Wrong,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    Orphan,
    Background,
    Foreground,
}

#[derive(Clone, Debug, Default)]
pub struct DeleteOptions {
    pub propagation: Option<Propagation>,
    pub grace: Option<i64>,
    pub uid: Option<Uid>,
    pub version: Option<u8>,
    pub dry: bool,
}

/// Selects by labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Labelled {
    Any,
    Is(i64),
    IsNot(i64),
    Has,
    HasNot,
    In(i64, i64),
}

/// Selects by fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chosen {
    Any,
    Name(u8),
    NotName(u8),
    /// Pods without a node.
    Unbound,
    /// Widgets by what their definition makes selectable.
    Own(i64),
}

/// From when a read is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Age {
    Fresh,
    Any,
    NotOlder(u8),
    Exact(u8),
    Future,
    /// Combinations that make no sense.
    MatchWithoutVersion,
    ExactZero,
}

#[derive(Clone, Copy, Debug)]
pub struct Query {
    pub kind: Kind,
    /// Everywhere when `None`, for namespaced kinds.
    pub place: Option<Place>,
    pub labelled: Labelled,
    pub chosen: Chosen,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// Exactly the events since a revision that was seen.
    Seen(u8),
    /// What there is, then whatever comes.
    Now,
    /// The same, with a bookmark in between.
    Initial,
}

/// A change of one object, or the reading of its scale.
#[derive(Clone, Debug)]
pub enum Write {
    Create {
        at: Target,
        naming: Naming,
        fields: Fields,
        bound: bool,
        odd: Oddity,
        dry: bool,
    },
    /// Sends back what was read with an edit, or else a body that was never read.
    Update {
        at: Target,
        part: Part,
        read: Option<u8>,
        edit: Edit,
        version: Version,
        dry: bool,
    },
    Patch {
        at: Target,
        part: Part,
        form: PatchForm,
        edit: Edit,
        test: Option<i64>,
        version: Version,
        dry: bool,
    },
    Apply {
        at: Target,
        part: Part,
        fields: Fields,
        force: bool,
        dry: bool,
    },
    ReadScale {
        at: Target,
    },
    Scale {
        at: Target,
        replicas: i64,
        patch: bool,
        version: Version,
        dry: bool,
    },
    Delete {
        at: Target,
        options: DeleteOptions,
    },
    /// Lets a namespace go.
    Finalize {
        number: u8,
    },
}

#[derive(Clone, Debug)]
pub enum Operation {
    Write(Write),
    /// Two clients at once, mostly at the same object.
    Race {
        writes: (Write, Write),
    },
    Get {
        at: Target,
        age: Age,
    },
    List {
        query: Query,
        limit: Option<u8>,
        age: Age,
    },
    /// The next page of a list that had more.
    Continue {
        list: u8,
    },
    DeleteCollection {
        query: Query,
        options: DeleteOptions,
    },
    Watch {
        query: Query,
        since: Since,
    },
    /// Watches from now to the end of the run.
    Follow {
        query: Query,
    },
}

impl Write {
    fn target(&mut self) -> Option<&mut Target> {
        match self {
            Write::Create { at, .. }
            | Write::Update { at, .. }
            | Write::Patch { at, .. }
            | Write::Apply { at, .. }
            | Write::ReadScale { at }
            | Write::Scale { at, .. }
            | Write::Delete { at, .. } => Some(at),
            Write::Finalize { .. } => None,
        }
    }
}

#[derive(Clone, Debug)]
pub struct Step {
    pub client: Client,
    pub operation: Operation,
}

fn kind() -> impl Strategy<Value = Kind> {
    proptest::sample::select(&KINDS[..])
}

fn place() -> impl Strategy<Value = Place> {
    prop_oneof![12 => Just(Place::Left), 3 => Just(Place::Right), 3 => Just(Place::Passing), 1 => Just(Place::Nowhere)]
}

fn target() -> impl Strategy<Value = Target> {
    (kind(), place(), 0..2_u8).prop_map(|(kind, place, number)| Target { kind, place, number }.sound())
}

impl Target {
    /// Pods need a service account, which nobody makes in passing namespaces.
    fn sound(mut self) -> Self {
        if self.kind == Kind::Pod && self.place == Place::Passing {
            self.place = Place::Left;
        }
        self
    }
}

fn key() -> impl Strategy<Value = Key> {
    prop_oneof![Just(Key::A), Just(Key::B)]
}

fn field() -> impl Strategy<Value = Field> {
    prop_oneof![
        key().prop_map(Field::Label),
        key().prop_map(Field::Spec),
        key().prop_map(Field::Status),
    ]
}

fn finalizer() -> impl Strategy<Value = Finalizer> {
    prop_oneof![Just(Finalizer::A), Just(Finalizer::B)]
}

fn fields() -> impl Strategy<Value = Fields> {
    let set = proptest::collection::btree_map(field(), 1..4_i64, 0..4);
    let finalizers = proptest::collection::btree_map(finalizer(), Just(0), 0..2);
    let finalizers = prop_oneof![3 => Just(BTreeMap::new()), 1 => finalizers];
    (set, finalizers).prop_map(|(mut set, finalizers)| {
        set.extend(
            finalizers
                .into_iter()
                .map(|(finalizer, value)| (Field::Finalizer(finalizer), value)),
        );
        set
    })
}

fn edit() -> impl Strategy<Value = Edit> {
    let set = proptest::collection::btree_map(field(), 1..4_i64, 0..3);
    let remove = proptest::collection::btree_set(field(), 0..2);
    let finalizers = proptest::collection::btree_set(finalizer(), 0..2);
    let finalizers = prop_oneof![3 => Just(None), 2 => finalizers.prop_map(Some)];
    (set, remove, finalizers).prop_map(|(set, mut remove, finalizers)| {
        remove.retain(|field| !set.contains_key(field));
        Edit {
            set,
            remove,
            finalizers,
        }
    })
}

fn version() -> impl Strategy<Value = Version> {
    prop_oneof![3 => Just(Version::Read(0)), 2 => (1..3_u8).prop_map(Version::Read), 3 => Just(Version::None)]
}

fn rarely() -> impl Strategy<Value = bool> {
    prop_oneof![7 => Just(false), 1 => Just(true)]
}

fn part() -> impl Strategy<Value = Part> {
    prop_oneof![3 => Just(Part::Whole), 1 => Just(Part::Status)]
}

fn age() -> impl Strategy<Value = Age> {
    prop_oneof![
        6 => Just(Age::Fresh),
        2 => Just(Age::Any),
        2 => (0..20_u8).prop_map(Age::NotOlder),
        4 => (0..20_u8).prop_map(Age::Exact),
        1 => Just(Age::Future),
        1 => Just(Age::MatchWithoutVersion),
        1 => Just(Age::ExactZero),
    ]
}

fn query() -> impl Strategy<Value = Query> {
    let labelled = prop_oneof![
        3 => Just(Labelled::Any),
        1 => (1..4_i64).prop_map(Labelled::Is),
        1 => (1..4_i64).prop_map(Labelled::IsNot),
        1 => Just(Labelled::Has),
        1 => Just(Labelled::HasNot),
        1 => (1..4_i64, 1..4_i64).prop_map(|(a, b)| Labelled::In(a, b)),
    ];
    let chosen = prop_oneof![
        4 => Just(Chosen::Any),
        1 => (0..2_u8).prop_map(Chosen::Name),
        1 => (0..2_u8).prop_map(Chosen::NotName),
        1 => Just(Chosen::Unbound),
        1 => (1..4_i64).prop_map(Chosen::Own),
    ];
    let place = prop_oneof![4 => place().prop_map(Some), 1 => Just(None)];
    (kind(), place, labelled, chosen).prop_map(|(kind, place, labelled, chosen)| {
        let chosen = match chosen {
            Chosen::Unbound if kind != Kind::Pod => Chosen::Any,
            Chosen::Own(_) if kind != Kind::Widget => Chosen::Any,
            other => other,
        };
        Query {
            kind,
            place,
            labelled,
            chosen,
        }
    })
}

fn options() -> impl Strategy<Value = DeleteOptions> {
    let propagation = prop_oneof![
        3 => Just(None),
        1 => Just(Some(Propagation::Orphan)),
        1 => Just(Some(Propagation::Background)),
        1 => Just(Some(Propagation::Foreground)),
    ];
    let grace =
        prop_oneof![3 => Just(None), 2 => Just(Some(0)), 1 => Just(Some(5)), 1 => Just(Some(60)), 1 => Just(Some(-1))];
    let uid = prop_oneof![5 => Just(None), 1 => Just(Some(Uid::Right)), 1 => Just(Some(Uid::Wrong))];
    let version = prop_oneof![5 => Just(None), 2 => (0..2_u8).prop_map(Some)];
    (propagation, grace, uid, version, rarely()).prop_map(|(propagation, grace, uid, version, dry)| DeleteOptions {
        propagation,
        grace,
        uid,
        version,
        dry,
    })
}

fn create() -> impl Strategy<Value = Write> {
    let naming = prop_oneof![
        16 => Just(Naming::Given),
        2 => Just(Naming::Generated),
        1 => Just(Naming::Missing),
        1 => Just(Naming::Wrong),
    ];
    let odd = prop_oneof![
        20 => Just(Oddity::None),
        1 => Just(Oddity::UnknownField),
        1 => Just(Oddity::OtherNamespace),
        1 => Just(Oddity::WrongLabel),
        1 => Just(Oddity::Revision),
    ];
    (target(), naming, fields(), any::<bool>(), odd, rarely()).prop_map(|(at, naming, fields, bound, odd, dry)| {
        let bound = bound && at.kind == Kind::Pod;
        Write::Create {
            at,
            naming,
            fields,
            bound,
            odd,
            dry,
        }
    })
}

fn update() -> impl Strategy<Value = Write> {
    let read = prop_oneof![5 => Just(Some(0)), 2 => (1..3_u8).prop_map(Some), 2 => Just(None)];
    (target(), part(), read, edit(), version(), rarely()).prop_map(|(at, part, read, edit, version, dry)| {
        Write::Update {
            at,
            part,
            read,
            edit,
            version,
            dry,
        }
    })
}

fn patch() -> impl Strategy<Value = Write> {
    let form = prop_oneof![
        Just(PatchForm::Json),
        Just(PatchForm::Merge),
        Just(PatchForm::Strategic)
    ];
    let test = prop_oneof![3 => Just(None), 1 => (1..4_i64).prop_map(Some)];
    (target(), part(), form, edit(), test, version(), rarely()).prop_map(
        |(at, part, form, edit, test, version, dry)| Write::Patch {
            at,
            part,
            form,
            edit,
            test,
            version,
            dry,
        },
    )
}

fn write() -> impl Strategy<Value = Write> {
    let apply =
        (target(), part(), fields(), any::<bool>(), rarely()).prop_map(|(at, part, fields, force, dry)| Write::Apply {
            at,
            part,
            fields,
            force,
            dry,
        });
    let scale =
        (target(), 0..4_i64, any::<bool>(), version(), rarely()).prop_map(|(at, replicas, patch, version, dry)| {
            Write::Scale {
                at,
                replicas,
                patch,
                version,
                dry,
            }
        });
    prop_oneof![
        8 => create(),
        5 => update(),
        5 => patch(),
        6 => apply,
        1 => target().prop_map(|at| Write::ReadScale { at }),
        2 => scale,
        4 => (target(), options()).prop_map(|(at, options)| Write::Delete { at, options }),
        1 => (0..2_u8).prop_map(|number| Write::Finalize { number }),
    ]
}

fn race() -> impl Strategy<Value = Operation> {
    (write(), write()).prop_map(|(mut one, mut two)| {
        if let (Some(at), Some(other)) = (one.target(), two.target()) {
            *other = *at;
        }
        if let Write::Create { at, bound, .. } = &mut two {
            *bound &= at.kind == Kind::Pod;
        }
        Operation::Race { writes: (one, two) }
    })
}

fn operation() -> impl Strategy<Value = Operation> {
    let limit = prop_oneof![Just(None), (1..4_u8).prop_map(Some)];
    let list = (query(), limit, age()).prop_map(|(query, limit, age)| Operation::List { query, limit, age });
    let since = prop_oneof![
        4 => (0..20_u8).prop_map(Since::Seen),
        1 => Just(Since::Now),
        1 => Just(Since::Initial),
    ];
    prop_oneof![
        28 => write().prop_map(Operation::Write),
        6 => race(),
        2 => (target(), age()).prop_map(|(at, age)| Operation::Get { at, age }),
        3 => list,
        2 => (0..3_u8).prop_map(|list| Operation::Continue { list }),
        1 => (query(), options()).prop_map(|(query, options)| Operation::DeleteCollection { query, options }),
        2 => (query(), since).prop_map(|(query, since)| Operation::Watch { query, since }),
        1 => query().prop_map(|query| Operation::Follow { query }),
    ]
}

pub fn steps() -> impl Strategy<Value = Vec<Step>> {
    let client = prop_oneof![20 => Just(Client::One), 20 => Just(Client::Two), 1 => Just(Client::Stranger)];
    let step = (client, operation()).prop_map(|(client, operation)| Step { client, operation });
    proptest::collection::vec(step, 1..60)
}
