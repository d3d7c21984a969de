use std::collections::BTreeMap;

use crate::{
    check::check,
    record::{Answer, Event, History, Op, Revision, Seen, Value, What},
};

fn op(what: What, began: u64, ended: u64, answer: Answer) -> Op {
    Op {
        key: "a".into(),
        what,
        began,
        ended,
        answer,
    }
}

fn event(value: Value, revision: Revision) -> Seen {
    Seen::Event(Event {
        added: value == 1,
        key: "a".into(),
        value,
        revision,
    })
}

fn state(value: Value, revision: Revision) -> BTreeMap<String, (Value, Revision)> {
    BTreeMap::from([("a".to_owned(), (value, revision))])
}

/// One object, written three times (the answer to the second write was lost), read twice, and watched by one who was cut
/// off and by one who listed again.
fn good() -> History {
    History {
        ops: vec![
            op(What::Read, 1, 2, Answer::Missing),
            op(What::Create(1), 10, 20, Answer::Written(5)),
            op(What::Update(2, 5), 30, 40, Answer::Lost),
            op(What::Update(9, 4), 30, 41, Answer::Refused),
            op(What::Read, 35, 45, Answer::Found(2, 7)),
            op(What::Update(3, 7), 50, 60, Answer::Written(8)),
            op(What::Read, 55, 65, Answer::Found(2, 7)),
        ],
        watchers: vec![
            vec![
                Seen::Listed(3, BTreeMap::new()),
                Seen::Resumed(3),
                event(1, 5),
                Seen::Bookmark(6),
                Seen::Resumed(6),
                event(2, 7),
                event(3, 8),
                Seen::Bookmark(8),
            ],
            vec![
                Seen::Listed(5, state(1, 5)),
                Seen::Resumed(5),
                Seen::Listed(7, state(2, 7)),
                Seen::Resumed(7),
                event(3, 8),
            ],
        ],
        last: state(3, 8),
    }
}

#[test]
fn a_true_history_passes() {
    assert_eq!(check(&good()), Vec::<String>::new());
}

#[test]
fn a_lost_write_that_never_happened_passes() {
    let mut history = good();
    history.ops.push(op(What::Update(4, 8), 70, 80, Answer::Lost));
    assert_eq!(check(&history), Vec::<String>::new());
}

/// Makes one thing of the good history untrue and gives a word that the complaint must hold.
type Lie = (&'static str, &'static str, fn(&mut History));

const LIES: &[Lie] = &[
    ("an acknowledged write is gone", "is Some((2, 7)) now", |h| {
        h.last = state(2, 7)
    }),
    ("an acknowledged object is gone", "is None now", |h| h.last.clear()),
    ("a write shows that nobody made", "nobody wrote 77", |h| {
        h.last = state(77, 12)
    }),
    ("a refused write took place", "was refused", |h| h.last = state(9, 9)),
    ("a write took place twice", "was written twice", |h| {
        h.last = state(3, 9)
    }),
    ("two accounts of a revision", "revision 8 is", |h| {
        h.watchers[1][4] = event(2, 8)
    }),
    ("an event is lost", "not told that a became 2", |h| {
        h.watchers[0].remove(5);
    }),
    ("an event is lost before a bookmark", "not told that a became 3", |h| {
        h.watchers[0].remove(6);
    }),
    ("an event is told twice", "told again or late", |h| {
        h.watchers[0].insert(6, event(2, 7))
    }),
    ("events change places", "told again or late", |h| {
        h.watchers[0].swap(5, 6)
    }),
    ("an event is lost while nobody watches", "went on from 7", |h| {
        h.watchers[0][4] = Seen::Resumed(7)
    }),
    ("a list is of no moment", "the list at 7 lacks", |h| {
        h.watchers[1][2] = Seen::Listed(7, state(1, 5));
    }),
    ("an update shows as an addition", "is not how a began", |h| {
        h.watchers[1][4] = Seen::Event(Event {
            added: true,
            key: "a".into(),
            value: 3,
            revision: 8,
        });
    }),
    ("a bookmark leads back", "leads back", |h| {
        h.watchers[0][7] = Seen::Bookmark(2)
    }),
    ("a read is older than an answer", "was known before it was sent", |h| {
        h.ops.push(op(What::Read, 70, 80, Answer::Found(2, 7)));
    }),
    ("a read forgets an object", "was known before it was sent", |h| {
        h.ops.push(op(What::Read, 70, 80, Answer::Missing));
    }),
    ("a read knows the future", "had not been sent", |h| {
        h.ops.push(op(What::Read, 3, 4, Answer::Found(3, 8)));
    }),
    ("an update replaces what it did not name", "was to replace", |h| {
        h.ops[5].what = What::Update(3, 5)
    }),
    ("a create replaces an object", "was to replace", |h| {
        h.ops[5].what = What::Create(3)
    }),
    ("a write goes back in time", "was known before it was sent", |h| {
        h.ops.push(op(What::Create(6), 70, 80, Answer::Written(2)));
    }),
];

#[test]
fn every_lie_is_found_out() {
    for (what, word, lie) in LIES {
        let mut history = good();
        lie(&mut history);
        let wrong = check(&history);
        assert!(
            wrong.iter().any(|complaint| complaint.contains(word)),
            "{what}: {wrong:#?}"
        );
    }
}
